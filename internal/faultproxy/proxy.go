package faultproxy

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/redistest/loopback"
)

// A Proxy forwards connections to one server. Its methods may be called from
// any goroutine.
type Proxy struct {
	upstream string
	port     *loopback.Port
	tasks    sync.WaitGroup // accept loops and both loops of each connection

	mu          sync.Mutex
	listener    net.Listener // nil while it refuses
	closed      bool
	conns       map[int]*conn
	accepted    int
	rules       rules
	seen        map[string]int
	log         []Event
	black       bool
	blackPubSub bool
}

// closeLimit is far above what Close takes: at most the five seconds of a dial
// that a server does not answer.
const closeLimit = 30 * time.Second

// New runs a proxy to the server at this address. It is closed when the test
// ends; without a test, t is nil, a failure panics, and the caller must Close.
// A client of a dead server is accepted and reset at once; for a refused dial
// there is Refuse.
func New(t testing.TB, upstream string, seed uint64) *Proxy {
	p, err := Listen(upstream, seed)
	if t == nil {
		if err != nil {
			panic(err)
		}
		return p
	}
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.closeWithin(t, closeLimit) })
	return p
}

func (p *Proxy) closeWithin(t testing.TB, limit time.Duration) {
	t.Helper()
	closed := make(chan struct{})
	go func() { // ends with Close
		p.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(limit):
		t.Errorf("faultproxy: Close has not ended in %v; connections left: %v", limit, p.Conns())
	}
}

// Listen is New without a test: the caller must Close the proxy.
func Listen(upstream string, seed uint64) (*Proxy, error) {
	port, err := loopback.Hold()
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		upstream: upstream, port: port, rules: rules{seed: seed},
		conns: map[int]*conn{}, seen: map[string]int{},
	}
	if err := p.Refuse(false); err != nil {
		port.Close()
		return nil, err
	}
	return p, nil
}

// Addr is where clients connect.
func (p *Proxy) Addr() string { return p.port.Addr() }

// Close resets every connection, stops listening, and waits until nothing of
// the proxy runs. Held requests and replies are lost.
func (p *Proxy) Close() {
	_ = p.Refuse(true)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.KillAll()
	p.tasks.Wait()
	p.port.Close()
}

// Refuse has the kernel refuse new connections, or accept them again. Those
// that exist go on.
func (p *Proxy) Refuse(on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case on && p.listener != nil:
		err := p.listener.Close()
		p.listener = nil
		return err
	case !on && p.listener == nil && !p.closed:
		listener, err := net.Listen("tcp", p.Addr())
		if err != nil {
			return fmt.Errorf("faultproxy: %w", err)
		}
		p.listener = listener
		p.tasks.Go(func() { p.accept(listener) }) // ends when the listener is closed
	}
	return nil
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		p.tasks.Go(func() { p.serve(client.(*net.TCPConn)) }) // ends with its connection
	}
}

// KillAll resets every connection.
func (p *Proxy) KillAll() {
	p.mu.Lock()
	all := slices.Collect(maps.Values(p.conns))
	p.mu.Unlock()
	for _, c := range all {
		c.reset()
	}
}

// BlackHole makes every connection half-open: they stay established, new ones
// are accepted, and nothing passes in either direction, nor does the end of the
// server's side. When it is switched off, connections that lost bytes or were
// made meanwhile stay silent; those that had nothing to send go on.
func (p *Proxy) BlackHole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.black = on
}

// BlackHolePubSub is BlackHole for connections that have sent a SUBSCRIBE,
// PSUBSCRIBE or SSUBSCRIBE, or send one meanwhile.
func (p *Proxy) BlackHolePubSub(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blackPubSub = on
}

// BlackHoleOne makes one connection half-open for good. A Command and an Event
// tell its number. It reports whether the connection exists.
func (p *Proxy) BlackHoleOne(number int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.conns[number]
	if c != nil {
		c.mute, c.deaf = true, true
	}
	return c != nil
}

// Conns are the numbers of the connections that exist, in order; PubSubConns
// of those that have subscribed.
func (p *Proxy) Conns() []int {
	return p.which(func(*conn) bool { return true })
}

// PubSubConns are the numbers of the connections that have subscribed, in order.
func (p *Proxy) PubSubConns() []int {
	return p.which(func(c *conn) bool { return c.subscribed })
}

func (p *Proxy) which(wanted func(*conn) bool) (numbers []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for number, c := range p.conns {
		if wanted(c) {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// Seen counts the commands that came, by name. What a silent connection sends
// is not counted.
func (p *Proxy) Seen() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.seen)
}

// Log gives the faults that have taken effect so far.
func (p *Proxy) Log() []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

func (p *Proxy) record(c Command, d Decision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, Event{c, d, time.Now()})
}
