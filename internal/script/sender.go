package script

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/keys"
)

// A Sender sends operations to the servers behind one client. All its methods
// may be called at once.
type Sender struct {
	rdb     redis.UniversalClient
	cluster *redis.ClusterClient // nil unless rdb is one
	program *Program

	closed  chan struct{}
	routed  atomic.Bool // the cluster client knows who serves which slot
	bySlot  atomic.Bool // never mix slots in a call
	servers sync.Map    // server -> *lanes
}

// NewSender makes a sender that never closes rdb.
func NewSender(rdb redis.UniversalClient, program *Program) *Sender {
	s := &Sender{rdb: rdb, program: program, closed: make(chan struct{})}
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		s.cluster = cluster
		s.bySlot.Store(true)
	}
	return s
}

// Start sends operations as one call, answered together; all their keys must be
// on one server (Server). It never blocks.
func (s *Sender) Start(ops ...Op) *Call {
	c := &Call{done: make(chan struct{})}
	if len(ops) == 1 { // mostly; one allocation instead of three
		c.op[0] = ops[0]
		c.ops, c.answers = c.op[:], c.answer[:]
	} else {
		c.ops, c.answers = slices.Clone(ops), make([]Answer, len(ops))
	}
	c.lanes = s.lanesTo(s.Server(ops[0].Keys[0]))
	c.lanes.start(c)
	return c
}

// Close ends the lanes that are idle. Operations are still sent, each lane then ends
// when its queue is empty. To be called once.
func (s *Sender) Close() { close(s.closed) }

// Together tells whether two keys can be in one operation.
func (s *Sender) Together(key, other string) bool {
	return !s.bySlot.Load() || keys.Slot(key) == keys.Slot(other)
}

// Slots tells whether slots matter: on a cluster, as far as it is known to be one.
func (s *Sender) Slots() bool { return s.bySlot.Load() }

// Server tells which server has a key, as a name for grouping: operations with
// the same one may travel in one call.
func (s *Sender) Server(key string) string {
	if s.cluster == nil {
		return ""
	}
	if s.routed.Load() {
		// The client has the cluster's picture in memory: this does not block.
		if node, err := s.cluster.MasterForKey(context.Background(), key); err == nil {
			return node.Options().Addr
		}
	}
	return strconv.Itoa(keys.Slot(key)) // a dead server must delay no other slot
}

func (s *Sender) lanesTo(server string) *lanes {
	if l, ok := s.servers.Load(server); ok {
		return l.(*lanes)
	}
	_, err := strconv.Atoi(server) // a slot, until the cluster's picture is there
	l, _ := s.servers.LoadOrStore(server, &lanes{sender: s, work: make(chan struct{}), stays: err != nil})
	return l.(*lanes)
}

// send sends a batch now and finishes its calls. What was not executed at first and
// goes out again within it keeps the date of the first copy: a trust window that
// begins too early errs on the safe side.
func (s *Sender) send(batch []*Call, now time.Time) {
	size := 0
	for _, c := range batch {
		size += len(c.ops)
	}
	units := make([]unit, 0, size)
	// Those that can be done in one go come first, so that they make one run. Operations that wait together
	// have no order that anybody relies on: lanes overtake each other all the time.
	for _, inOneGo := range []bool{true, false} {
		for _, c := range batch {
			c.sent = now
			for i := range c.ops {
				if inOneGo == (c.ops[i].Verb.Each != nil) {
					units = append(units, unit{&c.ops[i], &c.answers[i]})
				}
			}
		}
	}
	var single [1]parcel // mostly it is one
	for parcels := s.pack(single[:0], units); len(parcels) > 0; {
		parcels = s.exchange(parcels)
	}
	for _, c := range batch {
		c.finish()
	}
}

// A unit is one operation in a batch, and the place for its answer.
type unit struct {
	op     *Op
	answer *Answer
}

// A parcel is what travels in one command.
type parcel struct {
	units []unit
	text  bool       // send the program itself, Redis does not know it
	cmd   *redis.Cmd // once it has been sent
}

// pack makes one parcel of all units, or one a slot.
func (s *Sender) pack(parcels []parcel, units []unit) []parcel {
	if !s.bySlot.Load() {
		return append(parcels, parcel{units: units})
	}
	index := map[int]int{}
	for _, u := range units {
		slot := keys.Slot(u.op.Keys[0])
		i, ok := index[slot]
		if !ok {
			i = len(parcels)
			index[slot] = i
			parcels = append(parcels, parcel{})
		}
		parcels[i].units = append(parcels[i].units, u)
	}
	return parcels
}

// exchange sends parcels, gives out their answers and returns what is to be
// sent again in another form because Redis certainly executed nothing of it.
func (s *Sender) exchange(parcels []parcel) (again []parcel) {
	s.roundTrip(parcels)
	for _, p := range parcels {
		err := p.cmd.Err()
		several := len(p.units) > 1
		switch {
		case err == nil, errors.Is(err, redis.Nil): // nothing at all is no answer, but no refusal either
			s.routed.Store(true)
			deliver(p.units, p.cmd.Val())
		case redis.HasErrorPrefix(err, "NOSCRIPT") && !p.text:
			again = append(again, parcel{units: p.units, text: true})
		case redis.HasErrorPrefix(err, "CROSSSLOT") && several:
			s.bySlot.Store(true)
			again = append(again, one(p)...)
		case redis.HasErrorPrefix(err, "CROSSSLOT"):
			s.bySlot.Store(true)
			p.units[0].answer.Err = crossed(p.units[0].op, err)
		case redis.HasErrorPrefix(err, "TRYAGAIN") && several, // a slot on the move serves single keys
			redis.HasErrorPrefix(err, "NOPERM") && several: // maybe for the key of one
			again = append(again, one(p)...)
		default:
			if s.cluster != nil && (redis.HasErrorPrefix(err, "MOVED") || redis.HasErrorPrefix(err, "ASK")) {
				err = fmt.Errorf("%w: %w", errLed, err)
			}
			s.reroute(err)
			run(p.units).fail(unauthenticated(err))
		}
	}
	return again
}

// one makes a parcel of each unit.
func one(p parcel) []parcel {
	parcels := make([]parcel, len(p.units))
	for i := range p.units {
		parcels[i] = parcel{units: p.units[i : i+1], text: p.text}
	}
	return parcels
}

// reroute makes a cluster client look again who serves which slot: with NoRetry
// it would not do so for up to a minute after a dial error.
func (s *Sender) reroute(err error) {
	if s.cluster != nil && ClassOf(err) != Refused {
		s.cluster.ReloadState(context.Background())
	}
}

// roundTrip sends one command a parcel; several travel as a pipeline. It uses no
// caller's ctx: a lane belongs to all of them, and is bounded by the client's
// own timeouts.
func (s *Sender) roundTrip(parcels []parcel) {
	ctx := context.Background()
	for i := range parcels {
		p := &parcels[i]
		p.cmd = redis.NewCmd(ctx, s.args(p)...)
		p.cmd.SetFirstKeyPos(3)
	}
	if len(parcels) == 1 {
		_ = s.rdb.Process(ctx, once{parcels[0].cmd}) // the command has the error
		return
	}
	pipe := s.rdb.Pipeline()
	for _, p := range parcels {
		_ = pipe.Process(ctx, once{p.cmd})
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
}

// once marks a command as not to be sent again once it may have been executed.
type once struct{ *redis.Cmd }

func (once) NoRetry() bool { return true }

// args writes a parcel as dispatch.lua reads it.
func (s *Sender) args(p *parcel) []any {
	nkeys, nargs := 0, 1
	for _, u := range p.units {
		nkeys += len(u.op.Keys)
		nargs += u.op.size() + 3
	}
	args := make([]any, 0, 3+nkeys+nargs)
	if p.text {
		args = append(args, "eval", s.program.source)
	} else {
		args = append(args, "evalsha", s.program.sha)
	}
	args = append(args, nkeys)
	for _, u := range p.units {
		for _, key := range u.op.Keys {
			args = append(args, key)
		}
	}
	all := runs(p.units)
	if len(all) == 1 {
		args = all[0].appendArgs(args)
		return append(args, all[0].word())
	}
	for _, r := range all {
		header := len(args)
		args = append(args, r.word(), r.keys(), nil)
		args = r.appendArgs(args)
		args[header+2] = len(args) - header - 3
	}
	return append(args, "")
}

// deliver gives each unit its answer out of the reply of one command, see dispatch.lua.
func deliver(units []unit, reply any) {
	all := runs(units)
	if len(all) == 1 {
		all[0].deliver(reply)
		return
	}
	answers, ok := reply.([]any)
	for i, r := range all {
		if !ok || len(answers) != len(all) {
			r.fail(fmt.Errorf("%w: %v", errReply, reply))
		} else {
			r.deliver(answers[i])
		}
	}
}
