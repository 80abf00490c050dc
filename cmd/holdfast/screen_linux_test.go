package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// On a terminal there is a screen, which a Ctrl-C leaves as it was.
func TestShowOnATerminal(t *testing.T) {
	t.Parallel()
	terminal, slave := openTerminal(t, 90, 20)
	shown := &transcript{}
	read := make(chan struct{})
	go func() { // ends when the program has, and this process has closed the slave
		defer close(read)
		_, _ = io.Copy(shown, terminal)
	}()
	p := startOn(t, slave, "demo")
	redistest.Eventually(t, showLimit, "act 2 on the screen", func() bool {
		return strings.Contains(shown.text(), "act 2 of 5") && strings.Contains(shown.text(), "HOLDS")
	})
	p.signal(syscall.SIGINT)
	if got := p.status(20 * time.Second); got != exitInterrupted {
		t.Errorf("exit status: got %d, want 130", got)
	}
	_ = slave.Close()
	<-read
	got := shown.text()
	if !strings.HasPrefix(got, enterScreen) || !strings.HasSuffix(got, leaveScreen) {
		t.Errorf("got %q ... %q, want the alternate screen entered and left", got[:min(40, len(got))], got[max(0, len(got)-40):])
	}
	p.wantGone()
}

// openTerminal opens a pseudo-terminal of that size.
func openTerminal(t *testing.T, width, height uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

// A transcript is what was written to it so far.
type transcript struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (w *transcript) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes.Write(p)
}

func (w *transcript) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes.String()
}
