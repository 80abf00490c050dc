package redistest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary finds the redis-server to run.
func binary() (string, error) {
	name := os.Getenv("HOLDFAST_REDIS_SERVER")
	if name == "" {
		name = "redis-server"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("redistest: these tests need a real redis-server: run \"apt-get install redis-server\" "+
			"or \"make test\", or name a binary in HOLDFAST_REDIS_SERVER: %w", err)
	}
	return path, nil
}

// version is what the binary says of itself, asked once.
var version = sync.OnceValues(func() ([2]int, error) {
	path, err := binary()
	if err != nil {
		return [2]int{}, err
	}
	text, err := exec.Command(path, "--version").Output()
	if err != nil {
		return [2]int{}, fmt.Errorf("redistest: %s --version: %w", path, err)
	}
	return parseVersion(string(text))
})

// NeedRedis skips a test on a server older than this version, and says what is
// missing there.
func NeedRedis(t testing.TB, major, minor int, missing string) {
	t.Helper()
	v, err := version()
	if err != nil {
		t.Fatal(err)
	}
	if v[0] < major || v[0] == major && v[1] < minor {
		t.Skipf("Redis %d.%d, this needs %d.%d: %s", v[0], v[1], major, minor, missing)
	}
}

var versionPattern = regexp.MustCompile(`\bv=(\d+)\.(\d+)\.`)

func parseVersion(text string) ([2]int, error) {
	found := versionPattern.FindStringSubmatch(text)
	if found == nil {
		return [2]int{}, fmt.Errorf("redistest: no version in %q", text)
	}
	major, err := strconv.Atoi(found[1])
	if err != nil {
		return [2]int{}, err
	}
	minor, err := strconv.Atoi(found[2])
	return [2]int{major, minor}, err
}

// A process is one run of redis-server.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed once it has ended and been reaped
}

// startProcess runs the binary in dir, with env beside this process's environment; its
// output is added to dir's redis.log.
func startProcess(dir string, env, args []string) (*process, error) {
	path, err := binary()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "redis.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(cmd.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go p.run(started) // ends with the process, which Close kills
	if err := <-started; err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	return p, nil
}

// run forks the process and waits for it on one thread. The thread is never
// unlocked, so it ends with the goroutine, and not before the process has.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = p.cmd.Wait() // a killed server's exit status is no news
	close(p.ended)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended already
	<-p.ended
}

// terminate asks for an orderly end and kills after a limit.
func (p *process) terminate(limit time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // a paused process gets its SIGTERM only when it goes on
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.kill()
	}
}

// pause stops the process, see Stop.
func (p *process) pause() error { return Stop(p.pid()) }

// Stop stops a process by SIGSTOP and returns once the kernel says that all its threads stand still: until then they
// may go on for a moment.
func Stop(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		if len(threads) > 0 && !slices.ContainsFunc(threads, runs) {
			return nil
		}
	}
	return errors.New("still runs 5s after SIGSTOP")
}

// runs tells whether the thread of such a file is not stopped. One that has ended is.
func runs(file string) bool {
	stat, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	// pid (comm) state …; comm may itself contain a parenthesis.
	_, state, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	return !ok || state[0] != 'T'
}
