package faultproxy

import (
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"
)

// A Command is one request of a client.
type Command struct {
	Name string   // in upper case: "EVALSHA"
	Args []string // what follows the name
	Conn int      // its connection, counted from 1
	N    int      // the how manyth command of this name at this proxy, from 1
}

// A Decision is what becomes of a command.
type Decision struct {
	deed  deed
	delay time.Duration
	gate  <-chan struct{}
}

type deed int

const (
	pass deed = iota
	dropReply
	resetAfter
	dropRequest
	resetBefore
	delayReply
	gateReply
	gateRequest
)

// The decisions without a parameter.
var (
	// Pass forwards the command and its reply.
	Pass = Decision{deed: pass}
	// DropReply has the command executed and swallows its reply, and every later
	// one on this connection, which stays established.
	DropReply = Decision{deed: dropReply}
	// ResetAfter has the command executed, swallows its reply and resets the
	// client's connection.
	ResetAfter = Decision{deed: resetAfter}
	// DropRequest never forwards the command, nor any later one on this
	// connection, which stays established.
	DropRequest = Decision{deed: dropRequest}
	// ResetBefore never forwards the command and resets the client's connection.
	ResetBefore = Decision{deed: resetBefore}
)

// DelayReply holds the reply, and those after it, for d.
func DelayReply(d time.Duration) Decision { return Decision{deed: delayReply, delay: d} }

// Gate has the command executed and holds its reply, and those after it, until
// the channel is closed.
func Gate(open <-chan struct{}) Decision { return Decision{deed: gateReply, gate: open} }

// GateRequest holds the command, and those after it on this connection, until
// the channel is closed; then it is forwarded even if the client has gone.
func GateRequest(open <-chan struct{}) Decision { return Decision{deed: gateRequest, gate: open} }

// String is the decision's name in a log.
func (d Decision) String() string {
	return [...]string{"pass", "drop reply", "reset after", "drop request", "reset before",
		"delay reply", "gate reply", "gate request"}[d.deed]
}

// An Event is a decision other than Pass that has taken effect. For a fault of
// the reply that is the moment in which the reply has come, so that the command
// has been executed; a held reply or request is held from then on.
type Event struct {
	Command
	Decision Decision
	At       time.Time
}

// A Chance is a decision and how probable it is, 0 to 1.
type Chance struct {
	P        float64
	Decision Decision
}

// rules hold what decides; the proxy's mutex guards them.
type rules struct {
	nth    []nthRule
	decide func(Command) Decision
	random map[string][]Chance // by name, or "*"
	seed   uint64
}

type nthRule struct {
	n        int
	name     string
	decision Decision
}

// of decides about a command: an OnNth rule first, then Decide, then Random.
func (r *rules) of(c Command) Decision {
	for _, rule := range r.nth {
		if rule.name == c.Name && rule.n == c.N {
			return rule.decision
		}
	}
	if r.decide != nil {
		if d := r.decide(c); d != Pass {
			return d
		}
	}
	chances := r.random[c.Name]
	if chances == nil {
		chances = r.random["*"]
	}
	if chances == nil {
		return Pass
	}
	return draw(r.seed, c, chances)
}

// draw lets the seed, the name and the number decide, and nothing else.
func draw(seed uint64, c Command, chances []Chance) Decision {
	name := fnv.New64a()
	_, _ = name.Write([]byte(c.Name))
	x := rand.New(rand.NewPCG(seed, name.Sum64()+uint64(c.N))).Float64()
	for _, chance := range chances {
		if x -= chance.P; x < 0 {
			return chance.Decision
		}
	}
	return Pass
}

// OnNth decides about the n-th command of this name at this proxy, from 1.
func (p *Proxy) OnNth(n int, name string, d Decision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules.nth = append(p.rules.nth, nthRule{n, strings.ToUpper(name), d})
}

// OnNext decides about the next command of this name.
func (p *Proxy) OnNext(name string, d Decision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name = strings.ToUpper(name)
	p.rules.nth = append(p.rules.nth, nthRule{p.seen[name] + 1, name, d})
}

// Decide has a function decide about every command for which no OnNth rule
// does; nil ends that. It is called under the proxy's lock, one command at a
// time, and must not call the proxy.
func (p *Proxy) Decide(decide func(Command) Decision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules.decide = decide
}

// Random lets the seed decide about commands of this name, or of every name
// without chances of its own for "*", where no other rule does. No chances
// means Pass. The handshake's HELLO and CLIENT are commands like any other.
func (p *Proxy) Random(name string, chances ...Chance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rules.random == nil {
		p.rules.random = map[string][]Chance{}
	}
	p.rules.random[strings.ToUpper(name)] = append([]Chance{}, chances...)
}
