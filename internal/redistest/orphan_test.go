package redistest

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A server must not outlive the program that started it, even when that is
// killed; and it must live as long as it does, whatever becomes of its threads.
func TestServerDiesWithItsProgram(t *testing.T) {
	if os.Getenv("REDISTEST_ORPHAN") != "" {
		s, err := Launch()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = os.Stdout.WriteString("pid " + strconv.Itoa(s.PID()) + "\n")
		select {} // until the parent kills this process
	}
	program := exec.Command(os.Args[0], "-test.run=^TestServerDiesWithItsProgram$")
	program.Env = append(os.Environ(), "REDISTEST_ORPHAN=1", "TMPDIR="+t.TempDir())
	output, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	pid, err2 := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "pid ")))
	if err != nil || err2 != nil {
		_ = program.Process.Kill()
		_ = program.Wait()
		t.Fatalf("pid of the server: got %q, %v", line, err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the server while its program lives: %v", err)
	}
	_ = program.Process.Kill()
	_ = program.Wait()
	Eventually(t, 10*time.Second, "the server is gone", func() bool { return !alive(pid) })
}

// alive tells whether the process runs; one that has ended and waits for
// whoever adopted it to take notice does not.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
