package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// serverFaults hit a single server and lose nothing that it acknowledged.
var serverFaults = []fault{
	{"kill -9", tailPause, func(f *fate) (scope, error) { return scope{}, f.world.single.Restart("--key-load-delay", "0") }},
	{"loading", tailPause, func(f *fate) (scope, error) { return scope{}, f.loading(600 * time.Millisecond) }},
	{"SIGSTOP", tailPause, func(f *fate) (scope, error) {
		return scope{}, f.stopped(f.world.single, f.between(50*time.Millisecond, 900*time.Millisecond))
	}},
	{"SCRIPT FLUSH", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("SCRIPT", "FLUSH") }},
	{"CLIENT KILL normal", tailShort, func(f *fate) (scope, error) {
		return scope{}, f.onMasters("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	}},
	{"CLIENT KILL pubsub", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("CLIENT", "KILL", "TYPE", "pubsub") }},
	{"CLIENT PAUSE", tailPause, func(f *fate) (scope, error) {
		d := f.between(50*time.Millisecond, 500*time.Millisecond)
		err := f.onMasters("CLIENT", "PAUSE", d.Milliseconds(), "ALL")
		f.last(d, d)
		return scope{}, err
	}},
	{"BUSY", tailPause, func(f *fate) (scope, error) {
		return scope{}, f.busy(f.between(100*time.Millisecond, 400*time.Millisecond))
	}},
	{"OOM", tailPause, func(f *fate) (scope, error) {
		err := f.onMasters("CONFIG", "SET", "maxmemory", "1")
		f.last(100*time.Millisecond, 400*time.Millisecond)
		return scope{}, errors.Join(err, f.onMasters("CONFIG", "SET", "maxmemory", "0"))
	}},
	{"max clients", tailPause, func(f *fate) (scope, error) {
		err := errors.Join(f.onMasters("CONFIG", "SET", "maxclients", "3"), f.onMasters("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
		f.last(100*time.Millisecond, 400*time.Millisecond)
		return scope{}, errors.Join(err, f.onMasters("CONFIG", "SET", "maxclients", "10000"))
	}},
	{"ACL stripped", tailPause, func(f *fate) (scope, error) {
		err := f.onMasters("ACL", "SETUSER", user, "-@all")
		f.last(100*time.Millisecond, 400*time.Millisecond)
		return scope{}, errors.Join(err, f.onMasters("ACL", "SETUSER", user, "+@all"))
	}},
}

func (f *fate) stopped(node *redistest.Server, d time.Duration) error {
	if err := node.Pause(); err != nil {
		return err
	}
	f.last(d, d)
	return node.Resume()
}

// loading restarts the server so that it takes about d to read its append-only file.
func (f *fate) loading(d time.Duration) error {
	ctx, cancel := limited()
	defer cancel()
	info, err := do(ctx, f.world.single, "INFO", "persistence").Text()
	if err != nil {
		return err
	}
	size := 0
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, "aof_current_size:"); ok {
			_, _ = fmt.Sscan(value, &size)
		}
	}
	// A negative delay is one microsecond for each so manyth command, which the kernel
	// makes about 60. A command has about 45 bytes.
	each := max(1, int64(size/45)*60/d.Microseconds())
	return f.world.single.Restart("--key-load-delay", fmt.Sprint(-each))
}

// busy has a script run for d.
func (f *fate) busy(d time.Duration) error {
	conn, err := net.Dial("tcp", f.world.single.Addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	script := fmt.Sprintf("local t = redis.call('TIME') local stop = t[1] * 1000000 + t[2] + %d "+
		"repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] > stop", d.Microseconds())
	if _, err := fmt.Fprintf(conn, "*3\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n$1\r\n0\r\n", len(script), script); err != nil {
		return err
	}
	f.last(d, d)
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = conn.Read(make([]byte, 16))
	return err
}

// quorumFaults lose nothing, as each server keeps an append-only file. Up to two of five
// may be gone without anybody noticing; with three gone nobody gets a lock.
var quorumFaults = []fault{
	{"one server of five killed", tailPause, func(f *fate) (scope, error) { return scope{}, f.restart(1) }},
	{"two servers of five killed", tailPause, func(f *fate) (scope, error) { return scope{}, f.restart(2) }},
	{"two servers of five stopped", tailPause, func(f *fate) (scope, error) { return scope{}, f.stopSome(2) }},
	{"three servers of five stopped", tailPause, func(f *fate) (scope, error) { return scope{}, f.stopSome(3) }},
	{"two servers of five cut off", tailPause, func(f *fate) (scope, error) {
		for _, server := range f.some(2) {
			for _, link := range f.world.linksTo(server) {
				link.BlackHole(true)
				defer link.BlackHole(false)
			}
		}
		f.last(200*time.Millisecond, 1500*time.Millisecond)
		return scope{}, nil
	}},
	{"SCRIPT FLUSH", tailShort, func(f *fate) (scope, error) { return scope{}, f.onMasters("SCRIPT", "FLUSH") }},
}

// some draws n servers of a quorum.
func (f *fate) some(n int) (servers []*redistest.Server) {
	for _, i := range f.rng.Perm(quorumServers)[:n] {
		servers = append(servers, f.world.members[i])
	}
	return servers
}

// restart kills n servers of a quorum, and starts them again.
func (f *fate) restart(n int) (err error) {
	servers := f.some(n)
	for _, server := range servers {
		server.Kill()
	}
	for _, server := range servers {
		err = errors.Join(err, server.Restart())
	}
	return err
}

// stopSome stops n servers of a quorum for a while.
func (f *fate) stopSome(n int) (err error) {
	servers := f.some(n)
	for _, server := range servers {
		err = errors.Join(err, server.Pause())
	}
	f.last(100*time.Millisecond, 1500*time.Millisecond)
	for _, server := range servers {
		err = errors.Join(err, server.Resume())
	}
	return err
}
