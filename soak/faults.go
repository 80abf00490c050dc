package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/internal/faultproxy"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// A fault is one way in which the campaign hurts a server, a link or a worker.
type fault struct {
	name string
	// tail is how long after its end it may still be why a lock was handed on late: the
	// longest pause between two tries, a silence that has to be noticed.
	tail time.Duration
	// inflict lasts as long as the fault. what it hits is narrowed by the scope; an empty
	// one is everybody.
	inflict func(f *fate) (scope, error)
}

// A scope is whom a fault hits.
type scope struct{ worker, lock string }

// A fate is a fault that is being inflicted.
type fate struct {
	ctx    context.Context
	world  *world
	team   *team
	rng    *rand.Rand
	record *recorder
}

// Tails. A client that got no answer waits readTimeout; one that got a refusal pauses
// at most a second, give or take half of it; a subscription that fell silent is replaced
// after three seconds.
const (
	tailShort  = 700 * time.Millisecond
	tailAnswer = readTimeout + 900*time.Millisecond
	tailPause  = 2200 * time.Millisecond
	tailSilent = 3700 * time.Millisecond
)

// chances are what happens to single commands of a link. The proxy lets the seed and
// the command's number decide.
func chances(gentle bool, rate float64) map[string][]faultproxy.Chance {
	if gentle {
		return nil
	}
	if rate == 0 {
		rate = 1
	}
	scripts := []faultproxy.Chance{
		{P: 0.0004, Decision: faultproxy.DropReply},
		{P: 0.0006, Decision: faultproxy.ResetAfter},
		{P: 0.0004, Decision: faultproxy.DropRequest},
		{P: 0.0006, Decision: faultproxy.ResetBefore},
		{P: 0.0006, Decision: faultproxy.DelayReply(15 * time.Millisecond)},
		{P: 0.0006, Decision: faultproxy.DelayReply(120 * time.Millisecond)},
		{P: 0.0003, Decision: faultproxy.DelayReply(250 * time.Millisecond)},
	}
	messages := []faultproxy.Chance{
		{P: 0.02, Decision: faultproxy.DropReply},
		{P: 0.02, Decision: faultproxy.ResetAfter},
		{P: 0.02, Decision: faultproxy.ResetBefore},
		{P: 0.02, Decision: faultproxy.DelayReply(50 * time.Millisecond)},
	}
	for i := range scripts {
		scripts[i].P *= rate
	}
	return map[string][]faultproxy.Chance{"EVALSHA": scripts, "EVAL": scripts, "SUBSCRIBE": messages, "SSUBSCRIBE": messages}
}

var spoiled = []string{"EVALSHA", "EVAL", "SUBSCRIBE", "SSUBSCRIBE"}

// tailOf is the tail of a decision about one command.
func tailOf(e faultproxy.Event) time.Duration {
	if strings.HasSuffix(e.Name, "SUBSCRIBE") {
		return tailSilent
	}
	switch e.Decision.String() {
	case "drop reply", "drop request":
		return tailAnswer
	default:
		return tailShort
	}
}

// linkFaults are those of one worker's links.
var linkFaults = []fault{
	{"half-open subscription", tailSilent, func(f *fate) (scope, error) {
		worker := f.team.any(f.rng)
		for _, link := range f.world.linksOf(worker) {
			for _, number := range link.PubSubConns() {
				link.BlackHoleOne(number)
			}
		}
		return scope{worker: worker}, nil
	}},
	{"all subscriptions half-open", tailSilent, func(f *fate) (scope, error) {
		for _, m := range f.team.living() {
			for _, link := range f.world.linksOf(m.name) {
				for _, number := range link.PubSubConns() {
					link.BlackHoleOne(number)
				}
			}
		}
		return scope{}, nil
	}},
	{"black hole", tailSilent, func(f *fate) (scope, error) {
		worker := f.team.any(f.rng)
		for _, link := range f.world.linksOf(worker) {
			link.BlackHole(true)
			defer link.BlackHole(false)
		}
		f.last(200*time.Millisecond, 1200*time.Millisecond)
		return scope{worker: worker}, nil
	}},
	{"all connections reset", tailShort, func(f *fate) (scope, error) {
		worker := f.team.any(f.rng)
		for _, link := range f.world.linksOf(worker) {
			link.KillAll()
		}
		return scope{worker: worker}, nil
	}},
	{"dial refused", tailPause, func(f *fate) (s scope, err error) {
		s.worker = f.team.any(f.rng)
		for _, link := range f.world.linksOf(s.worker) {
			err = errors.Join(err, link.Refuse(true))
			link.KillAll()
			defer func() { err = errors.Join(err, link.Refuse(false)) }()
		}
		f.last(100*time.Millisecond, 400*time.Millisecond)
		return s, err
	}},
	{"gate", tailShort, func(f *fate) (scope, error) {
		return f.gate(faultproxy.Gate)
	}},
	{"gate of a request", tailAnswer, func(f *fate) (scope, error) {
		return f.gate(faultproxy.GateRequest)
	}},
}

// gate holds the next script of a worker, or its answer.
func (f *fate) gate(decision func(<-chan struct{}) faultproxy.Decision) (scope, error) {
	worker := f.team.any(f.rng)
	open := make(chan struct{})
	defer close(open)
	for _, link := range f.world.linksOf(worker) {
		link.OnNext("EVALSHA", decision(open))
	}
	f.last(100*time.Millisecond, 600*time.Millisecond)
	return scope{worker: worker}, nil
}

// workerFaults hit a worker's process.
var workerFaults = []fault{
	{"worker stopped", tailShort, func(f *fate) (scope, error) {
		m := f.team.mortal(f.rng)
		if m == nil {
			return scope{}, errNobody
		}
		d := time.Duration(float64(watchdogTimeout) * (0.2 + 1.3*f.rng.Float64()))
		return scope{worker: m.name}, m.pause(f.ctx, d)
	}},
	{"worker killed", tailShort, func(f *fate) (scope, error) {
		m := f.team.mortal(f.rng)
		if m == nil {
			return scope{}, errNobody
		}
		return scope{worker: m.name}, f.team.replace(m)
	}},
}

// What there is nobody for at the moment is left out.
var (
	errNobody   = errors.New("no worker is mortal")
	errNoMaster = errors.New("no server is the master")
)

// serverFaults hit a single server and lose nothing that it acknowledged.
var serverFaults = []fault{
	{"kill -9", tailPause, func(f *fate) (scope, error) { return scope{}, f.world.single.Restart("--key-load-delay", "0") }},
	{"loading", tailPause, func(f *fate) (scope, error) { return scope{}, f.loading(600 * time.Millisecond) }},
	{"SIGSTOP", tailPause, func(f *fate) (scope, error) {
		return scope{}, f.stopped(f.world.single, f.between(50*time.Millisecond, 900*time.Millisecond))
	}},
	{"SCRIPT FLUSH", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("SCRIPT", "FLUSH") }},
	{"CLIENT KILL normal", tailShort, func(f *fate) (scope, error) {
		return scope{}, f.onMasters("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	}},
	{"CLIENT KILL pubsub", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("CLIENT", "KILL", "TYPE", "pubsub") }},
	{"CLIENT PAUSE", tailPause, func(f *fate) (scope, error) {
		d := f.between(50*time.Millisecond, 500*time.Millisecond)
		err := f.onMasters("CLIENT", "PAUSE", d.Milliseconds(), "ALL")
		f.last(d, d)
		return scope{}, err
	}},
	{"BUSY", tailPause, func(f *fate) (scope, error) {
		return scope{}, f.busy(f.between(100*time.Millisecond, 400*time.Millisecond))
	}},
	{"OOM", tailPause, func(f *fate) (scope, error) {
		err := f.onMasters("CONFIG", "SET", "maxmemory", "1")
		f.last(100*time.Millisecond, 400*time.Millisecond)
		return scope{}, errors.Join(err, f.onMasters("CONFIG", "SET", "maxmemory", "0"))
	}},
	{"max clients", tailPause, func(f *fate) (scope, error) {
		err := errors.Join(f.onMasters("CONFIG", "SET", "maxclients", "3"), f.onMasters("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
		f.last(100*time.Millisecond, 400*time.Millisecond)
		return scope{}, errors.Join(err, f.onMasters("CONFIG", "SET", "maxclients", "10000"))
	}},
	{"ACL stripped", tailPause, func(f *fate) (scope, error) {
		err := f.onMasters("ACL", "SETUSER", user, "-@all")
		f.last(100*time.Millisecond, 400*time.Millisecond)
		return scope{}, errors.Join(err, f.onMasters("ACL", "SETUSER", user, "+@all"))
	}},
}

// sentinelFaults lose nothing: the failover waits until the replica has everything.
var sentinelFaults = []fault{
	{"Sentinel failover", tailPause + time.Second, func(f *fate) (scope, error) { return scope{}, f.orderlyFailover() }},
	{"replica lag", tailShort, func(f *fate) (scope, error) {
		master := f.world.sentinel.Master()
		if master == nil {
			return scope{}, errNoMaster
		}
		for _, node := range f.world.sentinel.Nodes {
			if node != master {
				return scope{}, f.stopped(node, f.between(100*time.Millisecond, 600*time.Millisecond))
			}
		}
		return scope{}, errors.New("no replica")
	}},
	{"SIGSTOP", tailPause, func(f *fate) (scope, error) {
		master := f.world.sentinel.Master()
		if master == nil {
			return scope{}, errNoMaster
		}
		return scope{}, f.stopped(master, f.between(50*time.Millisecond, 500*time.Millisecond)) // shorter than Sentinel's patience
	}},
	{"CLIENT KILL pubsub", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("CLIENT", "KILL", "TYPE", "pubsub") }},
	{"SCRIPT FLUSH", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("SCRIPT", "FLUSH") }},
}

// clusterFaults lose nothing.
var clusterFaults = []fault{
	{"slot move", tailPause, (*fate).moveSlot},
	{"slot move", tailPause, (*fate).moveSlot},
	{"slot move", tailPause, (*fate).moveSlot},
	{"cluster failover", tailPause + time.Second, func(f *fate) (scope, error) { return scope{}, f.takeOver() }},
	{"replica killed", tailShort, func(f *fate) (scope, error) {
		for _, i := range f.rng.Perm(len(f.world.cluster.Nodes)) {
			node := f.world.cluster.Nodes[i]
			if len(f.world.cluster.ReplicasOf(node)) == 0 {
				return scope{}, node.Restart()
			}
		}
		return scope{}, errors.New("no replica")
	}},
	{"SIGSTOP", tailPause, func(f *fate) (scope, error) {
		masters := f.world.masters()
		if len(masters) == 0 {
			return scope{}, errors.New("no master")
		}
		return scope{}, f.stopped(masters[f.rng.IntN(len(masters))], f.between(50*time.Millisecond, 400*time.Millisecond))
	}},
	{"CLIENT KILL pubsub", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("CLIENT", "KILL", "TYPE", "pubsub") }},
	{"SCRIPT FLUSH", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("SCRIPT", "FLUSH") }},
}

// Lossy faults forget what was acknowledged.
var (
	lossyServerFaults = []fault{
		{"kill -9 without persistence", tailPause, func(f *fate) (scope, error) { return scope{}, f.world.single.Restart() }},
		{"FLUSHALL", tailPause, func(f *fate) (scope, error) { return scope{}, f.onMasters("FLUSHALL") }},
		{"keys deleted", tailPause, func(f *fate) (scope, error) {
			return scope{}, f.onMasters("DEL", "hot:0", "hot:1", "victim:0", "victim:1", "keep:0")
		}},
	}
	lossySentinelFaults = []fault{
		{"master killed", tailPause + time.Second, func(f *fate) (scope, error) { return scope{}, f.killMaster() }},
	}
	lossyClusterFaults = []fault{
		{"cluster master killed", tailPause + time.Second, func(f *fate) (scope, error) { return scope{}, f.killClusterMaster() }},
	}
)

func (f *fate) between(least, most time.Duration) time.Duration {
	return least + time.Duration(f.rng.Int64N(int64(most-least)+1))
}

// last lets a fault last for that long.
func (f *fate) last(least, most time.Duration) {
	select {
	case <-time.After(f.between(least, most)):
	case <-f.ctx.Done():
	}
}

func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

func (f *fate) onMasters(command ...any) (err error) {
	ctx, cancel := limited()
	defer cancel()
	for _, node := range f.world.masters() {
		err = errors.Join(err, node.Do(ctx, command...).Err())
	}
	return err
}

func (f *fate) stopped(node *redistest.Server, d time.Duration) error {
	if err := node.Pause(); err != nil {
		return err
	}
	f.last(d, d)
	return node.Resume()
}

// loading restarts the server so that it takes about d to read its append-only file.
func (f *fate) loading(d time.Duration) error {
	ctx, cancel := limited()
	defer cancel()
	info, err := f.world.single.Do(ctx, "INFO", "persistence").Text()
	if err != nil {
		return err
	}
	size := 0
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, "aof_current_size:"); ok {
			_, _ = fmt.Sscan(value, &size)
		}
	}
	// A negative delay is one microsecond for each so manyth command, which the kernel
	// makes about 60. A command has about 45 bytes.
	each := max(1, int64(size/45)*60/d.Microseconds())
	return f.world.single.Restart("--key-load-delay", fmt.Sprint(-each))
}

// busy has a script run for d.
func (f *fate) busy(d time.Duration) error {
	conn, err := net.Dial("tcp", f.world.single.Addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	script := fmt.Sprintf("local t = redis.call('TIME') local stop = t[1] * 1000000 + t[2] + %d "+
		"repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] > stop", d.Microseconds())
	if _, err := fmt.Fprintf(conn, "*3\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n$1\r\n0\r\n", len(script), script); err != nil {
		return err
	}
	f.last(d, d)
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = conn.Read(make([]byte, 16))
	return err
}

// orderlyFailover has the sentinels replace the master once it takes no more writes
// and its replica has all of them.
func (f *fate) orderlyFailover() error {
	s := f.world.sentinel
	old := s.Master()
	if old == nil {
		return errors.New("no master")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := eventually(ctx, s.Healthy); err != nil {
		return err
	}
	if err := old.Do(ctx, "CLIENT", "PAUSE", 15000, "WRITE").Err(); err != nil {
		return err
	}
	defer func() { _ = old.Do(ctx, "CLIENT", "UNPAUSE").Err() }()
	if err := eventually(ctx, func() error { return caughtUp(ctx, old) }); err != nil {
		return err
	}
	if err := eventually(ctx, func() error { return s.Sentinels[0].Do(ctx, "SENTINEL", "FAILOVER", s.Name).Err() }); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		if master := s.Master(); master == nil || master == old {
			return errors.New("no new master")
		}
		role, err := old.Do(ctx, "ROLE").Slice()
		if err == nil && role[0] != "slave" {
			err = errors.New("the old master has not stepped down")
		}
		return err
	})
}

// caughtUp checks that the master's replica has all that it has.
func caughtUp(ctx context.Context, master *redistest.Server) error {
	role, err := master.Do(ctx, "ROLE").Slice() // master, offset, [[ip, port, offset]…]
	if err != nil {
		return err
	}
	replicas, _ := role[2].([]any)
	for _, replica := range replicas {
		fields, _ := replica.([]any)
		var has int64
		_, _ = fmt.Sscan(fmt.Sprint(fields[2]), &has)
		if offset, _ := role[1].(int64); has >= offset {
			return nil
		}
	}
	return errors.New("the replica is behind")
}

// killMaster kills the master for good measure, and brings it back as a replica.
func (f *fate) killMaster() error {
	s := f.world.sentinel
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	if err := eventually(ctx, s.Healthy); err != nil {
		return err
	}
	old := s.Master()
	if old == nil {
		return errors.New("no master")
	}
	old.Kill()
	err := eventually(ctx, func() error {
		if master := s.Master(); master == nil || master == old {
			return errors.New("no new master")
		}
		return nil
	})
	return errors.Join(err, old.Restart(), eventually(ctx, s.Healthy))
}

// moveSlot moves the slot of one lock to another master, in two steps.
func (f *fate) moveSlot() (scope, error) {
	c := f.world.cluster
	lock := movable[f.rng.IntN(len(movable))]
	ctx, cancel := limited()
	defer cancel()
	from := c.MasterOf(lock)
	if from == nil {
		return scope{}, errors.New("no master")
	}
	slot, err := from.Do(ctx, "CLUSTER", "KEYSLOT", lock).Int()
	if err != nil {
		return scope{}, err
	}
	for _, i := range f.rng.Perm(len(c.Nodes)) {
		if to := c.Nodes[i]; to != from && len(c.ReplicasOf(to)) > 0 {
			if err := c.BeginMove(ctx, slot, from, to); err != nil {
				return scope{}, err
			}
			f.last(20*time.Millisecond, 300*time.Millisecond)
			return scope{lock: lock}, c.FinishMove(ctx, slot, from, to)
		}
	}
	return scope{}, errors.New("no other master")
}

// movable are locks whose slots move.
var movable = []string{"hot:0", "hot:1", "hot:2", "hot:3", "stay:0", "patient:0", "reenter:0"}

// takeOver has a replica take its master's place, in order.
func (f *fate) takeOver() error {
	c := f.world.cluster
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, i := range f.rng.Perm(len(c.Nodes)) {
		replicas := c.ReplicasOf(c.Nodes[i])
		if len(replicas) == 0 {
			continue
		}
		if err := replicas[0].Do(ctx, "CLUSTER", "FAILOVER").Err(); err != nil {
			return err
		}
		return eventually(ctx, func() error {
			role, err := replicas[0].Do(ctx, "ROLE").Slice()
			if err == nil && role[0] != "master" {
				err = errors.New("still a replica")
			}
			return errors.Join(err, c.Healthy())
		})
	}
	return errors.New("no master has a replica")
}

// killClusterMaster kills a master and brings it back once its replica has taken over.
func (f *fate) killClusterMaster() error {
	c := f.world.cluster
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	for _, i := range f.rng.Perm(len(c.Nodes)) {
		node := c.Nodes[i]
		replicas := c.ReplicasOf(node)
		if len(replicas) == 0 {
			continue
		}
		node.Kill()
		err := eventually(ctx, func() error {
			role, err := replicas[0].Do(ctx, "ROLE").Slice()
			if err == nil && role[0] != "master" {
				err = errors.New("still a replica")
			}
			return err
		})
		return errors.Join(err, node.Restart(), eventually(ctx, c.Healthy))
	}
	return errors.New("no master has a replica")
}

// eventually looks again until it finds nothing wrong.
func eventually(ctx context.Context, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
