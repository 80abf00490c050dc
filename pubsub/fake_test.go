package pubsub

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// A fakeServer is a server of channels inside a bubble. It always reads, so that no
// client is ever stuck in a write, which the bubble's clock would not survive.
type fakeServer struct {
	mu        sync.Mutex
	conns     map[*fakeConn]struct{}
	down      bool            // dials are refused
	silent    bool            // nothing is answered
	forbidden map[string]bool // channels
	confirmed []string        // channels, in order
}

type fakeConn struct {
	net.Conn
	channels map[string]bool
	mute     bool // it became half-open
	out      chan string
}

var errDown = errors.New("connection refused")

func (f *fakeServer) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", Protocol: 2, DisableIdentity: true,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dial(ctx) },
	})
}

func (f *fakeServer) dial(ctx context.Context) (net.Conn, error) {
	f.mu.Lock()
	down, silent := f.down, f.silent
	f.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case down:
		return nil, errDown
	case silent:
		<-ctx.Done() // as packets that are lost
		return nil, ctx.Err()
	}
	ours, theirs := net.Pipe()
	c := &fakeConn{Conn: ours, channels: map[string]bool{}, out: make(chan string, 10_000)}
	f.mu.Lock()
	f.conns[c] = struct{}{}
	f.mu.Unlock()
	go func() { // ends with the connection
		for s := range c.out {
			if _, err := io.WriteString(ours, s); err != nil {
				return
			}
		}
	}()
	go f.serve(c) // ends with the connection
	return theirs, nil
}

func (f *fakeServer) serve(c *fakeConn) {
	r := bufio.NewReader(c)
	for {
		args, err := readCommand(r)
		if err != nil {
			break
		}
		f.mu.Lock()
		if !c.mute {
			f.answer(c, strings.ToLower(args[0]), args[1:])
		}
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
	_ = c.Close()
	close(c.out)
}

func (f *fakeServer) answer(c *fakeConn, name string, args []string) {
	switch name {
	case "subscribe":
		for _, ch := range args {
			if f.forbidden[ch] {
				c.out <- "-NOPERM no permissions\r\n"
				return
			}
		}
		for _, ch := range args {
			c.channels[ch] = true
			f.confirmed = append(f.confirmed, ch)
			c.push(name, ch, len(c.channels))
		}
	case "unsubscribe":
		for _, ch := range args {
			delete(c.channels, ch)
			c.push(name, ch, len(c.channels))
		}
	case "ping":
		if len(c.channels) == 0 {
			c.out <- "+PONG\r\n"
			return
		}
		c.out <- "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
	default: // the handshake
		c.out <- "-ERR unknown command\r\n"
	}
}

func (c *fakeConn) push(kind, channel string, n int) {
	c.out <- fmt.Sprintf("*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:%d\r\n", len(kind), kind, len(channel), channel, n)
}

// publish counts the receivers.
func (f *fakeServer) publish(channel string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		if c.channels[channel] && !c.mute {
			c.out <- fmt.Sprintf("*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$1\r\n0\r\n", len(channel), channel)
			n++
		}
	}
	return n
}

// kill ends all connections.
func (f *fakeServer) kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		_ = c.Close()
	}
}

// silence makes all connections half-open, and new ones hang, until it is switched off.
func (f *fakeServer) silence(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent = on
	for c := range f.conns {
		c.mute = c.mute || on
	}
}

func (f *fakeServer) refuse(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = on
}

func (f *fakeServer) forbid(channel string, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forbidden[channel] = on
}

// subscribers counts the connections that have a channel.
func (f *fakeServer) subscribers(channel string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		if c.channels[channel] {
			n++
		}
	}
	return n
}

// news gives the confirmations since the last call.
func (f *fakeServer) news() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.confirmed
	f.confirmed = nil
	return n
}

func readCommand(r *bufio.Reader) ([]string, error) {
	n, err := readLength(r, '*')
	args := make([]string, n)
	for i := 0; i < n && err == nil; i++ {
		var size int
		if size, err = readLength(r, '$'); err != nil {
			break
		}
		arg := make([]byte, size+2)
		_, err = io.ReadFull(r, arg)
		args[i] = string(arg[:size])
	}
	return args, err
}

func readLength(r *bufio.Reader, kind byte) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil || line[0] != kind {
		return 0, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}
