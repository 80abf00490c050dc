package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// asCommand is the environment variable that makes the test binary the command itself,
// so that it and its workers run with whatever the tests are built with. Its value
// marks the processes of one test.
const asCommand = "HOLDFAST_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	redistest.AtOnce(4)
	goleak.VerifyTestMain(m)
}

// A program is one run of the command.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	mark   string
	out    *os.File
	stderr bytes.Buffer
	waited chan error
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	return startOn(t, out, args...)
}

// startOn lets the program write to that file.
func startOn(t *testing.T, out *os.File, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(os.Args[0], args...), mark: t.TempDir(), out: out, waited: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), asCommand+"="+p.mark, "TERM=xterm")
	p.cmd.Stdout, p.cmd.Stderr = out, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with the process
		defer close(ended)
		p.waited <- p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-ended
	})
	return p
}

// status waits for the end of the program.
func (p *program) status(limit time.Duration) int {
	p.t.Helper()
	select {
	case err := <-p.waited:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			p.t.Fatal(err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("still runs after %v:\n%s", limit, p.output())
		return 0
	}
}

func (p *program) output() string {
	text, err := os.ReadFile(p.out.Name())
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

func (p *program) wantIn(what, text string, parts ...string) {
	p.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			p.t.Errorf("%s: got\n%s\nwant %q in it", what, text, part)
		}
	}
}

func TestCommandsAndMisuse(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   string
		status int
		stdout string
		stderr string
	}{
		{"alone", "", exitOK, "holdfast demo", ""},
		{"help", "-h", exitOK, "holdfast demo", ""},
		{"help of the demo", "demo -h", exitOK, "--redis URL", ""},
		{"version", "version", exitOK, "holdfast ", ""},
		{"unknown command", "dmeo", exitUsage, "", `unknown command "dmeo"`},
		{"unknown flag", "demo --plian", exitUsage, "", "-plian"},
		{"an argument too many", "demo redis://localhost", exitUsage, "", `takes no arguments, got "redis://localhost"`},
		{"a kind that there is not", "demo --kind spin", exitUsage, "", `--kind is one of rlock, fair, multi, red, got "spin"`},
		{"a quorum on one server", "demo --kind red --redis redis://localhost", exitUsage, "", "brings five servers of its own"},
		{"a cluster without a URL", "demo --cluster", exitUsage, "", "--cluster needs --redis"},
		{"a worker without a parent", workerCommand, exitUsage, "", `started by "holdfast demo" only`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, strings.Fields(c.args)...)
			if got := p.status(20 * time.Second); got != c.status {
				t.Errorf("exit status: got %d, want %d", got, c.status)
			}
			p.wantIn("stdout", p.output(), c.stdout)
			p.wantIn("stderr", p.stderr.String(), c.stderr)
		})
	}
}
