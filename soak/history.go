package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// A kind of line in a history.
type kind string

const (
	kindRound  kind = "round"  // the first line: what the round is
	kindGot    kind = "got"    // a Lock returned a hold
	kindMiss   kind = "miss"   // a Lock returned an error
	kindStill  kind = "still"  // a hold says that it is held
	kindLost   kind = "lost"   // a hold says that it is lost
	kindEnd    kind = "end"    // an Unlock returned
	kindOp     kind = "op"     // an operation of a script was answered, or will not be
	kindSent   kind = "sent"   // an operation is about to be sent, by a worker that may be killed
	kindClash  kind = "clash"  // somebody was in the register when another one entered
	kindForce  kind = "force"  // a lock was freed by force
	kindFault  kind = "fault"  // a fault, with its start and end
	kindNoise  kind = "noise"  // the machine itself stood still
	kindDeath  kind = "death"  // a worker was killed
	kindGhost  kind = "ghost"  // something was left behind
	kindFigure kind = "figure" // a measure that the report shows
	kindStop   kind = "stop"   // the workers were told to stop
)

// An event is one line of a history. Times are nanoseconds of now().
type event struct {
	Kind kind  `json:"k"`
	Call int64 `json:"c,omitempty"` // when it began
	Time int64 `json:"t"`           // when it was over

	Worker string `json:"w,omitempty"`
	Lock   string `json:"l,omitempty"`
	Hold   string `json:"h,omitempty"` // one outermost acquisition and what is re-entered under it
	Owner  string `json:"o,omitempty"` // as Redis knows it
	Lease  int64  `json:"lease,omitempty"`
	Own    bool   `json:"own,omitempty"`   // the lease was given, so nobody renews it
	Polls  bool   `json:"polls,omitempty"` // waits without messages
	Trust  int64  `json:"trust,omitempty"` // the last moment at which the hold was known to be held
	Late   int64  `json:"late,omitempty"`  // after its window, when the loss was signalled
	Err    string `json:"err,omitempty"`

	Verb    string  `json:"v,omitempty"` // of an operation
	Count   int     `json:"n,omitempty"` // before an acquire, after a release
	Answer  []int64 `json:"a,omitempty"`
	Unknown bool    `json:"u,omitempty"` // it may have been executed, or may still be

	What  string `json:"what,omitempty"`  // of a fault, ghost, figure
	Tail  int64  `json:"tail,omitempty"`  // how long after its end a fault still explains a stall
	Round *round `json:"round,omitempty"` // of the first line
	Value int64  `json:"value,omitempty"`

	nth   int // of an operation: which answer of its command is its own
	share int // and which part of that, from 1; 0: all of it
}

// A recorder appends lines to a history. Each line is one write, so that several
// processes may share the file and none loses a line when it is killed.
type recorder struct {
	mu   sync.Mutex
	file *os.File
	err  error
}

func record(path string) (*recorder, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return &recorder{file: file}, err
}

func (r *recorder) note(e event) {
	if e.Time == 0 {
		e.Time = now()
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = r.file.Write(append(line, '\n'))
	}
	if err != nil {
		r.mu.Lock()
		r.err = errors.Join(r.err, err)
		r.mu.Unlock()
	}
}

// close tells whether anything of the record is missing.
func (r *recorder) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.err, r.file.Close())
}

// readHistory reads all lines. A last line that a killed process has not finished is
// an error: a line is one write.
func readHistory(path string) (r round, events []event, err error) {
	file, err := os.Open(path)
	if err != nil {
		return r, nil, err
	}
	defer file.Close()
	decoder := json.NewDecoder(bufio.NewReaderSize(file, 1<<20))
	for {
		var e event
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return r, nil, fmt.Errorf("%s, line %d: %w", path, len(events)+1, err)
		}
		if e.Kind == kindRound {
			r = *e.Round
			continue
		}
		events = append(events, e)
	}
	if r.Name == "" {
		return r, nil, fmt.Errorf("%s: not a history: it does not say which round it is", path)
	}
	return r, events, nil
}
