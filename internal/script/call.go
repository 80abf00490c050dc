package script

import (
	"fmt"
	"time"
)

// An Op is one operation: a verb with its keys and arguments.
type Op struct {
	Verb *Verb
	Keys []string // at least one; all in one slot
	Args []any    // strings and whole numbers

	ops []Op // of an All, in place of Args
}

// size is at most the number of its arguments.
func (op *Op) size() int {
	n := len(op.Args)
	for i := range op.ops {
		n += 4 + len(op.ops[i].Args)
	}
	return n
}

// appendArgs writes its arguments as dispatch.lua reads them, or a verb that does several.
func (op *Op) appendArgs(args []any) []any {
	if op.ops == nil {
		return append(args, op.Args...)
	}
	if op.Verb != all {
		args = append(args, len(op.ops))
	}
	for i := range op.ops {
		o := &op.ops[i]
		if op.Verb == all {
			args = append(args, o.Verb.word, o.Verb.Undo.word, len(o.Keys), len(o.Args))
		}
		args = append(args, o.Args...)
	}
	return args
}

// An Answer is what became of one operation.
type Answer struct {
	Reply []any // what the script returned; not to be changed
	Err   error // the operation's own error, or its call's; ClassOf tells what it means
}

// read reads an answer as dispatch.lua writes it.
func read(answer any) Answer {
	switch answer := answer.(type) {
	case int64:
		if 0 <= answer && answer < int64(len(done)) {
			return Answer{Reply: done[answer].reply}
		}
		return Answer{Reply: []any{int64(1), answer}}
	case []any:
		return Answer{Reply: answer}
	case string:
		return Answer{Err: newReplyError(answer)}
	default:
		return Answer{Err: fmt.Errorf("%w: %v", errReply, answer)}
	}
}

// done are the replies {1, 0}, {1, 1} and so on: nearly all that there are, and made once.
var done = func() (made [4]struct {
	reply   []any
	numbers []int64
}) {
	for n := range made {
		made[n].reply = []any{int64(1), int64(n)}
		made[n].numbers = []int64{1, int64(n)}
	}
	return made
}()

// Numbers returns all of a reply of at least n numbers, as Ints does.
func (a Answer) Numbers(n int) ([]int64, error) { return a.Ints(max(n, len(a.Reply))) }

// Ints returns the first n numbers of the reply, not to be changed, and an error when the reply is
// anything else: a foreign server must not make us panic or guess.
func (a Answer) Ints(n int) ([]int64, error) {
	if a.Err != nil {
		return nil, a.Err
	}
	if len(a.Reply) < n {
		return nil, fmt.Errorf("%w: %v", errReply, a.Reply)
	}
	for i := range done {
		if n > 0 && &a.Reply[0] == &done[i].reply[0] {
			return done[i].numbers[:n], nil
		}
	}
	out := make([]int64, n)
	for i := range out {
		v, ok := a.Reply[i].(int64)
		if !ok {
			return nil, fmt.Errorf("%w: %v", errReply, a.Reply)
		}
		out[i] = v
	}
	return out, nil
}

// A Call is some operations on their way to one server.
type Call struct {
	ops     []Op
	lanes   *lanes
	done    chan struct{}
	sent    time.Time // written by its lane before it goes out
	answers []Answer  // written before done is closed
	op      [1]Op     // the room for a single one
	answer  [1]Answer

	state callState     // guarded by lanes.mu
	hooks []func(*Call) // guarded by lanes.mu
}

type callState uint8

const (
	queued callState = iota
	out
	withdrawn
	answered
)

// Done is closed once the answers are there.
func (c *Call) Done() <-chan struct{} { return c.done }

// Answers tells what became of the operations, in their order. Valid once Done
// is closed.
func (c *Call) Answers() []Answer { return c.answers }

// Sent tells when the copy went out that was answered; a trust window counts
// from here. Valid once Done is closed.
func (c *Call) Sent() time.Time { return c.sent }

// Withdraw takes the call back if it has not been sent yet, and tells whether
// it did: then nothing was or will be executed, and Done is never closed.
// False means that it may have been executed, or will be.
func (c *Call) Withdraw() bool {
	c.lanes.mu.Lock()
	defer c.lanes.mu.Unlock()
	if c.state != queued {
		return c.state == withdrawn
	}
	c.state = withdrawn
	c.ops, c.op, c.answers, c.hooks = nil, [1]Op{}, nil, nil // it stays in the queue until a lane comes by
	return true
}

// Queued tells whether the call still waits for a lane.
func (c *Call) Queued() bool {
	c.lanes.mu.Lock()
	defer c.lanes.mu.Unlock()
	return c.state == queued
}

// Then has fn called once the call is answered, at once if it is already. fn must
// not block.
func (c *Call) Then(fn func(*Call)) {
	c.lanes.mu.Lock()
	late := c.state == answered
	if !late {
		c.hooks = append(c.hooks, fn)
	}
	c.lanes.mu.Unlock()
	if late {
		fn(c)
	}
}

func (c *Call) finish() {
	close(c.done)
	c.lanes.mu.Lock()
	c.state = answered
	hooks := c.hooks
	c.lanes.mu.Unlock()
	for _, hook := range hooks {
		hook(c)
	}
}
