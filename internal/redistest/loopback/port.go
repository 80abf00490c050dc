// Package loopback holds TCP ports of 127.0.0.1 for servers that are started,
// stopped and started again, without anybody else getting in between.
//
// A port that was merely found free can be taken before its server listens, or
// while the server is down for a moment: every outgoing connection draws its own
// port from the same range, and a client that dials a dead server on such a
// port can even end up connected to itself. A Port is a socket that is bound and
// never listens. Linux gives a bound port to no one who asks for any port, lets
// another socket with SO_REUSEADDR (every Go listener and redis-server) bind
// and listen on it, and answers a dial with "connection refused" as long as
// nobody does.
package loopback

import (
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// busOffset is the distance from a Redis node's port to its cluster bus.
const busOffset = 10000

// A Port is held from Hold until Close.
type Port struct {
	Number  int
	sockets []int
}

// Hold takes a free port of 127.0.0.1.
func Hold() (*Port, error) {
	fd, number, err := bind(0, true)
	if err != nil {
		return nil, err
	}
	return &Port{Number: number, sockets: []int{fd}}, nil
}

// HoldWithBus takes a free port whose cluster bus port, 10000 higher, is free
// too and at most 65535.
func HoldWithBus() (*Port, error) {
	var last error
	for range 100 {
		port, err := Hold()
		if err != nil {
			return nil, err
		}
		if last = port.holdBus(); last == nil {
			return port, nil
		}
		port.Close()
	}
	return nil, fmt.Errorf("loopback: no port with a free bus port: %w", last)
}

func (p *Port) holdBus() error {
	if p.Number+busOffset > 65535 {
		return fmt.Errorf("no bus port above %d", p.Number)
	}
	fd, _, err := bind(p.Number+busOffset, false)
	if err != nil {
		return err
	}
	p.sockets = append(p.sockets, fd)
	return nil
}

// Addr is host and port, as a dial wants it.
func (p *Port) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Number)) }

// Close lets go of the port. A server that listens on it goes on listening.
func (p *Port) Close() {
	for _, fd := range p.sockets {
		_ = syscall.Close(fd)
	}
	p.sockets = nil
}

// bind gives a socket bound to the port, or to any free one for 0. A socket
// that asks for a port by number asks without SO_REUSEADDR, as with it the
// kernel would share the port of another held one; the option is set after.
func bind(port int, reuse bool) (fd, number int, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("loopback: socket: %w", err)
	}
	defer func() {
		if err != nil {
			_ = syscall.Close(fd)
		}
	}()
	if reuse {
		if err = setReuse(fd); err != nil {
			return 0, 0, err
		}
	}
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, 0, fmt.Errorf("loopback: bind port %d: %w", port, err)
	}
	if err = setReuse(fd); err != nil {
		return 0, 0, err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, 0, fmt.Errorf("loopback: getsockname: %w", err)
	}
	return fd, name.(*syscall.SockaddrInet4).Port, nil
}

func setReuse(fd int) error {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("loopback: SO_REUSEADDR: %w", err)
	}
	return nil
}
