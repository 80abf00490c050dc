package faultproxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// A conn is a client's connection and the one to the server that belongs to it.
type conn struct {
	proxy          *Proxy
	number         int
	client, server *net.TCPConn
	clientGone     chan struct{} // closed when the client has ended its side
	done           chan struct{} // closed when both sockets are
	ending         sync.Once

	// The proxy's mutex guards these.
	mute       bool    // a request was lost: no later one reaches the server
	deaf       bool    // a reply was lost: no later one reaches the client
	subscribed bool    // it has asked for messages
	raw        bool    // replies are no longer understood
	waiting    []reply // replies that are due, in order
}

// A reply is due for a command that was forwarded.
type reply struct {
	command  Command
	decision Decision
	parts    int    // a SUBSCRIBE is answered once for each channel
	kind     string // and by a message of this kind: "subscribe"; else empty
}

// serve forwards one connection until it ends.
func (p *Proxy) serve(client *net.TCPConn) {
	upstream, err := net.DialTimeout("tcp", p.upstream, 5*time.Second)
	if err != nil {
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	c := &conn{
		proxy: p, client: client, server: upstream.(*net.TCPConn),
		clientGone: make(chan struct{}), done: make(chan struct{}),
	}
	p.mu.Lock()
	p.accepted++
	c.number = p.accepted
	c.swallowLocked()
	p.conns[c.number] = c
	closed := p.closed
	p.mu.Unlock()
	if closed { // Close has not seen this one
		c.reset()
	}
	p.tasks.Go(c.replies) // ends when either side does; reset ends both
	c.requests()
}

// reset closes both sockets; the client sees a reset, not an orderly end.
func (c *conn) reset() {
	_ = c.client.SetLinger(0)
	c.close()
}

func (c *conn) close() {
	c.ending.Do(func() {
		_ = c.client.Close()
		_ = c.server.Close()
		close(c.done)
		c.proxy.mu.Lock()
		delete(c.proxy.conns, c.number)
		c.proxy.mu.Unlock()
	})
}

// requests forwards what the client sends. When the client ends, the server
// learns so behind the last forwarded command, which is still executed; the
// reply loop then ends when the server does.
func (c *conn) requests() {
	defer c.server.CloseWrite()
	defer close(c.clientGone)
	r := bufio.NewReader(c.client)
	for {
		words, raw, err := readCommand(r)
		if err != nil {
			return
		}
		if len(words) > 0 && !c.admit(words) {
			continue
		}
		if _, err := c.server.Write(raw); err != nil {
			// The server is gone. The client must not see that in a black hole.
			_, _ = io.Copy(io.Discard, r)
			return
		}
	}
}

// admit decides about a command, and tells whether to forward it now.
func (c *conn) admit(words []string) bool {
	command, decision, ok := c.note(words)
	if !ok {
		return false
	}
	switch decision.deed {
	case dropRequest:
		c.proxy.record(command, decision)
		c.lose(true, false)
		return false
	case resetBefore:
		c.proxy.record(command, decision)
		c.reset()
		return false
	case gateRequest:
		c.proxy.record(command, decision)
		if !c.wait(decision.gate) {
			return false
		}
		decision = Pass
	}
	return c.expect(command, decision)
}

// note counts a command and finds the decision about it. A silent connection's
// commands do not count.
func (c *conn) note(words []string) (command Command, d Decision, ok bool) {
	p := c.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	name := strings.ToUpper(words[0])
	switch name {
	case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE":
		c.subscribed = true
	}
	if c.swallowLocked(); c.mute {
		return command, d, false
	}
	p.seen[name]++
	command = Command{Name: name, Args: words[1:], Conn: c.number, N: p.seen[name]}
	return command, p.rules.of(command), true
}

// expect notes that a reply is due. It must happen before the command is sent.
func (c *conn) expect(command Command, d Decision) bool {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	if c.swallowLocked(); c.mute { // a black hole may have opened at a gate
		return false
	}
	if c.raw {
		return true
	}
	due := reply{command: command, decision: d, parts: 1}
	switch command.Name {
	case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE":
		due.kind, due.parts = strings.ToLower(command.Name), max(1, len(command.Args))
	}
	c.waiting = append(c.waiting, due)
	return true
}

// swallowLocked is called when bytes pass, or would. In a black hole they are
// lost, and with them the connection, for good and in both directions.
func (c *conn) swallowLocked() {
	if p := c.proxy; p.black || (p.blackPubSub && c.subscribed) {
		c.mute, c.deaf = true, true
	}
}

// isDeaf tells whether what comes from the server now is lost.
func (c *conn) isDeaf() bool {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	c.swallowLocked()
	return c.deaf
}

// lose makes the connection silent in these directions.
func (c *conn) lose(requests, replies bool) {
	c.proxy.mu.Lock()
	defer c.proxy.mu.Unlock()
	c.mute, c.deaf = c.mute || requests, c.deaf || replies
}

// wait returns true when the gate opens, false when the connection ends before.
func (c *conn) wait(gate <-chan struct{}) bool {
	select {
	case <-gate:
		return true
	case <-c.done:
		return false
	}
}

// replies forwards what the server sends, until the server ends.
func (c *conn) replies() {
	defer c.close()
	r := bufio.NewReader(c.server)
	for {
		frame, err := c.read(r)
		if err != nil {
			break
		}
		if c.deliver(frame) && !c.isDeaf() {
			// An error means that the client has gone. Go on reading, lest the
			// server be stopped in the middle of what the client has sent.
			_, _ = c.client.Write(frame)
		}
	}
	if c.isDeaf() { // the end of the server's side is lost too
		select {
		case <-c.clientGone:
		case <-c.done:
		}
	}
}

// read reads one reply, or whatever has come once replies are not understood.
func (c *conn) read(r *bufio.Reader) ([]byte, error) {
	c.proxy.mu.Lock()
	raw := c.raw
	c.proxy.mu.Unlock()
	if !raw {
		return readReply(r)
	}
	if _, err := r.Peek(1); err != nil {
		return nil, err
	}
	frame := make([]byte, r.Buffered())
	_, err := io.ReadFull(r, frame)
	return frame, err
}

// deliver lets the decision about a reply take effect, and tells whether to
// pass it on.
func (c *conn) deliver(frame []byte) bool {
	due, ok := c.take(frame)
	if !ok || due.decision == Pass {
		return true
	}
	c.proxy.record(due.command, due.decision)
	switch due.decision.deed {
	case dropReply:
		c.lose(false, true)
		return false
	case resetAfter:
		c.reset()
		return false
	case gateReply:
		return c.wait(due.decision.gate)
	case delayReply:
		timer := time.NewTimer(due.decision.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.done:
		}
	}
	return true
}

// take finds the command that a frame answers: none for a message, for an error
// that the server sends before any command, or for the empty lines by which a
// master keeps a replica waiting.
func (c *conn) take(frame []byte) (reply, bool) {
	p := c.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.raw || len(c.waiting) == 0 || frame[0] == '\n' {
		return reply{}, false
	}
	due := &c.waiting[0]
	kind, push := pushKind(frame, c.subscribed)
	if push && (kind == "" || kind != due.kind) {
		return reply{}, false
	}
	answer := *due
	if due.parts--; due.parts == 0 || !push { // an error answers all channels at once
		c.waiting = c.waiting[1:]
	} else {
		due.decision = Pass // the fault takes effect at the first channel
	}
	switch answer.command.Name {
	case "MONITOR", "SYNC", "PSYNC":
		c.raw = true
	}
	return answer, true
}
