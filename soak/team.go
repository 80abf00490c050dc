package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A team is the workers of a round.
type team struct {
	binary string
	record *recorder
	alone  bool // nobody is replaced

	mu      sync.Mutex
	members []*member
	ended   bool // no more is replaced
}

// A member is one worker process.
type member struct {
	name   string
	config workerConfig
	team   *team

	stdin io.WriteCloser
	cmd   *exec.Cmd
	quiet chan struct{} // closed when all its calls have returned
	swept chan struct{} // closed when it has tried its fair locks once more
	shut  chan struct{} // closed when its client is
	gone  chan struct{} // closed once it has ended

	acquired atomic.Int64
	killed   atomic.Bool
	faulty   sync.Mutex // one fault at a time

	mu   sync.Mutex
	exit error
}

// start starts a worker.
func (t *team) start(config workerConfig) (*member, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	m := &member{
		name: config.Name, config: config, team: t, cmd: exec.Command(t.binary),
		quiet: make(chan struct{}), swept: make(chan struct{}), shut: make(chan struct{}), gone: make(chan struct{}),
	}
	m.cmd.Env = append(os.Environ(), workerVariable+"="+string(text))
	m.cmd.Stderr = os.Stderr
	// Its own group, so that a terminal's Ctrl-C is the controller's alone.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error)
	go m.run(out, started) // ends with the process
	if err := <-started; err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.members = append(t.members, m)
	return m, nil
}

// run stays on the thread that forked the worker: the kernel kills it when that ends.
func (m *member) run(out io.Reader, started chan<- error) {
	runtime.LockOSThread()
	err := m.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var n int64
		if lines.Text() == "quiet" {
			close(m.quiet)
		} else if lines.Text() == "swept" {
			close(m.swept)
		} else if lines.Text() == "closed" {
			close(m.shut)
		} else if _, err := fmt.Sscanf(lines.Text(), "acquired %d", &n); err == nil {
			m.acquired.Store(n)
		}
	}
	err = m.cmd.Wait()
	m.mu.Lock()
	if !m.killed.Load() {
		m.exit = err
	}
	m.mu.Unlock()
	close(m.gone)
}

// say writes a line to the worker.
func (m *member) say(word string) { _, _ = io.WriteString(m.stdin, word+"\n") }

func (m *member) alive() bool {
	select {
	case <-m.gone:
		return false
	default:
		return true
	}
}

// pause stops the process for d.
func (m *member) pause(ctx context.Context, d time.Duration) error {
	m.faulty.Lock()
	defer m.faulty.Unlock()
	if err := m.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return m.cmd.Process.Signal(syscall.SIGCONT)
}

// kill ends the process by SIGKILL.
func (m *member) kill() {
	m.faulty.Lock()
	defer m.faulty.Unlock()
	m.killed.Store(true)
	_ = m.cmd.Process.Kill()
	<-m.gone
	m.team.record.note(event{Kind: kindDeath, Worker: m.name})
}

// replace kills a worker and starts another in its place.
func (t *team) replace(m *member) error {
	m.kill()
	t.mu.Lock()
	ended := t.ended
	t.mu.Unlock()
	if ended || t.alone {
		return nil
	}
	config := m.config
	config.Life++
	_, err := t.start(config)
	return err
}

// living are the workers that have not been killed.
func (t *team) living() []*member {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(t.members), func(m *member) bool { return m.killed.Load() })
}

// any draws a worker's name.
func (t *team) any(rng *rand.Rand) string {
	living := t.living()
	return living[rng.IntN(len(living))].name
}

// mortal draws a worker that may be killed; nil if there is none.
func (t *team) mortal(rng *rand.Rand) *member {
	mortals := slices.DeleteFunc(t.living(), func(m *member) bool { return !m.config.Mortal })
	if len(mortals) == 0 {
		return nil
	}
	return mortals[rng.IntN(len(mortals))]
}

// acquired is the sum over all workers, also those that were killed.
func (t *team) acquired() (sum int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.members {
		sum += m.acquired.Load()
	}
	return sum
}

// failed tells of workers that ended by themselves.
func (t *team) failed() (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.members {
		m.mu.Lock()
		if m.exit != nil {
			err = errors.Join(err, fmt.Errorf("worker %s: %w", m.name, m.exit))
		} else if !m.alive() && !m.killed.Load() && !t.ended {
			err = errors.Join(err, fmt.Errorf("worker %s ended", m.name))
		}
		m.mu.Unlock()
	}
	return err
}

// stop tells all to stop and waits until all their calls have returned; the names of
// those that have not.
func (t *team) stop(limit time.Duration) (stuck []string) {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	deadline := time.After(limit)
	living := t.living()
	for _, m := range living {
		m.say("stop")
	}
	for _, m := range living {
		select {
		case <-m.quiet:
		case <-m.gone:
		case <-deadline:
			stuck = append(stuck, m.name)
			deadline = time.After(0)
		}
	}
	return stuck
}

// sweep has every worker look once more after the fair locks.
func (t *team) sweep() {
	living := t.living()
	for _, m := range living {
		m.say("sweep")
	}
	for _, m := range living {
		select {
		case <-m.swept:
		case <-m.gone:
		}
	}
}

// close has the clients closed. The processes stay until end.
func (t *team) close(limit time.Duration) {
	living := t.living()
	for _, m := range living {
		m.say("close")
	}
	deadline := time.After(limit)
	for _, m := range living {
		select {
		case <-m.shut:
		case <-m.gone:
		case <-deadline:
			deadline = time.After(0)
		}
	}
}

// end kills whoever is left.
func (t *team) end() {
	t.mu.Lock()
	t.ended = true
	members := slices.Clone(t.members)
	t.mu.Unlock()
	for _, m := range members {
		if m.alive() {
			m.killed.Store(true)
			_ = m.cmd.Process.Kill()
			<-m.gone
		}
	}
}
