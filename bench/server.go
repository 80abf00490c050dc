package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// A server is a redis-server of this run's own: on loopback, without persistence.
type server struct {
	addr string
	cmd  *exec.Cmd
	dir  string
	gone chan struct{} // closed once the process has ended
}

// startServer runs the redis-server that HOLDFAST_REDIS_SERVER names, or the one on
// the path.
func startServer(ctx context.Context) (*server, error) {
	binary, err := exec.LookPath(cmp.Or(os.Getenv("HOLDFAST_REDIS_SERVER"), "redis-server"))
	if err != nil {
		return nil, fmt.Errorf("no redis-server: install it, or name one in HOLDFAST_REDIS_SERVER: %w", err)
	}
	for range 5 { // somebody else may take the free port first
		var s *server
		if s, err = startServerOnce(ctx, binary); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func startServerOnce(ctx context.Context, binary string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "holdfast-bench")
	if err != nil {
		return nil, err
	}
	s := &server{
		addr: net.JoinHostPort("127.0.0.1", port),
		cmd:  exec.Command(binary, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir),
		dir:  dir,
		gone: make(chan struct{}),
	}
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() { // ends with the process; stop ends that
		_ = s.cmd.Wait()
		close(s.gone)
	}()
	if err := s.ready(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// ready waits for the first answer.
func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		if probe, err := openStats(s.addr); err == nil {
			probe.close()
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-s.gone:
			return errors.New("redis-server ended at once")
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not answer: %w", ctx.Err())
		}
	}
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.gone:
	case <-time.After(5 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.gone
	}
	_ = os.RemoveAll(s.dir)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return strconv.Itoa(port), l.Close()
}
