package multilock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/tracing"
)

// A hold is the holds of a group's members as one. It lives as long as enough of them
// do: all of a multi lock's, a majority of a quorum lock's.
type hold struct {
	group *group
	need  int

	mu       sync.Mutex
	members  []engine.Held              // those that live; a quorum lock's come and go. What is in it stays: it may be read without the mutex
	latest   []engine.Held              // of each member the latest one there was; the same
	coming   []engine.Carrier           // owners of those that are on their way
	closed   []engine.Held              // those whose client was closed: Unlock still releases them
	debts    map[*engine.Lock]time.Time // a quorum lock's that are no members, but may be in Redis until then at most
	lease    time.Duration              // the longest that a member may have
	extended time.Time                  // until when Extend has made them last
	owner    string                     // of the first one there was
	count    int
	life     engine.Life
	leaving  bool          // Unlock is under way: it says how it ends
	lost     error         // the last loss of a member that did not end the hold
	unlocked chan struct{} // made by the first Unlock, closed when that is over
	span     tracing.Hold
	ended    func()                   // told of the end
	onEnd    func(engine.Held, error) // see OnEnd
	kept     bool                     // a keeper looks after it
}

var _ locking.Hold = (*hold)(nil)

// newHold makes a hold of members that were just acquired, whose slice is its own then; a quorum lock's with the longest lease of them.
func newHold(g *group, members []engine.Held, need int, lease time.Duration) *hold {
	h := &hold{group: g, need: need, lease: lease, owner: members[0].Owner()}
	counts := make([]int, len(members))
	for i, m := range members {
		counts[i] = m.Count()
	}
	h.count = reached(counts, need)
	h.members = slices.Clip(members)
	h.latest = h.members
	for _, m := range members {
		m.OnEnd(h.memberEnded)
	}
	return h
}

func (h *hold) Name() string  { return h.group.name }
func (h *hold) Owner() string { return h.owner }
func (h *hold) Count() int    { return h.count }

// memberEnded takes a member out that has ended by itself. If there are not enough left
// the hold ends, and the others are released; not if a client was closed, the work may go on then.
func (h *hold) memberEnded(m engine.Held, cause error) {
	h.mu.Lock()
	for i, member := range h.members {
		if member == m {
			if i == 0 { // mostly, as they are released in this order: nothing is to be copied
				h.members = h.members[1:]
			} else {
				h.members = append(h.members[:i:i], h.members[i+1:]...)
			}
			if errors.Is(cause, locking.ErrClosed) || hasClosed(m) {
				h.closed = append(h.closed, m)
			}
			if j := slices.IndexFunc(h.group.given, func(l *engine.Lock) bool { return l.Owns(m) }); j >= 0 && errors.Is(cause, locking.ErrLost) {
				h.addDebt(h.group.given[j], time.Now().Add(h.lease)) // gone, or not heard of any more
			}
			break
		}
	}
	over, lost := !h.leaving && len(h.members) < h.need && h.life.Err == nil, errors.Is(cause, locking.ErrLost)
	if over || lost {
		cause = m.MemberError(cause)
	}
	if over {
		h.life.End(cause)
	} else if lost {
		h.lost = cause
	}
	rest := h.members
	h.mu.Unlock()
	if !over {
		return
	}
	for _, other := range rest {
		if errors.Is(cause, locking.ErrClosed) {
			other.Abandon() // the work may go on: its locks stay as long as those of the closed client
		} else {
			other.Lose()
		}
	}
	h.finish()
}

// finish ends the span, and what looks after the hold.
func (h *hold) finish() {
	h.mu.Lock()
	cause, span, ended, onEnd := h.life.Err, h.span, h.ended, h.onEnd
	h.mu.Unlock()
	span.End(engine.OutcomeOf(cause))
	if ended != nil {
		ended()
	}
	if onEnd != nil {
		onEnd(h, cause)
	}
}

// trace gives the hold its span, unless it has ended meanwhile.
func (h *hold) trace(span tracing.Hold) {
	h.mu.Lock()
	h.span = span
	ended := h.life.Err
	h.mu.Unlock()
	if ended != nil {
		span.End(engine.OutcomeOf(ended))
	}
}

// look has each member look at the clock, which may end the hold.
func (h *hold) look() {
	for _, m := range h.living() {
		_ = m.Err()
	}
}

func (h *hold) living() []engine.Held {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.members
}

// Err is nil while enough members are held.
func (h *hold) Err() error {
	h.look()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.life.Err
}

// isLive tells whether nobody has seen the hold end.
func (h *hold) isLive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.life.Err == nil
}

// Done is closed once the hold has ended.
func (h *hold) Done() <-chan struct{} {
	h.look()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.life.Done()
}

// Context returns a context that ends with the hold and carries an owner for each member.
func (h *hold) Context(parent context.Context) context.Context {
	if parent == nil {
		parent = context.Background()
	}
	h.look()
	return h.life.Context(&h.mu, parent, h.Carry(parent))
}

// Extend lengthens the lease of the members; it fails unless enough are.
func (h *hold) Extend(ctx context.Context, lease time.Duration) error {
	if err := h.extend(ctx, lease); err != nil {
		return fmt.Errorf("extend %q: %w", h.Name(), err)
	}
	return nil
}

func (h *hold) extend(ctx context.Context, lease time.Duration) error {
	if ctx == nil {
		return errors.New("holdfast: ctx is nil")
	}
	if err := locking.CheckDuration("lease", lease); err != nil {
		return err
	}
	if err := h.Err(); err != nil {
		return err
	}
	h.mu.Lock()
	h.lease = max(h.lease, lease)
	if until := time.Now().Add(lease); until.After(h.extended) {
		h.extended = until
	}
	members := h.members // those that join after this see until when
	h.mu.Unlock()
	errs := make(chan error, len(members))
	for _, m := range members {
		go func() { // ends with ctx or with the member
			errs <- m.MemberError(m.Extend(ctx, lease))
		}()
	}
	extended, refused := 0, []error(nil)
	for range members {
		if err := <-errs; err != nil {
			refused = append(refused, err)
			if h.need == len(members) && engine.ClassOf(err) == script.Refused {
				break // whatever the others say
			}
		} else if extended++; extended >= h.need && h.need < len(members) {
			return h.Err()
		}
	}
	if err := h.Err(); err != nil {
		return err
	}
	if extended < h.need {
		return errors.Join(refused...)
	}
	return nil
}

// Unlock releases the members, those that go together in one call, and tries each of them. After a
// loss the members of closed clients are all that is left to release.
func (h *hold) Unlock(ctx context.Context) error {
	if ctx == nil {
		ctx = context.Background()
	}
	lost := h.Err() // looks, and releases the others if one is lost
	h.mu.Lock()
	over := h.unlocked
	if over == nil {
		h.unlocked = make(chan struct{})
	}
	h.leaving = true
	if lost == nil {
		lost = h.life.Err // a moment ago
	}
	h.mu.Unlock()
	if over != nil {
		<-over // bounded by the first call's limit
		return nil
	}
	defer close(h.unlocked)

	tracer := h.group.tracer
	if h.isPart() {
		tracer = nil
	}
	span := tracer.Release(ctx, h.group.kind, h.Name(), h.owner)
	err := h.unlock(ctx, lost)
	if err != nil {
		err = fmt.Errorf("unlock %q: %w", h.Name(), err)
	}
	span.End(err)
	return err
}

func (h *hold) unlock(ctx context.Context, lost error) error {
	h.mu.Lock()
	members, closed, owed := h.members, h.closed, h.owed()
	h.mu.Unlock()
	if errors.Is(lost, locking.ErrLost) {
		unlockAll(ctx, closed, len(closed), len(closed)) // the others were released when the hold ended
		return lost
	}
	members = append(slices.Clip(members), closed...)
	free := len(h.group.parts) - len(members) - owed // the hold has nothing of these
	errs := unlockAll(ctx, members, h.need-free, h.need)
	released, losses := 0, 0
	for _, err := range errs {
		switch {
		case err == nil:
			released++
		case errors.Is(err, locking.ErrLost):
			losses++
		}
	}
	lost = nil
	if len(members) < h.need {
		h.mu.Lock()
		lost = h.lost // which Unlock had not seen when it began
		h.mu.Unlock()
	}
	var err error
	if over := len(members)-losses < h.need; over || free+released < h.need {
		err = errors.Join(unlockErrors(errs, over), lost)
	}
	h.mu.Lock()
	cause := locking.ErrUnlocked
	if errors.Is(err, locking.ErrLost) {
		cause = locking.ErrLost
	}
	ended := h.life.End(cause)
	h.mu.Unlock()
	if ended {
		h.finish()
	}
	return err
}

// unlockErrors joins what became of the members. A loss that left enough of them does not make it a
// loss of the hold: then only its words are told.
func unlockErrors(errs []error, lost bool) error {
	told := make([]error, len(errs))
	for i, err := range errs {
		if told[i] = err; !lost && errors.Is(err, locking.ErrLost) {
			told[i] = errors.New(err.Error())
		}
	}
	return errors.Join(told...)
}
