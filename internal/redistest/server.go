package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/holdfast-go/holdfast/internal/redistest/loopback"
)

// startLimit is how long one server may take until it answers PING.
const startLimit = 20 * time.Second

// A Server is one redis-server. Its methods may be called from any goroutine.
type Server struct {
	// Port is its TCP port on 127.0.0.1. It stays the same over restarts.
	Port int

	dir   string
	env   []string // beside this process's environment
	held  *loopback.Port
	admin *redis.Client

	mu   sync.Mutex // over args and run
	args []string
	run  *process
}

// Start runs a server that keeps nothing on disk. Further args are those of
// redis-server ("--maxmemory", "1mb"); they win over the ones set here. It
// returns once the server answers PING; the server is gone when the test is.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := Launch(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Launch is Start without a test: the caller must Close the server.
func Launch(args ...string) (*Server, error) { return launch(loopback.Hold, nil, args) }

func launch(hold func() (*loopback.Port, error), env, args []string) (*Server, error) {
	s, err := prepare(hold)
	if err != nil {
		return nil, err
	}
	s.env = env
	s.args = append([]string{
		"--port", strconv.Itoa(s.Port), "--bind", "127.0.0.1", "--dir", s.dir,
		"--save", "", "--appendonly", "no",
		// A replica is attached at once, not after the five seconds in which more might come.
		"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
	}, args...)
	return s, s.launched(s.Restart())
}

// prepare makes a server that does not run yet.
func prepare(hold func() (*loopback.Port, error)) (*Server, error) {
	dir, err := os.MkdirTemp("", "redistest-")
	if err != nil {
		return nil, err
	}
	held, err := hold()
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return &Server{
		Port: held.Number, dir: dir, held: held,
		admin: redis.NewClient(&redis.Options{
			Addr: held.Addr(), Protocol: 2, DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
			MaxRetries:               -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		}),
	}, nil
}

// launched closes a server whose first start failed.
func (s *Server) launched(err error) error {
	if err != nil {
		s.Close()
	}
	return err
}

// Close kills the server, removes its directory and gives its port away.
func (s *Server) Close() {
	s.Kill()
	_ = s.admin.Close()
	_ = os.RemoveAll(s.dir)
	s.held.Close()
}

// Addr is its host and port.
func (s *Server) Addr() string { return s.held.Addr() }

// Dir is its working directory: redis.log, and whatever it is told to save.
func (s *Server) Dir() string { return s.dir }

// Version is the server's version: 7, 0 for 7.0.15.
func (s *Server) Version() (major, minor int) {
	v, _ := version() // a server runs, so its binary is there
	return v[0], v[1]
}

// PID is the process id of its present or last run, 0 before the first.
func (s *Server) PID() int {
	if run := s.process(); run != nil {
		return run.pid()
	}
	return 0
}

// Running tells whether its process lives. A paused one does.
func (s *Server) Running() bool {
	run := s.process()
	return run != nil && run.running()
}

func (s *Server) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

// Kill ends it by SIGKILL and returns once it is gone. A dead server stays dead.
func (s *Server) Kill() {
	if run := s.process(); run != nil {
		run.kill()
	}
}

// Stop asks it to end in order, saving what it is configured to save, and
// kills it after five seconds.
func (s *Server) Stop() {
	if run := s.process(); run != nil {
		run.terminate(5 * time.Second)
	}
}

// Pause stops it by SIGSTOP: connections stay open, nothing is answered. It
// returns once the process stands still.
func (s *Server) Pause() error {
	run := s.process()
	if run == nil || !run.running() {
		return s.failed("pause", os.ErrProcessDone)
	}
	return s.failed("pause", run.pause())
}

// Resume lets a paused server go on.
func (s *Server) Resume() error {
	run := s.process()
	if run == nil {
		return s.failed("resume", os.ErrProcessDone)
	}
	return s.failed("resume", run.cmd.Process.Signal(syscall.SIGCONT))
}

// Restart starts it again on the same port, in the same directory, with the
// same args and these, and returns once it answers PING, at most twenty seconds
// later. A server that still runs is killed first.
func (s *Server) Restart(args ...string) error {
	if err := s.Spawn(args...); err != nil {
		return err
	}
	return s.failed("start", s.waitReady())
}

// Spawn is Restart without the waiting: the server may still be loading, or not
// even listen.
func (s *Server) Spawn(args ...string) error {
	s.Kill()
	s.addArgs(args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	run, err := startProcess(s.dir, s.env, s.args)
	if err != nil {
		return err
	}
	s.run = run
	return nil
}

func (s *Server) addArgs(args ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.args = append(s.args, args...)
}

// Do sends a command over a connection of the server's own, for the test's
// inspection and configuration. It never retries. A server started with
// --requirepass refuses it; use a Client then.
//
// A dead server is not even dialed: after some refused dials go-redis would make no
// more for a second, and so find a restarted server dead.
func (s *Server) Do(ctx context.Context, args ...any) *redis.Cmd {
	if !s.Running() {
		cmd := redis.NewCmd(ctx, args...)
		cmd.SetErr(s.failed("ask", os.ErrProcessDone))
		return cmd
	}
	return s.admin.Do(ctx, args...)
}

// Client gives a client that is closed when the test ends. Its options are
// go-redis's defaults unless mutate changes them.
func (s *Server) Client(t testing.TB, mutate ...func(*redis.Options)) *redis.Client {
	t.Helper()
	return client(t, s.Addr(), mutate)
}

func client(t testing.TB, addr string, mutate []func(*redis.Options)) *redis.Client {
	options := &redis.Options{Addr: addr}
	for _, change := range mutate {
		change(options)
	}
	c := redis.NewClient(options)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// waitReady pings the server until it answers: PONG, or that it wants a
// password first. -LOADING is not an answer.
func (s *Server) waitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return until(ctx, func() error {
		if !s.Running() {
			return giveUp{fmt.Errorf("redis-server ended: %s", s.logTail())}
		}
		answer, err := s.ping()
		if err == nil && !strings.HasPrefix(answer, "+PONG") && !strings.HasPrefix(answer, "-NOAUTH") {
			err = fmt.Errorf("PING: %s", strings.TrimSpace(answer))
		}
		return err
	})
}

func (s *Server) ping() (string, error) {
	conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// logTail is the end of what the server has written.
func (s *Server) logTail() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "redis.log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-1500):])
}

func (s *Server) failed(deed string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("redistest: %s the server on %s: %w", deed, s.Addr(), err)
}

// closeAll closes the servers that were started, at once.
func closeAll(servers []*Server) {
	var group sync.WaitGroup
	for _, s := range servers {
		if s != nil {
			group.Go(s.Close)
		}
	}
	group.Wait()
}

// together runs a task for 0 … n-1 at once and joins the errors.
func together(n int, task func(i int) error) error {
	failures := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { failures[i] = task(i) })
	}
	group.Wait()
	return errors.Join(failures...)
}
