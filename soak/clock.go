package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// now is the machine's monotonic clock in nanoseconds, the same in all processes.
func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // every Linux has it
	}
	return ts.Nano()
}

// monotonic is a time of this process on that clock.
func monotonic(t time.Time) int64 { return now() - int64(time.Since(t)) }

const (
	ms     = int64(time.Millisecond)
	second = int64(time.Second)
)
