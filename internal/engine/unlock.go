package engine

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
)

// A leaving is one hold of several on its way out.
type leaving struct {
	h       *hold
	inside  bool // within its trust window
	turn    bool // its owner's
	after   int
	call    *script.Call // nil until its release is sent
	share   int
	settled bool
	err     error
}

// UnlockAll releases the holds of several locks, those that go together in one call. It
// returns an error for each, nil or not, once enough of them are released, or nothing
// more can be expected within Unlock's limit. Once the least number of them is released, it waits for the
// others only for a moment. The rest is released in the background. If none can be spared, what is not
// answered is sent again until the limit.
//
// Nobody waits for somebody else: those whose owners are free go out at once, those with a
// re-entry under way when that is over, and each is sent again by itself if it has to be. The
// turn of an owner that has holds left is given back as soon as its release is answered, so that it is
// not kept while another one is waited for.
func UnlockAll(ctx context.Context, members []Held, least, enough int) []error {
	x := leaveAll(patience{ctx: context.WithoutCancel(ctx), until: time.Now().Add(unlockLimit)}, members, least, enough)
	errs := make([]error, len(members))
	for i := range x.leavers {
		if l := &x.leavers[i]; l.err != nil {
			errs[i] = l.h.MemberError(l.err)
		}
	}
	return errs
}

// leaveAll releases holds, and waits within the patience until enough of them are.
func leaveAll(p patience, members []Held, least, enough int) *exit {
	now := time.Now()
	x := &exit{
		p: p, patient: least >= len(members), least: least, enough: enough,
		leavers: make([]leaving, len(members)),
		news:    news{wake: make(chan struct{}, 1), reports: make([]report, 0, len(members))},
	}
	for i, m := range members {
		h := m.(*hold)
		x.leavers[i] = leaving{h: h, inside: h.owner.stateAt(now) == nil}
	}
	x.start()
	x.wait(now.Add(aMoment))
	x.end()
	return x
}

// An exit is one UnlockAll on its way. One goroutine runs it; what others wait for, they
// report, and it is woken when that may be enough.
type exit struct {
	p       patience
	patient bool // what is not answered is sent again
	least   int  // so many have to be released
	enough  int  // for more than so many it does not wait at all
	leavers []leaving
	news    news

	settled, released int

	limited context.Context // of others; nil: there are none
	cancel  context.CancelFunc
	others  sync.WaitGroup // goroutines that wait for a turn, or send again
}

// A report is what has come of one step of a leaving.
type report struct {
	l    *leaving
	step step
	err  error
}

// news are the reports that were not heard yet.
type news struct {
	wake chan struct{} // capacity 1

	mu       sync.Mutex
	reports  []report
	out      int // releases that were not answered yet
	released int // those whose answers say so
}

// take empties it.
func (n *news) take() []report {
	n.mu.Lock()
	defer n.mu.Unlock()
	reports := n.reports
	n.reports = nil
	return reports
}

type step uint8

const (
	turned   step = iota // it has its owner's turn, unless there is an error
	answered             // its release has come back
	again                // so have the copies that were sent after it
)

// start sends those that can go at once.
func (x *exit) start() {
	ready := make([]*leaving, 0, len(x.leavers))
	for i := range x.leavers {
		l := &x.leavers[i]
		o := l.h.owner
		if l.turn = o.tryTake() == nil; !l.turn {
			ctx := x.within()
			x.others.Go(func() { x.tell(report{l, turned, o.take(ctx, nil)}) }) // ends with the limit, or with end
		} else if x.begin(l) {
			ready = append(ready, l)
		}
	}
	x.send(ready)
}

// within is a context for others, which ends with the limit, or with end.
func (x *exit) within() context.Context {
	if x.limited == nil {
		x.limited, x.cancel = x.p.limited()
	}
	return x.limited
}

// begin takes the hold out of its owner, whose turn it has; false if it is lost.
func (x *exit) begin(l *leaving) bool {
	var lost bool
	if l.after, lost = l.h.owner.leave(l.h); lost {
		x.over(l, locking.ErrLost)
	}
	return !lost
}

// send sends releases, in one call those that go together.
func (x *exit) send(ready []*leaving) {
	x.news.mu.Lock()
	x.news.out += len(ready)
	x.news.mu.Unlock()
	for len(ready) > 0 {
		batch, rest := goTogether(ready, (*owner).server)
		ready = rest
		ops := make([]script.Op, 0, 8) // mostly on the stack
		for i, l := range batch {
			ops, l.share = append(ops, l.h.owner.releaseOp(l.after)), i
		}
		call := batch[0].h.owner.engine.sender.Start(ops...)
		for _, l := range batch {
			l.call = call
		}
		call.Then(func(*script.Call) {
			for _, l := range batch {
				x.tell(report{l: l, step: answered})
			}
		})
	}
}

// tell reports, and wakes who waits unless it only confirms what more is needed of: with one caller a wake-up
// costs as much as all else. Others may wait for the turn of an owner that has holds left.
func (x *exit) tell(r report) {
	n := &x.news
	n.mu.Lock()
	n.reports = append(n.reports, r)
	enough := true
	if r.step == answered {
		n.out--
		if v, err := r.l.call.Answers()[r.l.share].Ints(1); err == nil && v[0] != gone && r.l.after == 0 {
			n.released++
			enough = n.released >= min(x.least, x.enough) || n.out == 0
		}
	}
	n.mu.Unlock()
	if enough {
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

// goTogether splits off those that can go in one call with the first; ready is used up. It asks for each one's server
// once: a cluster's slots may move between two questions.
func goTogether(ready []*leaving, server func(*owner) string) (batch, rest []*leaving) {
	first := ready[0].h.owner
	place := server(first)
	batch = ready[:1]
	for _, l := range ready[1:] {
		if o := l.h.owner; o.engine == first.engine && server(o) == place {
			batch = append(batch, l)
		} else {
			rest = append(rest, l)
		}
	}
	return batch, rest
}

// server names the server that has the owner's lock, as far as that is known.
func (o *owner) server() string { return o.engine.sender.Server(o.target.Key) }

// wait waits until enough are released, nothing is expected any more, or the limit; and for what can be spared
// only until that moment.
func (x *exit) wait(moment time.Time) {
	for x.released < x.enough && x.settled < len(x.leavers) {
		now := time.Now()
		brief := !now.Before(moment)
		if brief && x.hearAll() { // also those for whom nobody was woken
			continue
		}
		if brief && x.released >= x.least || !now.Before(x.p.until) || x.p.ctx.Err() != nil {
			return
		}
		limit := x.p.until
		if !brief && moment.Before(limit) {
			limit = moment
		}
		look, off := x.leavers[0].h.owner.engine.clock.towards(limit)
		select {
		case <-x.news.wake:
			x.hearAll()
		case <-look:
		case <-x.p.ctx.Done():
		}
		off()
	}
}

// end stops those who still wait, takes what has come until then, and leaves the rest to
// the background.
func (x *exit) end() {
	if x.limited != nil {
		x.cancel()
		x.others.Wait()
	}
	x.patient = false
	for _, r := range x.news.take() {
		if r.step == turned {
			r.l.turn = r.err == nil // too late to send anything and wait for it
		} else {
			x.hear(r)
		}
	}
	for i := range x.leavers {
		l := &x.leavers[i]
		switch {
		case l.settled:
		case l.call == nil:
			err := errSilent
			if l.h.drop(locking.ErrUnlocked) {
				err = locking.ErrLost
			}
			x.over(l, err)
		default:
			x.over(l, l.h.leftBehind(l.after, l.call, l.share))
		}
	}
}

// hearAll tells whether there was anything.
func (x *exit) hearAll() bool {
	reports := x.news.take()
	for _, r := range reports {
		x.hear(r)
	}
	return len(reports) > 0
}

func (x *exit) hear(r report) {
	l := r.l
	switch {
	case r.step == again:
		x.settle(l, r.err)
	case r.step == answered:
		x.answered(l)
	case r.err == nil:
		if l.turn = true; x.begin(l) {
			x.send([]*leaving{l})
		}
	}
}

// answered reads the answer to a release. Without a good one it is sent again, if the
// caller has the patience for it.
func (x *exit) answered(l *leaving) {
	o := l.h.owner
	answer := l.call.Answers()[l.share]
	class := script.ClassOf(answer.Err)
	switch {
	case class == script.Done:
		x.settle(l, o.told(answer, l.after, l.inside, false))
	case x.patient && class != script.Refused:
		p := &patience{ctx: x.within(), until: x.p.until, waited: true}
		x.others.Go(func() { // ends with the limit, or with end
			x.tell(report{l, again, o.release(p, l.after, l.inside, class == script.Unknown)})
		})
	default:
		x.settle(l, answer.Err)
	}
}

// settle ends the hold as its release ended.
func (x *exit) settle(l *leaving, err error) { x.over(l, l.h.released(l.after, err)) }

func (x *exit) over(l *leaving, err error) {
	l.settled, l.err = true, err
	x.settled++
	if err == nil {
		x.released++
	}
	if l.turn {
		l.h.owner.give()
	}
}
