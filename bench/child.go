package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"sync"
	"time"
)

// childVariable makes this program a child: a second process with one client of one
// library, which does what its parent asks over standard input and output.
const childVariable = "HOLDFAST_BENCH_CHILD"

// A Child is what the child offers, by net/rpc.
type Child struct {
	addr   string
	locker locker

	mu    sync.Mutex
	locks map[string]mutex
}

// runChild serves until the parent closes standard input.
func runChild() {
	server := rpc.NewServer()
	if err := server.Register(&Child{locks: map[string]mutex{}}); err != nil {
		fmt.Fprintln(os.Stderr, "bench child:", err)
		os.Exit(1)
	}
	server.ServeConn(pipes{os.Stdin, os.Stdout})
}

// OpenArgs tell which library the child uses.
type OpenArgs struct {
	Peer  string
	Addr  string
	Lease time.Duration
}

// Open makes the child's client. It is called first, and once.
func (c *Child) Open(args OpenArgs, _ *struct{}) error {
	p, ok := peerNamed(args.Peer)
	if !ok {
		return fmt.Errorf("no peer is called %q", args.Peer)
	}
	l, err := p.open(args.Addr, args.Lease)
	c.addr, c.locker = args.Addr, l
	return err
}

// Lock waits for a lock and tells when it had it.
func (c *Child) Lock(name string, acquired *time.Time) error {
	err := c.named(name).Lock(context.Background()) // the parent ends the process if it hangs
	*acquired = time.Now()
	return err
}

// Unlock releases a lock and tells when it began to.
func (c *Child) Unlock(name string, released *time.Time) error {
	m := c.named(name)
	*released = time.Now()
	return m.Unlock(context.Background())
}

func (c *Child) named(name string) mutex {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.locks[name]
	if !ok {
		m = c.locker.Named(name)
		c.locks[name] = m
	}
	return m
}

// A child is the parent's end.
type child struct {
	ctx    context.Context
	rpc    *rpc.Client
	cmd    *exec.Cmd
	cancel context.CancelFunc
}

// startChild runs this program once more. The child ends with stop, or with ctx.
func startChild(ctx context.Context, open OpenArgs) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, errors.Join(err, in.Close())
	}
	c := &child{ctx: ctx, rpc: rpc.NewClient(pipes{out, in}), cmd: cmd, cancel: cancel}
	if err := c.call("Open", open, &struct{}{}); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// call asks the child; it comes back with ctx's end at the latest, because that ends
// the child.
func (c *child) call(method string, args, reply any) error {
	if err := c.rpc.Call("Child."+method, args, reply); err != nil {
		return errors.Join(fmt.Errorf("child: %w", err), c.ctx.Err())
	}
	return nil
}

// goLock lets the child wait for a lock, and returns a function that waits for the
// child.
func (c *child) goLock(name string) func() (time.Time, error) {
	var acquired time.Time
	done := make(chan error, 1)
	go func() { done <- c.call("Lock", name, &acquired) }() // ends with the child at the latest
	return func() (time.Time, error) {
		err := <-done
		return acquired, err
	}
}

func (c *child) unlock(name string) (released time.Time, err error) {
	err = c.call("Unlock", name, &released)
	return released, err
}

// stop ends the child's process at once, whatever it is at: its locks are of no
// use any more.
func (c *child) stop() {
	c.cancel()
	_ = c.rpc.Close()
	_ = c.cmd.Wait() // "signal: killed"
}

// pipes are two one-way streams as one.
type pipes struct {
	io.ReadCloser
	io.Writer
}

// Close closes both ways.
func (p pipes) Close() error {
	err := p.ReadCloser.Close()
	if w, ok := p.Writer.(io.Closer); ok {
		err = errors.Join(err, w.Close())
	}
	return err
}
