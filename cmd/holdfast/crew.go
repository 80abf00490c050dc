package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// A process is one worker as its parent sees it.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser // its end is the end of the worker
	said  tail           // on standard error
	dead  chan struct{}  // closed once it has ended and been reaped
}

// A crew is the worker processes. When this process dies, however it does, their
// standard input ends and they do too.
type crew struct {
	processes []*process
	events    chan event

	closing chan struct{} // closed by stop: nobody takes events any more
	threads sync.WaitGroup
}

// startCrew starts the workers. stop must follow, also after an error.
func startCrew(names []string, b brief) (*crew, error) {
	c := &crew{events: make(chan event), closing: make(chan struct{})}
	self, err := os.Executable()
	if err != nil {
		return c, err
	}
	// One pipe for all, so that what they tell arrives in the order in which it was
	// told.
	out, in, err := os.Pipe()
	if err != nil {
		return c, err
	}
	c.threads.Go(func() { c.read(out) }) // ends when the last worker has, since "in" is closed here
	defer in.Close()
	for _, name := range names {
		b.Worker = name
		if err := c.start(self, in, b); err != nil {
			return c, fmt.Errorf("start %s: %w", name, err)
		}
	}
	return c, nil
}

func (c *crew) start(self string, out *os.File, b brief) error {
	p := &process{name: b.Worker, cmd: exec.Command(self, workerCommand), dead: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, &p.said
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		return err
	}
	c.processes = append(c.processes, p)
	c.threads.Go(func() { // ends with the process, which stop ends
		err := p.cmd.Wait()
		close(p.dead)
		text := strings.TrimSpace(fmt.Sprint(err) + "\n" + p.said.text())
		c.pass(event{Worker: p.name, Kind: died, At: time.Now(), Text: text})
	})
	return tell(stdin, b)
}

// read passes on what the workers tell.
func (c *crew) read(out *os.File) {
	defer out.Close()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			e = event{Kind: failed, Text: "not a line of a worker: " + lines.Text()}
		}
		c.pass(e)
	}
}

func (c *crew) pass(e event) {
	select {
	case c.events <- e:
	case <-c.closing:
	}
}

// kill ends a worker by SIGKILL and returns once it is dead.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended already
	<-p.dead
}

// stop ends every worker and returns once all are gone: they get a moment to release
// what they hold.
func (c *crew) stop() {
	close(c.closing)
	for _, p := range c.processes {
		_ = p.stdin.Close()
	}
	limit := time.After(2 * farewell)
	for _, p := range c.processes {
		select {
		case <-p.dead:
		case <-limit:
			limit = time.After(0)
			p.kill()
		}
	}
	c.threads.Wait()
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu    sync.Mutex
	bytes []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes = append(t.bytes, p...)
	t.bytes = t.bytes[max(0, len(t.bytes)-4096):]
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.bytes)
}
