package engine

import (
	"context"
	"sync"
)

// A Life is what shows the end of a hold to its users: an error, a channel, contexts.
// Whoever has it guards it with a mutex, so that the three agree whoever looks.
type Life struct {
	Err      error         // nil until the end
	done     chan struct{} // made when somebody asks for it
	contexts map[*lifeContext]struct{}
}

// A lifeContext is one context that ends with the life.
type lifeContext struct {
	cancel context.CancelCauseFunc
	stop   func() bool // no longer forget it when its parent ends
}

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done is closed at the end. Under the mutex.
func (l *Life) Done() <-chan struct{} {
	if l.done == nil {
		if l.Err != nil {
			return closedChan
		}
		l.done = make(chan struct{})
	}
	return l.done
}

// Context returns ctx, which has parent's end, so that it also ends with the life. It
// takes the mutex.
func (l *Life) Context(mu *sync.Mutex, parent, ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	mu.Lock()
	defer mu.Unlock()
	if l.Err != nil {
		cancel(l.Err)
		return ctx
	}
	c := &lifeContext{cancel: cancel, stop: func() bool { return true }}
	if l.contexts == nil {
		l.contexts = map[*lifeContext]struct{}{}
	}
	l.contexts[c] = struct{}{}
	if parent.Done() != nil {
		// A long hold may make many contexts with short-lived parents.
		c.stop = context.AfterFunc(parent, func() {
			mu.Lock()
			defer mu.Unlock()
			delete(l.contexts, c)
		})
	}
	return ctx
}

// End ends it and tells whether it did. Under the mutex: cancelling runs nobody's code,
// context starts goroutines for that.
func (l *Life) End(cause error) bool {
	if l.Err != nil {
		return false
	}
	l.Err = cause
	for c := range l.contexts {
		c.stop()
		c.cancel(cause)
	}
	l.contexts = nil
	if l.done != nil {
		close(l.done)
	}
	return true
}
