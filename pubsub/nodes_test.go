package pubsub

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// fakes are servers for virtual time. Their wires block as go-redis's PubSub does: a
// write or a dial that hangs holds up Close too.
type fakes struct {
	mu        sync.Mutex
	nodes     map[string]*fakeNode
	owner     map[string]string // channel -> node; empty: one node has all
	picture   map[string]string // what the client knows of owner
	forbidden map[string]bool
	latency   time.Duration
	confirmed map[string]int // confirmations that were read, by channel
	messages  map[string]int
}

// A fakeNode is in one of several states.
type fakeNode struct {
	name    string
	refuses bool // dials
	stalled bool // answers later, when it is not stalled any more
	blocked bool // writes hang as well
	deaf    bool // messages still come, commands are lost
	wires   map[*fakeWire]struct{}
	written []int // how many channels each SUBSCRIBE had
}

func newFakes(names ...string) *fakes {
	f := &fakes{
		nodes: map[string]*fakeNode{}, owner: map[string]string{}, picture: map[string]string{},
		forbidden: map[string]bool{}, confirmed: map[string]int{}, messages: map[string]int{},
		latency: 137 * time.Microsecond,
	}
	for _, name := range names {
		f.nodes[name] = &fakeNode{name: name, wires: map[*fakeWire]struct{}{}}
	}
	return f
}

// manager makes a manager of these servers, in a cluster if there are several.
func (f *fakes) manager(config Config) *Manager {
	m := New(nil, config)
	m.find = func(_ context.Context, channel string) (server, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		n := f.nodes[f.picture[channel]]
		return server{name: n.name, sharded: len(f.nodes) > 1, open: func(context.Context) wire { return f.open(n) }}, nil
	}
	return m
}

func (f *fakes) do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// move gives a channel to another node, of which the client learns a bit later.
func (f *fakes) move(channel, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.nodes[f.owner[channel]].wires {
		if w.channels[channel] {
			delete(w.channels, channel)
			w.reply(&redis.Subscription{Kind: "sunsubscribe", Channel: channel})
		}
	}
	f.owner[channel] = to
	time.AfterFunc(50*time.Millisecond, func() { f.do(func() { f.picture[channel] = f.owner[channel] }) })
}

// publish publishes to who is subscribed now.
func (f *fakes) publish(channel string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		for w := range n.wires {
			if w.channels[channel] {
				w.reply(&redis.Message{Channel: channel})
			}
		}
	}
}

// kill cuts a node's connections. Under f.mu.
func (n *fakeNode) kill() {
	for w := range n.wires {
		close(w.cut)
		delete(n.wires, w)
	}
}

// halve loses the way to all connections, of which the server forgets. Under f.mu.
func (n *fakeNode) halve() {
	for w := range n.wires {
		w.half = true
		delete(n.wires, w)
	}
}

// resume ends a stall: what was written meanwhile is answered. Under f.mu.
func (n *fakeNode) resume() {
	n.stalled, n.blocked = false, false
	for w := range n.wires {
		held := w.held
		w.held = nil
		for _, h := range held {
			h()
		}
	}
}

// A fakeWire is one connection.
type fakeWire struct {
	*fakes
	node     *fakeNode
	lock     chan struct{} // go-redis's mutex; a channel, so that virtual time passes meanwhile
	dialled  bool
	closed   chan struct{}
	cut      chan struct{} // by the server
	frames   chan fakeFrame
	channels map[string]bool
	half     bool // open: nothing passes any more, and nobody is told
	held     []func()
}

type fakeFrame struct {
	at    time.Time
	frame any
}

func (f *fakes) open(n *fakeNode) *fakeWire {
	return &fakeWire{
		fakes: f, node: n, lock: make(chan struct{}, 1), closed: make(chan struct{}), cut: make(chan struct{}),
		frames: make(chan fakeFrame, 1<<16), channels: map[string]bool{},
	}
}

// A refusal is an error reply.
type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) RedisError()     {}

const netTimeout = 5 * time.Second // of dials and writes

// reply sends a frame, or holds it back while the node is stalled. Under f.mu.
func (w *fakeWire) reply(frame any) {
	if w.half {
		return
	}
	if w.node.stalled {
		w.held = append(w.held, func() { w.reply(frame) })
		return
	}
	w.frames <- fakeFrame{time.Now().Add(w.latency), frame}
}

// command writes one command, which dials first when it is the first.
func (w *fakeWire) command(ctx context.Context, execute func()) error {
	w.lock <- struct{}{}
	defer func() { <-w.lock }()
	if err := w.dial(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	blocked := w.node.blocked
	w.mu.Unlock()
	if blocked {
		select {
		case <-time.After(netTimeout):
			return errors.New("write timeout")
		case <-w.cut:
		}
	}
	select {
	case <-w.cut:
		return io.ErrClosedPipe
	default:
	}
	w.do(func() {
		switch {
		case w.node.stalled:
			w.held = append(w.held, execute)
		case !w.node.deaf && !w.half:
			execute()
		}
	})
	return nil
}

func (w *fakeWire) dial(ctx context.Context) error {
	select {
	case <-w.closed:
		return redis.ErrClosed
	default:
	}
	if w.dialled {
		return nil
	}
	w.mu.Lock()
	refuses, hangs := w.node.refuses, w.node.stalled || w.node.blocked
	w.mu.Unlock()
	if refuses {
		return errors.New("connection refused")
	}
	if hangs {
		select {
		case <-time.After(netTimeout):
			return errors.New("dial timeout")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w.dialled = true
	w.do(func() { w.node.wires[w] = struct{}{} })
	return nil
}

func (w *fakeWire) Subscribe(ctx context.Context, channels ...string) error {
	return w.command(ctx, func() { w.subscribe("subscribe", channels) })
}

func (w *fakeWire) SSubscribe(ctx context.Context, channels ...string) error {
	return w.command(ctx, func() { w.subscribe("ssubscribe", channels) })
}

func (w *fakeWire) subscribe(kind string, channels []string) {
	w.node.written = append(w.node.written, len(channels))
	for _, c := range channels {
		if kind == "ssubscribe" && w.owner[c] != w.node.name {
			w.reply(refusal("MOVED 1 " + w.owner[c]))
			return
		}
		if w.forbidden[c] {
			w.reply(refusal("NOPERM this user has no permissions to access one of the channels"))
			return
		}
	}
	for _, c := range channels {
		w.channels[c] = true
		w.reply(&redis.Subscription{Kind: kind, Channel: c})
	}
}

func (w *fakeWire) Unsubscribe(ctx context.Context, channels ...string) error {
	return w.command(ctx, func() { w.unsubscribe("unsubscribe", channels) })
}

func (w *fakeWire) SUnsubscribe(ctx context.Context, channels ...string) error {
	return w.command(ctx, func() { w.unsubscribe("sunsubscribe", channels) })
}

func (w *fakeWire) unsubscribe(kind string, channels []string) {
	for _, c := range channels {
		if kind == "sunsubscribe" && w.owner[c] != w.node.name {
			w.reply(refusal("MOVED 1 " + w.owner[c]))
			return
		}
		delete(w.channels, c)
		w.reply(&redis.Subscription{Kind: kind, Channel: c})
	}
}

func (w *fakeWire) Ping(ctx context.Context, _ ...string) error {
	return w.command(ctx, func() { w.reply(&redis.Pong{}) })
}

func (w *fakeWire) ReceiveTimeout(_ context.Context, timeout time.Duration) (any, error) {
	select {
	case f := <-w.frames:
		time.Sleep(time.Until(f.at)) // in virtual time: the way through the network
		return w.read(f.frame)
	case <-w.cut:
		return nil, io.EOF
	case <-w.closed:
		return nil, redis.ErrClosed
	case <-time.After(timeout):
		return nil, errors.New("read timeout")
	}
}

func (w *fakeWire) read(frame any) (any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch f := frame.(type) {
	case error:
		return nil, f
	case *redis.Message:
		w.messages[f.Channel]++
	case *redis.Subscription:
		if f.Kind == "subscribe" || f.Kind == "ssubscribe" {
			w.confirmed[f.Channel]++
		}
	}
	return frame, nil
}

func (w *fakeWire) Close() error {
	w.lock <- struct{}{}
	defer func() { <-w.lock }()
	close(w.closed)
	w.do(func() { delete(w.node.wires, w) })
	return nil
}
