package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// A board shows how the rounds go, several of which may run at once, and gathers what
// they find.
type board struct {
	mu      sync.Mutex // also of the report
	report  *report
	running map[string]*runner
	began   time.Time
	width   int // of the line that is to be overwritten
	done    chan struct{}
	gone    chan struct{}
}

// startBoard shows a line each second on a terminal, elsewhere each half minute.
func startBoard(r *report) *board {
	b := &board{report: r, running: map[string]*runner{}, began: time.Now(), done: make(chan struct{}), gone: make(chan struct{})}
	every := 30 * time.Second
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		every = time.Second
	}
	go func() {
		defer close(b.gone)
		for tick := time.Tick(every); ; {
			select {
			case <-tick:
				b.show(every == time.Second)
			case <-b.done:
				return
			}
		}
	}()
	return b
}

func (b *board) end() {
	close(b.done)
	<-b.gone
}

// show prints the figures so far, of rounds that are over and of those that run.
func (b *board) show(overwrite bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	acquired, faults := int64(b.report.Total.Acquired), int64(b.report.Total.AllFaults)
	for _, run := range b.running {
		a := run.acquired()
		acquired += a
		faults += run.faults.Load()
	}
	line := fmt.Sprintf("%7v  %d acquired, %d faults, %d violations; now %s", time.Since(b.began).Round(time.Second), acquired, faults, len(b.report.Violations),
		strings.Join(sortedKeys(b.running), ", "))
	if overwrite {
		fmt.Printf("\r%-*s\r%s", b.width, "", line)
		b.width = len(line)
		return
	}
	fmt.Println(line)
}

// round runs one round, checks its history, and keeps it if something is wrong.
func (b *board) round(ctx context.Context, run *runner, s settings) {
	b.mu.Lock()
	b.running[run.Name] = run
	b.mu.Unlock()
	err := run.run(ctx, s.dir)
	var a *analysis
	described, events, unread := readHistory(run.history)
	if unread == nil {
		a = analyse(described, events)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.running, run.Name)
	if err != nil && ctx.Err() == nil {
		b.report.Invalid = append(b.report.Invalid, fmt.Sprintf("%s: %v", run.Name, err))
	}
	if unread != nil {
		b.report.Invalid = append(b.report.Invalid, unread.Error())
		return
	}
	b.report.add(a)
	fmt.Printf("\r%-*s\r%-20s %6d acquired %5d faults %d violations\n", b.width, "", run.Name, a.figures.Acquired, a.figures.AllFaults, len(a.found))
	if len(a.found) > 0 {
		b.report.Kept = append(b.report.Kept, run.history)
	} else if !s.keep {
		_ = os.Remove(run.history)
	}
}
