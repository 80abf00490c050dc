package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/holdfast-go/holdfast"
)

// lockName is the one lock of the show. In Redis it stands behind a prefix, so that a
// show never touches a lock of that name which means something.
const lockName = "orders"

// farewell is how long a worker may take to release and end once its parent is gone.
const farewell = 500 * time.Millisecond

// A worker does the jobs that its parent sends and tells what happens.
type worker struct {
	brief    brief
	lock     func() locker // a new one for each visit
	register *register
	out      io.Writer
	visits   int
}

// A locker is what a worker needs of a holdfast.Lock.
type locker interface {
	Lock(ctx context.Context, opts ...holdfast.AcquireOption) (holdfast.Hold, error)
}

// runWorker is the worker's main. It ends with its standard input: the parent has
// closed it, or is dead.
func runWorker(in io.Reader, out io.Writer) int {
	// A Ctrl-C reaches the whole process group; the parent decides what it means.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	silence()
	lines := json.NewDecoder(in)
	w := &worker{out: out}
	if err := lines.Decode(&w.brief); err != nil {
		fmt.Fprintf(os.Stderr, "holdfast: %s is started by \"holdfast demo\" only\n", workerCommand)
		return exitUsage
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	jobs := make(chan job)
	go func() { // ends with standard input
		defer cancel()
		for {
			var j job
			if lines.Decode(&j) != nil {
				return
			}
			jobs <- j // the parent sends no job before the last one is done
		}
	}()
	context.AfterFunc(ctx, func() { time.AfterFunc(farewell, func() { os.Exit(exitFailure) }) })

	if err := w.serve(ctx, jobs); err != nil && ctx.Err() == nil {
		w.tell(event{Kind: failed, Text: err.Error()})
		return exitFailure
	}
	return exitOK
}

func (w *worker) serve(ctx context.Context, jobs <-chan job) error {
	rdb, err := dial(w.brief.URL, w.brief.Cluster)
	if err != nil {
		return err
	}
	defer rdb.Close()
	l, err := openLocks(w.brief)
	if err != nil {
		return err
	}
	defer l.close()
	w.lock = func() locker { return l.one() }
	if w.brief.Unlocked {
		w.lock = func() locker { return noLock{} }
	}
	w.register = newRegister(rdb, w.brief.Prefix)
	if err := rdb.Ping(ctx).Err(); err != nil {
		return err
	}
	w.tell(event{Kind: ready})
	for {
		select {
		case j := <-jobs:
			if err := w.do(ctx, j); err != nil {
				return err
			}
			w.tell(event{Kind: idle})
		case <-ctx.Done():
			return nil
		}
	}
}

// do visits so many times, or until the job's time has passed.
func (w *worker) do(ctx context.Context, j job) error {
	end := time.Now().Add(j.For)
	for n := 0; n < j.Times || time.Now().Before(end); n++ {
		if err := w.visit(ctx, j.Hold); err != nil {
			return err
		}
	}
	return nil
}

// visit is what every user of a lock does: acquire, work, release.
func (w *worker) visit(ctx context.Context, length time.Duration) error {
	w.tell(event{Kind: waits})
	hold, err := w.lock().Lock(ctx)
	if err != nil {
		return err
	}
	acquired := time.Now()
	w.visits++
	name := fmt.Sprintf("%s/%d", w.brief.Worker, w.visits)
	inside, err := w.register.enter(ctx, name)
	if err != nil {
		return errors.Join(err, hold.Unlock(ctx))
	}
	w.tell(event{Kind: holds, At: acquired, Visit: name, Owner: holderOf(w.brief.Kind, hold.Owner()), Inside: inside})

	trusted := w.work(hold.Context(ctx), hold, length)

	if err := w.register.leave(ctx, name); err != nil {
		return errors.Join(err, hold.Unlock(ctx))
	}
	w.tell(event{Kind: leaves, Visit: name, Trusted: trusted})
	err = hold.Unlock(ctx)
	w.tell(event{Kind: left, Visit: name, Lost: errors.Is(err, holdfast.ErrLost)})
	if errors.Is(err, holdfast.ErrLost) {
		return nil // told, and for the parent to judge
	}
	return err
}

// work works until its time is over or ctx ends, which it does when the hold is lost.
// It returns the last moment at which the hold was found good: a worker may be stopped
// between any two lines, but at that moment it did rely on the lock.
func (w *worker) work(ctx context.Context, hold holdfast.Hold, length time.Duration) (trusted time.Time) {
	trusted = time.Now()
	step := time.NewTicker(2 * time.Millisecond)
	defer step.Stop()
	done := time.NewTimer(length)
	defer done.Stop()
	for {
		if now := time.Now(); hold.Err() == nil {
			trusted = now
		}
		select {
		case <-step.C: // go on
		case <-done.C:
			return trusted
		case <-ctx.Done():
			if cause := context.Cause(ctx); errors.Is(cause, holdfast.ErrLost) {
				w.tell(event{Kind: lost, Text: cause.Error()})
			}
			return trusted
		}
	}
}

// tell fills in who and when. An error means that the parent is gone, and so is its
// standard input.
func (w *worker) tell(e event) {
	e.Worker = w.brief.Worker
	if e.At.IsZero() {
		e.At = time.Now()
	}
	_ = tell(w.out, e)
}

// noLock lets everybody in. It is there to see that the register notices.
type noLock struct{}

type noHold struct{ holdfast.Hold }

func (noLock) Lock(context.Context, ...holdfast.AcquireOption) (holdfast.Hold, error) {
	return noHold{}, nil
}

func (noHold) Owner() string                                  { return "nobody:0" }
func (noHold) Context(parent context.Context) context.Context { return parent }
func (noHold) Err() error                                     { return nil }
func (noHold) Unlock(context.Context) error                   { return nil }
