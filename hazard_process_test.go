package holdfast_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast"
	"github.com/holdfast-go/holdfast/internal/redistest"
)

// processArgs is the environment variable that makes the test binary a holder
// of "orders": the server's address, the lease, and how it is to end.
const processArgs = "HOLDFAST_HAZARD_PROCESS"

// How a process ends, once it holds the lock.
const (
	ends   = "ends"   // with its standard input, or by a signal
	exits  = "exits"  // by os.Exit
	panics = "panics" // by a panic
)

// runProcess is the child's main: it takes the lock, says so, and writes the resource
// every ten milliseconds until the hold is lost. After each write it looks whether it
// still held the lock, and says what it found: "wrote" or "late".
func runProcess() {
	var addr, end string
	var lease time.Duration
	if _, err := fmt.Sscan(os.Getenv(processArgs), &addr, (*duration)(&lease), &end); err != nil {
		panic(err)
	}
	go func() { // the parent has died when standard input ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	client, err := holdfast.New(rdb, holdfast.WithWatchdogTimeout(lease))
	if err != nil {
		panic(err)
	}
	hold, err := client.RLock("orders").Lock(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println("held")
	switch end {
	case exits:
		os.Exit(3)
	case panics:
		panic("as the test wants it")
	}
	for hold.Err() == nil {
		err := rdb.RPush(context.Background(), "resource", hold.Owner()).Err()
		if hold.Err() != nil {
			fmt.Println("late", err)
			break
		}
		fmt.Println("wrote")
		select {
		case <-time.After(10 * time.Millisecond): // the pace of its work
		case <-hold.Done():
		}
	}
	fmt.Println("lost", hold.Unlock(context.Background()))
	select {} // until standard input ends
}

type duration time.Duration

func (d *duration) Scan(state fmt.ScanState, _ rune) error {
	token, err := state.Token(true, nil)
	if err != nil {
		return err
	}
	parsed, err := time.ParseDuration(string(token))
	*d = duration(parsed)
	return err
}

// A process is a child that holds "orders".
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	dead chan struct{}

	mu    sync.Mutex
	lines []string
}

// startProcess returns once the child holds the lock.
func startProcess(t *testing.T, addr string, lease time.Duration, end string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %v %s", processArgs, addr, lease, end))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, dead: make(chan struct{})}
	held := make(chan struct{})
	go p.read(out, held) // ends with the child
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		<-p.dead
	})
	select {
	case <-held:
	case <-p.dead:
		t.Fatal("the process ended without the lock")
	case <-time.After(patience):
		t.Fatal("the process did not take the lock")
	}
	return p
}

func (p *process) read(out io.Reader, held chan struct{}) {
	defer close(p.dead)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "held" {
			close(held)
			continue
		}
		p.mu.Lock()
		p.lines = append(p.lines, lines.Text())
		p.mu.Unlock()
	}
	_ = p.cmd.Wait()
}

// said counts the lines that begin with a word.
func (p *process) said(word string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.lines {
		if strings.HasPrefix(line, word) {
			n++
		}
	}
	return n
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	err := error(nil)
	if s == syscall.SIGSTOP {
		err = redistest.Stop(p.cmd.Process.Pid) // a waiter must not take its turn after that
	} else {
		err = p.cmd.Process.Signal(s)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}
