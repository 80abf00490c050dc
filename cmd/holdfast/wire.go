package main

import (
	"encoding/json"
	"io"
	"time"
)

// workerCommand is the hidden command that makes this program a worker.
const workerCommand = "demo-worker"

// A brief is the first line that a worker reads. The URL may carry a password, and so
// comes here and not as an argument.
type brief struct {
	Worker   string        `json:"worker"`
	URL      string        `json:"url"`
	Cluster  bool          `json:"cluster"`
	Kind     string        `json:"kind"`    // of the lock
	Members  []string      `json:"members"` // URLs of a quorum lock's servers; URL has the register then
	Prefix   string        `json:"prefix"`  // of all keys of this show
	Lease    time.Duration `json:"lease_ns"`
	Unlocked bool          `json:"unlocked"` // go in without a lock
}

// servers are the URLs of those that the lock is on.
func (b brief) servers() []string {
	if len(b.Members) > 0 {
		return b.Members
	}
	return []string{b.URL}
}

// A job is each further line: hold the lock that long, so many times or until For has
// passed.
type job struct {
	Hold  time.Duration `json:"hold_ns"`
	Times int           `json:"times"`
	For   time.Duration `json:"for_ns"`
}

// What a worker tells. Of one visit, in this order: waits, holds, lost if so, leaves,
// left.
const (
	ready  = "ready"  // connected, waits for jobs
	waits  = "waits"  // asks for the lock
	holds  = "holds"  // has it and is inside; At is when the library said so
	lost   = "lost"   // the hold's context ended; Text is the cause
	leaves = "leaves" // is outside, and at At begins to unlock
	left   = "left"   // has unlocked
	idle   = "idle"   // the job is done
	failed = "failed" // Text tells why; the worker ends
	died   = "died"   // told by the parent: the process has ended
)

// An event is one line that a worker writes.
type event struct {
	Worker  string    `json:"worker"`
	Kind    string    `json:"kind"`
	At      time.Time `json:"at"`
	Visit   string    `json:"visit,omitempty"`
	Owner   string    `json:"owner,omitempty"`
	Inside  []string  `json:"inside,omitempty"` // holds: whom else the register had inside
	Trusted time.Time `json:"trusted,omitzero"` // leaves: when the hold was last found good
	Lost    bool      `json:"lost,omitempty"`   // left: the hold was lost before it was unlocked
	Text    string    `json:"text,omitempty"`
}

// tell writes one line with a single write. All workers share one pipe, so what one
// tells before it unlocks stands before what the next one tells once it has the lock.
func tell(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
