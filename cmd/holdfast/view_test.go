package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var sample = view{
	lock: `lock "orders"`, server: "miniredis inside, 127.0.0.1:4000", elapsed: 4100 * time.Millisecond,
	act: "2 of 5  a long job", text: "the watchdog keeps the lock",
	holder: "worker-2", owner: "01a21214-bc08-7b62-89a9-0123456789ab:7",
	ttl: 680 * time.Millisecond, lease: time.Second,
	rows: []row{
		{"worker-1", 4218, "waits   1.60 s", yellow, 4},
		{"worker-2", 4219, "HOLDS   1.60 s", green, 5},
	},
	numbers: "hand-offs 16   p50 0.9 ms   p99 1.7 ms   overlaps 0",
	log:     []string{"  1.787  worker-1 holds", "  2.494  worker-2 holds", "  2.862  the watchdog renews"},
}

const sampleScreen = `holdfast demo   lock "orders"   2 processes   miniredis inside, 127.0.0.1:4000   4.1 s
act 2 of 5  a long job   the watchdog keeps the lock

held by worker-2   lease =============....... 0.68 s left of 1.00 s   owner ...456789ab:7

  worker-1  pid 4218    waits   1.60 s                4 times
  worker-2  pid 4219    HOLDS   1.60 s                5 times

hand-offs 16   p50 0.9 ms   p99 1.7 ms   overlaps 0

  2.494  worker-2 holds
  2.862  the watchdog renews
`

// text is what is read of the lines, without their styles.
func text(lines [][]span) string {
	var b strings.Builder
	for _, line := range lines {
		for _, s := range line {
			b.WriteString(s.text)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestViewIsRendered(t *testing.T) {
	if got := text(render(sample, 100, 12)); got != sampleScreen {
		t.Errorf("got\n%s\nwant\n%s", got, sampleScreen)
	}
}

func TestViewKeepsToTheTerminal(t *testing.T) {
	for _, size := range []struct{ width, height int }{{1, 1}, {20, 5}, {33, 11}, {80, 24}, {300, 100}} {
		lines := render(sample, size.width, size.height)
		if len(lines) > size.height {
			t.Errorf("%v: got %d lines", size, len(lines))
		}
		for line := range strings.Lines(text(lines)) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > size.width {
				t.Errorf("%v: got a line of %d columns: %q", size, n, line)
			}
		}
	}
}

func TestFreeLockIsRendered(t *testing.T) {
	v := sample
	v.holder = ""
	if got := text(render(v, 80, 24)); !strings.Contains(got, "\nfree\n") {
		t.Errorf("got\n%s\nwant free", got)
	}
}

func TestFrameIsPainted(t *testing.T) {
	lines := [][]span{{{green, "held"}, {plainText, " by"}}, nil}
	for colour, want := range map[bool]string{
		true:  "\x1b[?2026h\x1b[H\x1b[32mheld\x1b[0m by\x1b[K\r\n\x1b[K\x1b[J\x1b[?2026l",
		false: "\x1b[?2026h\x1b[Hheld by\x1b[K\r\n\x1b[K\x1b[J\x1b[?2026l",
	} {
		if got := frame(lines, colour); got != want {
			t.Errorf("colour %v: got %q, want %q", colour, got, want)
		}
	}
}

func TestScreenLeavesTheTerminalAsItWas(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, size: func() (int, int) { return 80, 24 }}
	s.open()
	s.act("1 of 5", "taking turns", "")
	s.line(time.Second, "worker-1 holds")
	s.draw(sample)
	s.close()
	got := out.String()
	if !strings.HasPrefix(got, "\x1b[?1049h\x1b[?25l") || !strings.HasSuffix(got, "\x1b[?25h\x1b[?1049l") {
		t.Errorf("got %q, want the alternate screen entered and left, the cursor hidden and shown", got)
	}
	for _, part := range []string{"act 1 of 5: taking turns", "  1.000  worker-1 holds"} {
		if !strings.Contains(got, part) {
			t.Errorf("got %q, want %q in it", got, part)
		}
	}
}

func TestSummaryTellsWhatItMeans(t *testing.T) {
	s := summary{
		workers: 5, visits: 421, handoffs: []time.Duration{800 * time.Microsecond, 2 * time.Millisecond}, overtaken: 7,
		longHold: 3 * time.Second, renewals: 9, lease: time.Second,
		kill:   &takeover{from: "worker-3", to: "worker-5", took: 820 * time.Millisecond, leaseLeft: 810 * time.Millisecond},
		force:  &takeover{from: "worker-4", to: "worker-5", took: 1300 * time.Microsecond},
		latest: 150 * time.Millisecond, learned: 153 * time.Millisecond, cause: "holdfast: hold lost",
	}
	const want = `summary
  acquisitions   421 by 5 processes
  hand-offs      2, p50 0.8 ms, p99 2.0 ms (to one that waited: Unlock called until its Lock returns)
  newcomers      7 (asked after an Unlock, and had the lock before those who waited)
  long job       3.00 s on a lease of 1.00 s, renewed 9 times
  kill -9        worker-3 died with 0.81 s of its lease left, worker-5 had the lock after 0.82 s
  force-unlock   worker-5 had the lock after 1.3 ms, worker-4 was told after 153 ms: "holdfast: hold lost"
  late holder    it worked on beside its successor for 150 ms: a holder learns of a force-unlock
                 at its next renewal, at most 333 ms later
  overlaps       0 (besides that one, no two workers relied on the lock at once)`
	if got := s.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s.overlaps, s.surprises, s.handoffs, s.overtaken = 2, 1, nil, 0
	for part, want := range map[string]bool{
		"overlaps       2 (THE LOCK IS BROKEN": true, "holds lost     1, ": true,
		"  hand-offs      0 (to one that waited": true, "p50": false, "newcomers": false,
	} {
		if got := s.String(); strings.Contains(got, part) != want {
			t.Errorf("got\n%s\nwant %q in it: %v", got, part, want)
		}
	}
}
