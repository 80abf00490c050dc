package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// showLimit is how long a whole show may take where tests run beside it, and promised
// is how long it takes at most where none do.
const (
	showLimit = 60 * time.Second
	promised  = 20 * time.Second
)

// The show as everybody sees it first. It runs alone: this is the one that is timed.
func TestShowOnARedisOfItsOwn(t *testing.T) {
	p := start(t, "demo")
	began := time.Now()
	if got := p.status(showLimit); got != exitOK {
		t.Errorf("exit status: got %d, want 0; stderr %s", got, &p.stderr)
	}
	if took := time.Since(began); took >= promised {
		t.Errorf("the show took %v, want under %v", took, promised)
	}
	out := p.output()
	p.wantIn("stdout", out,
		"act 1 of 5", "act 5 of 5", "let go (it waited for", "the watchdog renews worker-2's lease",
		"worker-3 (pid ", "is killed by SIGKILL", "after the kill",
		"ForceUnlock takes the lock away from worker-4", `its context ends with "holdfast: hold lost"`)
	_, summary, _ := strings.Cut(out, "\nsummary\n")
	for _, line := range []string{
		`acquisitions   [1-9]\d+ by 5 processes`,
		`hand-offs      [1-9]\d*, p50 \d+(\.\d+)? ms, p99 \d+(\.\d+)? ms \(`,
		`long job       \d+\.\d+ s on a lease of 1\.00 s, renewed [1-9]\d* times`,
		`kill -9        worker-3 died with .* of its lease left, worker-\d had the lock after \d`,
		`force-unlock   worker-\d had the lock after .*, worker-4 was told after .*: "holdfast: hold lost"`,
		`overlaps       0 \(`,
	} {
		if !regexp.MustCompile(`(?m)^  ` + line).MatchString(summary) {
			t.Errorf("the summary: got\n%s\nwant a line %s", summary, line)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("escape sequences in plain output:\n%q", out)
	}
	p.wantGone()
}

func TestShowOfEachKind(t *testing.T) {
	for _, c := range []struct {
		kind  string
		parts []string
	}{
		{fairKind, []string{`fair lock "orders" on`, "act 5 of 5", "inversions     0, of "}},
		{multiKind, []string{`multi lock of ["orders" "stock" "invoices"] on`, "act 5 of 5"}},
		{redKind, []string{
			`quorum lock "orders" on 5 miniredis inside`, "act 3 of 6: a server dies", "server 3 of 5 is killed", "server killed  number 3 of 5",
			"act 6 of 6",
		}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			args := []string{"demo", "--plain", "--kind", c.kind}
			var s *redistest.Server
			if c.kind != redKind {
				s = redistest.Start(t)
				args = append(args, "--redis", "redis://"+s.Addr())
			}
			p := start(t, args...)
			if got := p.status(showLimit); got != exitOK {
				t.Errorf("exit status: got %d, want 0; stderr %s", got, &p.stderr)
			}
			p.wantIn("stdout", p.output(), append(c.parts, "after the kill", "holdfast: hold lost", "overlaps       0 ")...)
			p.wantGone()
			if s != nil {
				wantNoKeys(t, s.Client(t))
			}
		})
	}
}

func TestShowOnARealServerLeavesNoKey(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--requirepass", "s3cret")
	rdb := s.Client(t, func(o *redis.Options) { o.Password = "s3cret" })
	p := start(t, "demo", "--plain", "--redis", "redis://:s3cret@"+s.Addr()+"/0")
	p.waitFor("act 2 of 5")
	p.wantHidden("s3cret")
	if got := p.status(showLimit); got != exitOK {
		t.Errorf("exit status: got %d, want 0; stderr %s", got, &p.stderr)
	}
	p.wantIn("stdout", p.output(), "overlaps       0 ", "redis://***@"+s.Addr())
	if strings.Contains(p.output()+p.stderr.String(), "s3cret") {
		t.Errorf("the password is in the output:\n%s", p.output())
	}
	wantNoKeys(t, rdb)
	p.wantGone()
}

func TestShowOnAClusterLeavesNoKey(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 0)
	p := start(t, "demo", "--plain", "--redis", "redis://"+c.Nodes[1].Addr())
	if got := p.status(showLimit); got != exitOK {
		t.Errorf("exit status: got %d, want 0; stderr %s", got, &p.stderr)
	}
	p.wantIn("stdout", p.output(), "(cluster)", "overlaps       0 ")
	for _, node := range c.Nodes {
		wantNoKeys(t, node.Client(t))
	}
	p.wantGone()
}

func wantNoKeys(t *testing.T, rdb *redis.Client) {
	t.Helper()
	keys, err := rdb.Keys(context.Background(), "*").Result()
	if err != nil || len(keys) > 0 {
		t.Errorf("keys: got %q, %v, want none", keys, err)
	}
}

// The register is worth something only if it sees a lock that lets two in.
func TestWithoutALockTheRegisterCounts(t *testing.T) {
	t.Parallel()
	p := start(t, "demo", "--without-lock")
	if got := p.status(showLimit); got != exitFailure {
		t.Errorf("exit status: got %d, want 1", got)
	}
	if found := regexp.MustCompile(`overlaps       [1-9]\d* \(THE LOCK IS BROKEN`).FindString(p.output()); found == "" {
		t.Errorf("got\n%s\nwant overlaps above 0", p.output())
	}
}

func TestInterruptEndsIt(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
	}{{"Ctrl-C", syscall.SIGINT}, {"terminate", syscall.SIGTERM}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			p := start(t, "demo", "--redis", "redis://"+s.Addr())
			p.waitFor("act 2 of 5")
			p.signal(c.signal)
			asked := time.Now()
			if got := p.status(20 * time.Second); got != exitInterrupted {
				t.Errorf("exit status: got %d, want 130", got)
			}
			if took := time.Since(asked); took > 5*time.Second {
				t.Errorf("ended after %v, want a second or two", took)
			}
			if got, want := p.stderr.String(), "holdfast: interrupted\n"; got != want {
				t.Errorf("stderr: got %q, want %q", got, want)
			}
			p.wantGone()
			wantNoKeys(t, s.Client(t))
		})
	}
}

func TestWorkersDieWithTheirParent(t *testing.T) {
	t.Parallel()
	p := start(t, "demo")
	p.waitFor("act 2 of 5")
	if len(p.processes()) < 2 {
		t.Fatalf("processes: got %v, want a parent and its workers", p.processes())
	}
	p.signal(syscall.SIGKILL)
	p.status(20 * time.Second)
	redistest.Eventually(t, 10*time.Second, "the workers are gone", func() bool { return len(p.processes()) == 0 })
}

func TestAServerThatIsNotThere(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() }) // after the parallel subtests
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := gone.Addr().String()
	_ = gone.Close()

	for _, c := range []struct{ name, url, named string }{
		{"refuses", "redis://me:s3cret@" + closed + "/1", "redis://***@" + closed + "/1"},
		{"refuses, cluster", "redis://me:s3cret@" + closed + "," + closed, "redis://***@" + closed + "," + closed},
		{"hangs", "redis://:s3cret@" + silent.Addr().String(), "redis://***@" + silent.Addr().String()},
		{"no URL", "redis://:s3cret@lo calhost", "redis://***@lo calhost"},
		{"empty", "", `""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "demo", "--redis", c.url)
			began := time.Now()
			if got := p.status(30 * time.Second); got != exitFailure {
				t.Errorf("exit status: got %d, want 1", got)
			}
			if took := time.Since(began); took > 7*time.Second {
				t.Errorf("ended after %v, want within 5s", took)
			}
			p.wantIn("stderr", p.stderr.String(), c.named)
			if strings.Contains(p.output()+p.stderr.String(), "s3cret") {
				t.Errorf("the password is in %q, %q", p.output(), &p.stderr)
			}
		})
	}
}

// In this process, for goleak.
func TestCrewLeavesNothingBehind(t *testing.T) {
	t.Setenv(asCommand, t.TempDir())
	s, err := ownServer()
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	c, err := startCrew(names[:2], brief{URL: s.url, Prefix: "x:", Lease: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for seen < 2 {
		if e := <-c.events; e.Kind != ready {
			t.Fatalf("got %+v, want ready", e)
		}
		seen++
	}
	_ = tell(c.processes[0].stdin, job{Hold: forever, Times: 1})
	for (<-c.events).Kind != holds { // waits, then holds
	}
	c.stop()
	rdb, err := dial(s.url, false)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	if n := rdb.Exists(context.Background(), "x:"+lockName, "x:inside").Val(); n != 0 {
		t.Errorf("keys after the crew went home: got %d, want 0", n)
	}
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) waitFor(text string) {
	p.t.Helper()
	redistest.Eventually(p.t, showLimit, text, func() bool { return strings.Contains(p.output(), text) })
}

// processes are those of this program and its workers that live, by their environment.
func (p *program) processes() (found []string) {
	p.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(all) == 0 {
		p.t.Fatalf("/proc: got %v, %v", all, err)
	}
	for _, file := range all {
		text, err := os.ReadFile(file) // that of a process which has just ended is empty
		if err == nil && strings.Contains(string(text), p.mark) {
			found = append(found, filepath.Base(filepath.Dir(file)))
		}
	}
	return found
}

func (p *program) wantGone() {
	p.t.Helper()
	if left := p.processes(); len(left) > 0 {
		p.t.Errorf("processes left: got %v, want none", left)
	}
}

// wantHidden looks at the arguments of the workers, which everybody on the machine may
// read; those of the parent are the user's own.
func (p *program) wantHidden(secret string) {
	p.t.Helper()
	workers := 0
	for _, pid := range p.processes() {
		args, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		if !strings.Contains(string(args), workerCommand) {
			continue
		}
		workers++
		environ, _ := os.ReadFile("/proc/" + pid + "/environ")
		if strings.Contains(string(args)+string(environ), secret) {
			p.t.Errorf("the password is to be seen in worker %s: %q", pid, args)
		}
	}
	if workers == 0 {
		p.t.Error("got no workers to look at, want some")
	}
}
