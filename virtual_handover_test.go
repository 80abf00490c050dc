package holdfast_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast"
)

// roundTrip is what a command takes in the tests of the hand-over: a lock is then handed over for up to
// a millisecond after the answer to the acquire.
const roundTrip = time.Millisecond

// A handOver is a lock with callers of one client in line before it, in virtual time.
type handOver struct {
	*virtual
	link *link
	got  chan locked
}

// locked is what a caller in line got.
type locked struct {
	hold holdfast.Hold
	err  error
}

// begin has the lock held for longer than it could be handed over.
func (v *virtual) begin(opts ...holdfast.Option) (*handOver, holdfast.Hold) {
	l := v.client(opts...)
	l.far.Store(int64(roundTrip))
	h := v.lock(l)
	time.Sleep(time.Second)
	return &handOver{v, l, make(chan locked, 10)}, h
}

// contended is a lock that the first of two callers in line has just got; the second one has that ctx.
func (v *virtual) contended(second context.Context, opts ...holdfast.Option) (*handOver, holdfast.Hold) {
	o, before := v.begin(opts...)
	o.join(context.Background())
	o.join(second)
	o.unlock(before)
	return o, o.next()
}

// join puts a caller in line, and waits until it is there.
func (o *handOver) join(ctx context.Context, opts ...holdfast.AcquireOption) {
	go func() {
		h, err := o.link.client.RLock("orders").Lock(ctx, opts...)
		o.got <- locked{h, err}
	}()
	time.Sleep(100 * time.Millisecond)
}

// next waits for whoever has the lock next.
func (o *handOver) next() holdfast.Hold {
	o.Helper()
	select {
	case l := <-o.got:
		if l.err != nil {
			o.Fatal(l.err)
		}
		return l.hold
	case <-time.After(time.Minute):
		o.Fatalf("nobody has the lock; Redis says %v", o.server.Dump())
		return nil
	}
}

func (o *handOver) unlock(h holdfast.Hold) {
	o.Helper()
	if err := h.Unlock(context.Background()); err != nil {
		o.Error(err)
	}
}

// unlockAndCount unlocks and tells how many commands had been sent when somebody else had the lock.
func (o *handOver) unlockAndCount(h holdfast.Hold) (next holdfast.Hold, commands int64) {
	o.Helper()
	before := o.link.writes.Load()
	o.unlock(h)
	next = o.next()
	return next, o.link.writes.Load() - before
}

func TestALockIsHandedOverWithinAClient(t *testing.T) {
	inBubble(t, func(v *virtual) {
		o, first := v.begin()
		for range 3 {
			o.join(context.Background())
		}
		o.unlock(first)
		a := o.next()
		ctx := a.Context(context.Background())
		b, commands := o.unlockAndCount(a)
		if commands != 0 || b.Owner() != a.Owner() || b.Count() != 1 || b.Err() != nil {
			v.Errorf("got %d commands, owner %s, count %d, %v; want none, %s, 1 and no error", commands, b.Owner(), b.Count(), b.Err(), a.Owner())
		}
		if err := context.Cause(ctx); !errors.Is(err, holdfast.ErrUnlocked) || !errors.Is(a.Err(), holdfast.ErrUnlocked) {
			v.Errorf("the hold before: got cause %v, Err %v, want ErrUnlocked", err, a.Err())
		}
		if h, err := o.link.client.RLock("orders").TryLock(context.WithoutCancel(ctx), 0, 0); !errors.Is(err, holdfast.ErrNotAcquired) {
			v.Errorf("its context: got %v %v, want that it does not re-enter", h, err)
		}
		o.unlock(a) // again: nothing
		if b.Err() != nil || v.server.HGet("orders", b.Owner()) != "1" {
			v.Errorf("the second hold: %v", b.Err())
		}

		time.Sleep(2 * time.Millisecond)
		c, commands := o.unlockAndCount(b)
		if commands == 0 || c.Owner() == b.Owner() {
			v.Errorf("later: got %d commands, owner %s, want that Redis was asked", commands, c.Owner())
		}
		o.unlock(c)
		if v.server.Exists("orders") {
			v.Error("the key is left")
		}
	})
}

// A tenure ends a millisecond after it began, however often the lock was handed over: others are told then.
func TestAHandOverEndsInTime(t *testing.T) {
	inBubble(t, func(v *virtual) {
		o, h := v.begin()
		for range 7 {
			o.join(context.Background())
		}
		o.unlock(h)
		h = o.next()
		began, owners := time.Now(), 0
		for range 6 {
			time.Sleep(400 * time.Microsecond)
			before := h.Owner()
			var commands int64
			if h, commands = o.unlockAndCount(h); h.Owner() != before {
				owners++
				if commands == 0 {
					v.Error("another owner without a command")
				}
				if took := time.Since(began); took > handOverLasts+2*roundTrip+400*time.Microsecond {
					v.Errorf("the tenure lasted %v", took)
				}
				began = time.Now()
			}
		}
		if owners != 2 { // each has two hand-overs: after 0.4 and 0.8 ms
			v.Errorf("got %d tenures after the first one, want 2", owners)
		}
		o.unlock(h)
	})
}

const handOverLasts = time.Millisecond

// The watchdog goes on: the renewal comes when it was due, and who was handed the lock hears that it is gone.
func TestAHoldThatWasHandedOverIsKept(t *testing.T) {
	inBubble(t, func(v *virtual) {
		o, a := v.contended(context.Background())
		b, commands := o.unlockAndCount(a)
		if commands != 0 {
			v.Fatalf("got %d commands, want a hand-over", commands)
		}
		for range 60 {
			time.Sleep(time.Minute)
			if ttl := v.server.TTL("orders"); b.Err() != nil || ttl < 19*time.Second {
				v.Fatalf("got TTL %v and %v, want a lock that is kept", ttl, b.Err())
			}
		}
		v.server.Del("orders")
		deleted := time.Now()
		<-b.Done()
		if took := time.Since(deleted); !errors.Is(b.Err(), holdfast.ErrLost) || took > 10*time.Second+2*roundTrip {
			v.Errorf("got %v after %v, want ErrLost within a renewal period", b.Err(), took)
		}
	})
}

// The window is the one of the acquire: a hand-over confirms nothing.
func TestAHandOverDoesNotProlongTheWindow(t *testing.T) {
	inBubble(t, func(v *virtual) {
		o, a := v.contended(context.Background())
		asked := time.Now().Add(-roundTrip) // at the latest
		o.link.mute.Store(true)
		time.Sleep(800 * time.Microsecond)
		b, commands := o.unlockAndCount(a)
		if commands != 0 {
			v.Fatalf("got %d commands, want a hand-over", commands)
		}
		<-b.Done()
		if took := time.Since(asked); !errors.Is(b.Err(), holdfast.ErrLost) || took > 30*time.Second-300*time.Millisecond {
			v.Errorf("got %v after %v, want ErrLost when the window of the acquire is over", b.Err(), took)
		}
	})
}

func TestWhatIsNotHandedOver(t *testing.T) {
	own := []holdfast.AcquireOption{holdfast.WithLease(30 * time.Second)} // the watchdog's lease, but not kept by it
	for name, test := range map[string]struct {
		before      func(o *handOver, h holdfast.Hold) (unlocked holdfast.Hold)
		first, next []holdfast.AcquireOption
	}{
		"a lease of one's own":           {first: own},
		"to one who wants a lease":       {next: own},
		"an outer hold that is the last": {before: reentered},
		"a lease that was extended":      {before: extended},
		"what an undo may release":       {before: reenteredInVain},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(v *virtual) {
				o, h := v.begin()
				o.join(context.Background(), test.first...)
				o.join(context.Background(), test.next...)
				o.unlock(h)
				h = o.next()
				o.link.far.Store(0) // what follows takes no time
				if test.before != nil {
					h = test.before(o, h)
				}
				owner := h.Owner()
				o.unlock(h)
				h = o.next()
				if h.Owner() == owner || h.Err() != nil {
					v.Errorf("got owner %s as before, %v, want another one", owner, h.Err())
				}
				o.link.far.Store(int64(roundTrip))
				o.unlock(h)
				time.Sleep(time.Minute)
				if v.server.Exists("orders") {
					v.Error("the key is left")
				}
			})
		})
	}
}

// reentered enters once more and unlocks the outer hold; the inner one keeps the lock.
func reentered(o *handOver, h holdfast.Hold) holdfast.Hold {
	inner, err := o.link.client.RLock("orders").Lock(h.Context(context.Background()))
	if err != nil {
		o.Fatal(err)
	}
	o.unlock(h)
	if o.server.HGet("orders", inner.Owner()) != "1" || len(o.got) > 0 {
		o.Error("the lock was handed over while it had another hold")
	}
	time.Sleep(roundTrip)
	return inner
}

func extended(o *handOver, h holdfast.Hold) holdfast.Hold {
	if err := h.Extend(context.Background(), time.Hour); err != nil {
		o.Fatal(err)
	}
	return h
}

// reenteredInVain enters once more, but nothing comes of it: it is undone in the background, down to the
// holds that there are.
func reenteredInVain(o *handOver, h holdfast.Hold) holdfast.Hold {
	o.link.mute.Store(true)
	ctx, cancel := context.WithTimeout(h.Context(context.Background()), roundTrip/10)
	defer cancel()
	if _, err := o.link.client.RLock("orders").Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		o.Fatalf("the inner hold: got %v, want that its ctx has ended", err)
	}
	o.link.mute.Store(false)
	return h
}

// A plain lock and a fair one of the same name wait in different places.
func TestAFairLockIsNotHandedOver(t *testing.T) {
	inBubble(t, func(v *virtual) {
		l := v.client()
		fair := l.client.FairLock("orders")
		first, err := fair.Lock(context.Background())
		if err != nil {
			v.Fatal(err)
		}
		o := &handOver{v, l, make(chan locked, 10)}
		o.join(context.Background())
		second := make(chan holdfast.Hold)
		go func() {
			h, err := fair.Lock(context.Background())
			if err != nil {
				v.Error(err)
			}
			second <- h
		}()
		time.Sleep(time.Second)
		l.far.Store(int64(roundTrip))
		o.unlock(first)
		h := <-second
		o.unlock(h)
		if plain := o.next(); plain.Owner() == h.Owner() {
			v.Error("the plain lock was handed the fair one")
		} else {
			o.unlock(plain)
		}
	})
}

// A multi lock asks for its members together; what it waits for is not handed to it.
func TestAMemberIsNotHandedOver(t *testing.T) {
	inBubble(t, func(v *virtual) {
		o, h := v.begin()
		o.join(context.Background())
		go func() {
			c := o.link.client
			h, err := c.MultiLock(c.RLock("orders"), c.RLock("stock")).Lock(context.Background())
			o.got <- locked{h, err}
		}()
		time.Sleep(100 * time.Millisecond)
		o.unlock(h)
		h, commands := o.unlockAndCount(o.next())
		if commands == 0 {
			v.Error("the multi lock asked for nothing")
		}
		o.unlock(h)
		time.Sleep(time.Minute)
		if v.server.Exists("orders") || v.server.Exists("stock") {
			v.Error("a key is left")
		}
	})
}

func TestCloseEndsAHoldThatWasHandedOver(t *testing.T) {
	inBubble(t, func(v *virtual) {
		o, h := v.contended(context.Background())
		h, commands := o.unlockAndCount(h)
		if commands != 0 {
			v.Fatalf("got %d commands, want a hand-over", commands)
		}
		if err := o.link.client.Close(); err != nil {
			v.Error(err)
		}
		if !errors.Is(h.Err(), holdfast.ErrClosed) {
			v.Errorf("got %v, want ErrClosed", h.Err())
		}
	})
}

// A caller that is called in the moment in which its ctx ends has the lock or gives it back.
func TestWhoIsHandedALockAndLeavesGivesItBack(t *testing.T) {
	inBubble(t, func(v *virtual) {
		for _, wait := range []time.Duration{0, time.Nanosecond} {
			o, first := v.begin()
			ctx, cancel := context.WithCancel(context.Background())
			o.join(context.Background())
			o.join(ctx)
			o.join(context.Background())
			o.unlock(first)
			a := o.next()
			go cancel()
			time.Sleep(wait)
			o.unlock(a)
			for range 2 {
				if l := <-o.got; l.err == nil {
					o.unlock(l.hold)
				} else if !errors.Is(l.err, context.Canceled) {
					v.Errorf("got %v, want the lock or that its ctx has ended", l.err)
				}
			}
			synctest.Wait()
			time.Sleep(time.Second)
			if v.server.Exists("orders") {
				v.Error("the key is left")
			}
		}
	})
}
