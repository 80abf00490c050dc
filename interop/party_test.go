package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"

	"github.com/holdfast-go/holdfast"
)

// A party is one client on one side.
type party interface {
	side() string // "Go" or "Java"
	id() string   // first part of its owners
	actor() actor // a new owner
	close()
}

// An actor is one owner: a Java thread, or a Go caller that passes its hold's
// context on. It does one thing at a time.
type actor interface {
	do(call) answer
	interrupt()    // what it is waiting in
	owner() string // its field in Redis, once it has tried for a lock
}

// A spec is a lock: its kind and its name, or those of its members.
type spec struct {
	kind  string // lock, fair, multi, red
	names []string
}

// A call is one method of a lock. lock, lockInterruptibly and tryLock acquire; wait
// 0 is one attempt, lease 0 the watchdog.
type call struct {
	op          string
	lock        spec
	wait, lease time.Duration
}

// An answer is what came of a call, and when it began and ended by the monotonic clock.
type answer struct {
	ok         bool  // of tryLock, forceUnlock, isLocked, isHeld
	number     int64 // of holdCount, and of ttl in milliseconds: -2 when free
	err        error
	start, end int64
}

// errRefused is what an actor says who unlocks what it does not hold.
var errRefused = errors.New("not the holder")

// callLimit is how long any call may take: a case that hangs says where.
const callLimit = 60 * time.Second

// settings are those that a case may change, alike on both sides.
type settings struct {
	watchdog    time.Duration
	prefix      string
	fairWait    time.Duration // Java: how long a dead fair waiter keeps its place
	waiterLease time.Duration // Go: the same
}

func now() int64 {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		panic(err)
	}
	return at.Nano()
}

// The Java side, and every peer in a process of its own.

type remoteParty struct {
	agent    *agent
	name     string
	clientID string
	language string
	members  []string // clients of a group's members; empty: itself
}

var clientNumber, workerNumber atomic.Int64

// openRemote makes a client in the agent's process.
func openRemote(a *agent, language string, s *site, with settings) (*remoteParty, error) {
	p := &remoteParty{agent: a, language: language, name: fmt.Sprintf("client-%d", clientNumber.Add(1))}
	got, err := a.call(request{
		Op: "open", Client: p.name, Cluster: s.cluster != nil, Addresses: s.addresses(), Prefix: with.prefix,
		Watchdog: with.watchdog.Milliseconds(),
		FairWait: with.fairWait.Milliseconds(),
	})
	if err != nil {
		return nil, err
	}
	p.clientID, err = strconv.Unquote(string(got.Value))
	return p, err
}

func (p *remoteParty) side() string { return p.language }
func (p *remoteParty) id() string   { return p.clientID }
func (p *remoteParty) close()       { _, _ = p.agent.call(request{Op: "close", Client: p.name}) }

func (p *remoteParty) actor() actor {
	return &remoteActor{party: p, worker: fmt.Sprintf("worker-%d", workerNumber.Add(1))}
}

type remoteActor struct {
	party  *remoteParty
	worker string
	thread atomic.Int64
}

func (r *remoteActor) owner() string {
	return r.party.clientID + ":" + strconv.FormatInt(r.thread.Load(), 10)
}

func (r *remoteActor) interrupt() {
	_, _ = r.party.agent.call(request{Op: "interrupt", Worker: r.worker})
}

func (r *remoteActor) do(c call) answer {
	q := request{
		Op: c.op, Client: r.party.name, Worker: r.worker, Kind: c.lock.kind, Names: c.lock.names, Clients: r.party.members,
		WaitMillis: c.wait.Milliseconds(), LeaseMillis: c.lease.Milliseconds(),
	}
	if c.op == "lockInterruptibly" {
		q.Op, q.Interruptible = "lock", true
	}
	select {
	case got := <-r.party.agent.send(q):
		r.thread.Store(got.Thread)
		return got.answer()
	case <-r.party.agent.ended:
		return answer{err: errAgentEnded}
	case <-time.After(callLimit):
		return answer{err: fmt.Errorf("%s %v: no reply within %v", c.op, c.lock, callLimit)}
	}
}

func (r reply) answer() answer {
	a := answer{start: r.Start, end: r.End}
	switch {
	case r.Error == "java.lang.IllegalMonitorStateException":
		a.err = fmt.Errorf("%w: %s", errRefused, r.Message)
	case r.Error != "":
		a.err = &javaError{r.Error, r.Message}
	case string(r.Value) == "true":
		a.ok = true
	case string(r.Value) != "false":
		a.err = json.Unmarshal(r.Value, &a.number)
	}
	return a
}

// The Go side.

type goParty struct {
	rdb         redis.UniversalClient
	client      *holdfast.Client
	waiterLease time.Duration
	clientID    string
	members     []*goParty // of its groups, one each; empty: itself

	another func() *holdfast.Client // one more client on the same connections
	mu      sync.Mutex
	more    []*holdfast.Client
}

func openGo(rdb redis.UniversalClient, with settings) (*goParty, error) {
	options := []holdfast.Option{
		holdfast.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
	}
	if with.watchdog > 0 {
		options = append(options, holdfast.WithWatchdogTimeout(with.watchdog))
	}
	if with.prefix != "" {
		options = append(options, holdfast.WithNameMapper(func(name string) string { return with.prefix + name }))
	}
	client, err := holdfast.New(rdb, options...)
	if err != nil {
		return nil, err
	}
	another := func() *holdfast.Client {
		more, err := holdfast.New(rdb, options...)
		if err != nil {
			panic(err) // the same options were good before
		}
		return more
	}
	return &goParty{rdb: rdb, client: client, waiterLease: with.waiterLease, another: another}, nil
}

func (p *goParty) side() string { return "Go" }
func (p *goParty) id() string   { return p.clientID }

func (p *goParty) close() {
	_ = p.client.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, client := range p.more {
		_ = client.Close()
	}
	_ = p.rdb.Close()
}

func (p *goParty) actor() actor { return &goActor{party: p, holds: map[string][]holdfast.Hold{}} }

// lock makes the lock of a spec.
func (p *goParty) lock(s spec) holdfast.Lock {
	if make := goKinds[s.kind]; make != nil {
		return make(p, s.names)
	}
	panic("no such kind: " + s.kind)
}

// goKinds makes the locks of each kind that the library has.
var goKinds = map[string]func(p *goParty, names []string) holdfast.Lock{
	"lock": func(p *goParty, names []string) holdfast.Lock { return p.client.RLock(names[0]) },
	"fair": func(p *goParty, names []string) holdfast.Lock {
		if p.waiterLease > 0 {
			return p.client.FairLock(names[0], holdfast.WithWaiterLease(p.waiterLease))
		}
		return p.client.FairLock(names[0])
	},
	"multi": func(p *goParty, names []string) holdfast.Lock {
		return p.client.MultiLock(p.memberLocks(names)...)
	},
	"red": func(p *goParty, names []string) holdfast.Lock {
		return p.client.RedLock(p.redMembers(names)...)
	},
}

// redMembers are a quorum lock's: each of a client of its own, which holdfast insists on.
// (Redisson does not; here all of them may be on one server.)
func (p *goParty) redMembers(names []string) (locks []holdfast.Lock) {
	if len(p.members) > 0 {
		return p.memberLocks(names)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, name := range names {
		for len(p.more) < i {
			p.more = append(p.more, p.another())
		}
		client := p.client
		if i > 0 {
			client = p.more[i-1]
		}
		locks = append(locks, client.RLock(name))
	}
	return locks
}

type goActor struct {
	party *goParty

	mu     sync.Mutex
	cancel context.CancelFunc         // of what it is at
	holds  map[string][]holdfast.Hold // by lock, the outermost first
	last   string                     // owner
}

func (g *goActor) owner() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

func (g *goActor) interrupt() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cancel != nil {
		g.cancel()
	}
}

// context is that of the innermost hold of the lock, which re-enters.
func (g *goActor) context(key string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cancel = cancel
	if holds := g.holds[key]; len(holds) > 0 {
		ctx = holds[len(holds)-1].Context(ctx)
	}
	return ctx, cancel
}

func (g *goActor) do(c call) (a answer) {
	key := fmt.Sprint(c.lock)
	ctx, cancel := g.context(key)
	defer cancel()
	lock := g.party.lock(c.lock)
	a.start = now()
	defer func() { a.end = now() }()
	switch c.op {
	case "lock", "lockInterruptibly":
		return g.acquired(key, a)(lock.Lock(ctx, holdfast.WithLease(c.lease)))
	case "tryLock":
		return g.acquired(key, a)(lock.TryLock(ctx, c.wait, c.lease))
	case "unlock":
		a.err = g.unlock(ctx, key)
	case "forceUnlock":
		a.ok, a.err = lock.ForceUnlock(ctx)
	case "isLocked":
		a.ok, a.err = lock.IsLocked(ctx)
	case "isHeld":
		a.ok, a.err = lock.IsHeld(ctx)
	case "holdCount":
		var count int
		count, a.err = lock.HoldCount(ctx)
		a.number = int64(count)
	case "ttl":
		var ttl time.Duration
		ttl, a.err = lock.RemainingTTL(ctx)
		a.number = ttl.Milliseconds()
		if errors.Is(a.err, holdfast.ErrNotHeld) {
			a.number, a.err = -2, nil
		}
	default:
		a.err = fmt.Errorf("no such op: %s", c.op)
	}
	return a
}

func (g *goActor) acquired(key string, a answer) func(holdfast.Hold, error) answer {
	return func(hold holdfast.Hold, err error) answer {
		g.mu.Lock()
		defer g.mu.Unlock()
		switch {
		case errors.Is(err, holdfast.ErrNotAcquired):
		case err != nil:
			a.err = err
		default:
			a.ok = true
			g.holds[key] = append(g.holds[key], hold)
			g.last = hold.Owner()
		}
		return a
	}
}

func (g *goActor) unlock(ctx context.Context, key string) error {
	g.mu.Lock()
	holds := g.holds[key]
	if len(holds) == 0 {
		g.mu.Unlock()
		return errRefused // there is nothing to call Unlock on
	}
	hold := holds[len(holds)-1]
	g.holds[key] = holds[:len(holds)-1]
	g.mu.Unlock()
	err := hold.Unlock(ctx)
	if errors.Is(err, holdfast.ErrLost) {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return err
}

// hold is the innermost one of the lock.
func (g *goActor) hold(s spec) holdfast.Hold {
	g.mu.Lock()
	defer g.mu.Unlock()
	holds := g.holds[fmt.Sprint(s)]
	return holds[len(holds)-1]
}
