package main

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/holdfast-go/holdfast"
)

// A workload is one way of using locks; turn is one use.
type workload struct {
	name string
	turn func(*goroutine)
}

// workloads are those that a worker's config names. Their locks begin with the name.
var workloads = []workload{
	{"hot", hot},
	{"cold", cold},
	{"reenter", reenter},
	{"storm", storm},
	{"cancel", cancelled},
	{"stay", stay},
	{"keep", keep},
	{"patient", patient},
	{"force", force},
	{"victim", victim},
	{"fair", fair},
	{"multi", multi},
	{"red", red},
	{"both", both},
	{"held", held},
}

// ownLease is the lease of holds that have one of their own.
const ownLease = time.Second

// hot is a mutex that everybody wants: mostly short holds, a few long ones, because
// with short ones alone a lock that was lost is hardly ever seen.
func hot(g *goroutine) {
	name := fmt.Sprintf("hot:%d", g.rng.IntN(4))
	lease := time.Duration(0)
	if g.chance(0.3) {
		lease = ownLease
	}
	var opts []holdfast.LockOption
	polls := g.chance(0.03)
	if polls {
		opts = append(opts, holdfast.WithPolling(func() backoff.BackOff { return backoff.NewConstantBackOff(20 * time.Millisecond) }))
	}
	lock := g.worker.client.RLock(name, opts...)
	h := g.acquire(name, lease, polls, func() (holdfast.Hold, error) {
		if g.chance(0.1) {
			return lock.TryLock(g.worker.ctx, g.between(50*time.Millisecond, 500*time.Millisecond), lease)
		}
		ctx, cancel := context.WithTimeout(g.worker.ctx, 20*time.Second)
		defer cancel()
		return lock.Lock(ctx, holdfast.WithLease(lease))
	})
	d := g.shape()
	if g.chance(0.3) {
		d = 0 // so it may be handed over: that is done for a millisecond
	}
	g.inside(h, d)
}

// shape draws how long a hold is.
func (g *goroutine) shape() time.Duration {
	if g.chance(0.02) {
		return g.between(100*time.Millisecond, 600*time.Millisecond)
	}
	return g.between(0, 2*time.Millisecond)
}

// inside holds a lock for d.
func (g *goroutine) inside(h *guarded, d time.Duration) {
	if h == nil {
		return
	}
	if h.enter() {
		h.work(d)
	}
	h.release()
}

// cold is one of many locks that hardly anybody else wants.
func cold(g *goroutine) {
	name := fmt.Sprintf("cold:%d", g.rng.IntN(2000))
	h := g.acquire(name, 0, false, func() (holdfast.Hold, error) {
		return g.worker.client.RLock(name).TryLock(g.worker.ctx, time.Second, 0)
	})
	g.inside(h, g.between(0, time.Millisecond))
}

// reenter acquires two or three times, unlocks some, and stays: a release that was
// executed twice would have let somebody else in.
func reenter(g *goroutine) {
	name := fmt.Sprintf("reenter:%d", g.rng.IntN(3))
	lock := g.worker.client.RLock(name)
	h := g.acquire(name, 0, false, func() (holdfast.Hold, error) {
		ctx, cancel := context.WithTimeout(g.worker.ctx, 20*time.Second)
		defer cancel()
		return lock.Lock(ctx)
	})
	if h == nil {
		return
	}
	if h.enter() {
		for range 1 + g.rng.IntN(2) {
			g.inner(h, lock)
		}
	}
	h.release()
}

// inner re-enters and unlocks again, and then stays for a while.
func (g *goroutine) inner(h *guarded, lock holdfast.Lock) {
	ctx, cancel := context.WithTimeout(h.hold.Context(context.Background()), 5*time.Second)
	defer cancel()
	again, err := lock.Lock(ctx)
	if err != nil {
		h.held()
		return
	}
	h.work(g.between(0, 2*time.Millisecond))
	if g.chance(0.3) { // the outer one first; the inner one is what is left
		h.hold, again = again, h.hold
	}
	_ = again.Unlock(g.worker.ctx) // an error leaves the count too high for a moment, never too low
	h.work(g.between(5*time.Millisecond, 30*time.Millisecond))
}

// storm tries without patience.
func storm(g *goroutine) {
	name := fmt.Sprintf("storm:%d", g.rng.IntN(4))
	wait := time.Duration(0)
	if g.chance(0.5) {
		wait = g.between(time.Millisecond, 3*time.Millisecond)
	}
	h := g.acquire(name, 0, false, func() (holdfast.Hold, error) {
		return g.worker.client.RLock(name).TryLock(g.worker.ctx, wait, 0)
	})
	g.inside(h, g.between(0, time.Millisecond))
	g.pause(g.between(0, 4*time.Millisecond))
}

// cancelled gives up at any moment.
func cancelled(g *goroutine) {
	name := fmt.Sprintf("cancel:%d", g.rng.IntN(8))
	h := g.acquire(name, 0, false, func() (holdfast.Hold, error) {
		ctx, cancel := context.WithTimeout(g.worker.ctx, g.between(0, 4*time.Millisecond))
		defer cancel()
		return g.worker.client.RLock(name).Lock(ctx)
	})
	g.inside(h, g.between(0, 2*time.Millisecond))
	g.pause(g.between(2*time.Millisecond, 12*time.Millisecond))
}

// stay holds a lease of its own to its very end, with others waiting for it.
func stay(g *goroutine) {
	name := fmt.Sprintf("stay:%d", g.index%2)
	h := g.acquire(name, ownLease, false, func() (holdfast.Hold, error) {
		ctx, cancel := context.WithTimeout(g.worker.ctx, 20*time.Second)
		defer cancel()
		return g.worker.client.RLock(name).Lock(ctx, holdfast.WithLease(ownLease))
	})
	g.inside(h, g.between(ownLease/2, 2*ownLease))
}

// keep holds a lock for three leases, kept by the watchdog, with a rival who wants it.
func keep(g *goroutine) {
	name := fmt.Sprintf("keep:%d", g.index)
	h := g.acquire(name, 0, false, func() (holdfast.Hold, error) {
		return g.worker.client.RLock(name).Lock(g.worker.ctx)
	})
	if h == nil {
		return
	}
	if h.enter() {
		for end := time.Now().Add(3 * g.worker.config.Watchdog); h.held() && time.Now().Before(end) && !g.worker.over(); {
			h.work(50 * time.Millisecond)
		}
	}
	h.release()
}

// patient waits for locks with long leases that are released early: only a message
// tells of that soon.
func patient(g *goroutine) {
	const lease = 30 * time.Second
	name := fmt.Sprintf("patient:%d", g.index%2)
	h := g.acquire(name, lease, false, func() (holdfast.Hold, error) {
		return g.worker.client.RLock(name).Lock(g.worker.ctx, holdfast.WithLease(lease))
	})
	if g.index%2 == 1 { // long enough for others to wait; who has had it leaves it alone for a while, so whoever waits must come
		g.inside(h, g.between(200*time.Millisecond, 500*time.Millisecond))
		g.pause(g.between(300*time.Millisecond, 700*time.Millisecond))
		return
	}
	g.inside(h, g.between(2*time.Millisecond, 20*time.Millisecond))
	g.pause(g.between(0, 30*time.Millisecond))
}

// victim holds a lock that somebody frees by force; it is told at its next renewal.
func victim(g *goroutine) {
	name := fmt.Sprintf("victim:%d", g.index%3)
	h := g.acquire(name, 0, false, func() (holdfast.Hold, error) {
		ctx, cancel := context.WithTimeout(g.worker.ctx, 20*time.Second)
		defer cancel()
		return g.worker.client.RLock(name).Lock(ctx)
	})
	g.inside(h, g.between(200*time.Millisecond, 5*time.Second))
}

// force frees a victim's lock now and then.
func force(g *goroutine) {
	g.pause(g.between(300*time.Millisecond, 1500*time.Millisecond))
	name := fmt.Sprintf("victim:%d", g.rng.IntN(3))
	call := now()
	freed, err := g.worker.client.RLock(name).ForceUnlock(g.worker.ctx)
	if freed || err != nil {
		g.worker.record.note(event{Kind: kindForce, Call: call, Worker: g.worker.config.Name, Lock: name, Err: text(err)})
	}
}

// waiterLease is how long a dead waiter of a fair lock keeps its place.
const waiterLease = 4 * time.Second

// fair waits in a queue. One in ten gives up.
func fair(g *goroutine) {
	name := fmt.Sprintf("fair:%d", g.index%2)
	patience := 30 * time.Second
	if g.chance(0.1) {
		patience = g.between(time.Millisecond, 30*time.Millisecond)
	}
	h := g.acquire(name, 0, false, func() (holdfast.Hold, error) {
		ctx, cancel := context.WithTimeout(g.worker.ctx, patience)
		defer cancel()
		return g.worker.client.FairLock(name, holdfast.WithWaiterLease(waiterLease)).Lock(ctx)
	})
	g.inside(h, g.between(0, 5*time.Millisecond))
	g.pause(g.between(0, 10*time.Millisecond))
}

// multi acquires some of four locks, all or none. Each member is watched as a lock of
// its own. That one of them is free while the group waits for another is no stall.
func multi(g *goroutine) {
	w := g.worker
	var locks []holdfast.Lock
	var names []string
	for _, i := range g.rng.Perm(4)[:2+g.rng.IntN(2)] {
		names = append(names, fmt.Sprintf("multi:%d", i))
		locks = append(locks, w.client.RLock(names[len(names)-1]))
	}
	g.together(names, locks)
}

// both acquires a multi lock of a quorum lock and of one or two locks on one of its servers each.
func both(g *goroutine) {
	name := fmt.Sprintf("red:%d", g.rng.IntN(3))
	names, locks := []string{name}, []holdfast.Lock{g.quorum(name)}
	for _, i := range g.rng.Perm(len(g.worker.clients))[:1+g.rng.IntN(2)] {
		names = append(names, fmt.Sprintf("multi:%d", i)) // always on this server
		locks = append(locks, g.worker.clients[i].RLock(names[len(names)-1]))
	}
	g.together(names, locks)
	g.pause(g.between(0, 20*time.Millisecond))
}

// together acquires several locks as one.
func (g *goroutine) together(names []string, locks []holdfast.Lock) {
	w := g.worker
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
	defer cancel()
	call := now()
	own := g.chance(0.3)
	lease, asked := w.config.Watchdog, time.Duration(0)
	if own {
		lease, asked = ownLease, ownLease
	}
	hold, err := w.client.MultiLock(locks...).Lock(ctx, holdfast.WithLease(asked))
	at := now()
	if err != nil {
		w.record.note(event{Kind: kindMiss, Call: call, Time: at, Worker: w.config.Name, Lock: "multi", Polls: true, Err: err.Error()})
		g.pause(g.between(time.Millisecond, 20*time.Millisecond))
		return
	}
	g.holds++
	w.acquired.Add(1)
	members := make([]*guarded, len(names))
	for i, name := range names {
		m := &guarded{goroutine: g, hold: hold, lock: name, id: fmt.Sprintf("%s-%d/%s", g.id, g.holds, name), noted: at}
		members[i] = m
		w.record.note(event{Kind: kindGot, Call: call, Time: at, Worker: w.config.Name, Lock: name, Hold: m.id, Lease: int64(lease), Own: own, Polls: true})
	}
	held := true
	for _, m := range members {
		held = m.enter() && held
	}
	if held {
		members[0].work(g.between(0, 5*time.Millisecond))
	}
	for _, m := range members {
		m.leave()
	}
	call = now()
	err = hold.Unlock(w.ctx)
	for _, m := range members {
		m.note(event{Kind: kindEnd, Call: call, Trust: m.trust, Err: text(err)})
	}
}

// red acquires a quorum lock, of one member on each server. A waiter who loses a race
// pauses at random, so a lock that is free for a moment is no stall.
func red(g *goroutine) {
	name := fmt.Sprintf("red:%d", g.rng.IntN(3))
	lease := time.Duration(0)
	if g.chance(0.3) {
		lease = ownLease
	}
	lock := g.quorum(name)
	h := g.acquire(name, lease, true, func() (holdfast.Hold, error) {
		ctx, cancel := context.WithTimeout(g.worker.ctx, 20*time.Second)
		defer cancel()
		return lock.Lock(ctx, holdfast.WithLease(lease))
	})
	g.inside(h, g.shape())
	g.pause(g.between(0, 20*time.Millisecond))
}

// quorum is a quorum lock of one member on each server.
func (g *goroutine) quorum(name string) holdfast.Lock {
	var members []holdfast.Lock
	for i, client := range g.worker.clients {
		members = append(members, client.RLock(memberName(name, i)))
	}
	return g.worker.client.RedLock(members...)
}

// memberName is a quorum lock's name on one of its servers: the histories know locks by
// their names alone.
func memberName(name string, server int) string { return fmt.Sprintf("%s@%d", name, server) }

// heldEach is how many locks one strand of the workload "held" holds at once.
const heldEach = 1000

// held holds many locks until the round is over, all kept by the watchdog. Nobody else
// wants them; a loss is the watchdog's fault.
func held(g *goroutine) {
	w := g.worker
	var holds []*guarded
	for i := range heldEach {
		name := fmt.Sprintf("held:%d:%d", g.index, i)
		h := g.acquire(name, 0, false, func() (holdfast.Hold, error) { return w.client.RLock(name).Lock(w.ctx) })
		if h != nil {
			holds = append(holds, h)
		}
	}
	w.held.Add(int64(len(holds)))
	w.record.note(event{Kind: kindFigure, Worker: w.config.Name, What: "held", Value: w.held.Load()})
	<-w.stopping
	for _, h := range holds {
		h.held()
		call := now()
		err := h.hold.Unlock(w.ctx)
		h.note(event{Kind: kindEnd, Call: call, Trust: h.trust, Err: text(err)})
	}
}
