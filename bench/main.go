// Command bench compares holdfast with three other lock libraries for Go, in one
// run on one machine. README.md tells how its figures are made.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"
)

func main() {
	if os.Getenv(childVariable) != "" {
		runChild()
		return
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

// flags are those of the command line.
type flags struct {
	rounds     int
	seconds    float64
	only       string
	peers      string
	quick      bool
	json       string
	cpuProfile string
	memProfile string
}

func parseFlags(args []string, errs io.Writer) (flags, error) {
	var f flags
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(errs)
	set.IntVar(&f.rounds, "rounds", 5, "rounds of every measurement")
	set.Float64Var(&f.seconds, "seconds", 1, "seconds that one measurement counts")
	set.StringVar(&f.only, "only", "", "only the measurements that match this `regexp`: "+measurementNames())
	set.StringVar(&f.peers, "peers", "", "only the libraries that match this `regexp`")
	set.BoolVar(&f.quick, "quick", false, "small sizes and one round: shows that everything works, its figures say nothing")
	set.StringVar(&f.json, "json", "", "write all values of all rounds to this `file`")
	set.StringVar(&f.cpuProfile, "cpuprofile", "", "write a CPU profile of this process to this `file`")
	set.StringVar(&f.memProfile, "memprofile", "", "write a profile of all its allocations to this `file`")
	if err := set.Parse(args); err != nil {
		return f, err
	}
	switch {
	case set.NArg() > 0:
		return f, fmt.Errorf("no arguments are understood, got %q", set.Args())
	case f.rounds < 1:
		return f, fmt.Errorf("-rounds must be at least 1, got %d", f.rounds)
	case f.seconds < 0.05:
		return f, fmt.Errorf("-seconds must be at least 0.05, got %v", f.seconds)
	}
	return f, nil
}

func measurementNames() (names string) {
	for _, m := range measurements {
		names += " " + m.name
	}
	return names
}

// run is the whole program: table on out, progress on errs.
func run(ctx context.Context, args []string, out, errs io.Writer) (err error) {
	f, err := parseFlags(args, errs)
	if err != nil {
		return err
	}
	chosen, libraries, err := f.choose()
	if err != nil {
		return err
	}
	redis, err := startServer(ctx)
	if err != nil {
		return err
	}
	defer redis.stop()
	onMachine, err := describeMachine(redis.addr)
	if err != nil {
		return err
	}
	stopProfiles, err := f.startProfiles()
	if err != nil {
		return err
	}
	b := &bench{settings: f.settings(), addr: redis.addr, progress: errs}
	defer b.stop()
	r, err := b.measure(ctx, chosen, libraries)
	if err = errors.Join(err, stopProfiles()); err != nil {
		return err
	}
	r.Machine = onMachine
	r.conclude()
	r.markdown(out)
	if f.json != "" {
		if err := r.writeJSON(f.json); err != nil {
			return err
		}
	}
	if r.failed {
		return errors.New("holdfast did not do what was measured: see the list under the table")
	}
	return nil
}

func (f flags) settings() settings {
	if f.quick {
		return quickSettings()
	}
	return fullSettings(f.rounds, time.Duration(f.seconds*float64(time.Second)))
}

// choose finds what -only and -peers name.
func (f flags) choose() ([]measurement, []peer, error) {
	only, err := regexp.Compile(f.only)
	if err != nil {
		return nil, nil, fmt.Errorf("-only: %w", err)
	}
	pattern, err := regexp.Compile(f.peers)
	if err != nil {
		return nil, nil, fmt.Errorf("-peers: %w", err)
	}
	var chosen []measurement
	for _, m := range measurements {
		if only.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	libraries := peersMatching(pattern)
	if len(chosen) == 0 || len(libraries) == 0 {
		return nil, nil, fmt.Errorf("nothing to measure: -only %q and -peers %q leave %d measurements of %d libraries", f.only, f.peers, len(chosen), len(libraries))
	}
	return chosen, libraries, nil
}

// startProfiles starts what was asked for, and returns a function that writes it.
func (f flags) startProfiles() (stop func() error, err error) {
	var cpu *os.File
	if f.cpuProfile != "" {
		if cpu, err = os.Create(f.cpuProfile); err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(cpu); err != nil {
			return nil, errors.Join(err, cpu.Close())
		}
	}
	return func() (err error) {
		if cpu != nil {
			pprof.StopCPUProfile()
			err = cpu.Close()
		}
		if f.memProfile != "" {
			err = errors.Join(err, writeAllocations(f.memProfile))
		}
		return err
	}, nil
}

func writeAllocations(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	runtime.GC() // the profile tells what was known at the last collection
	return errors.Join(pprof.Lookup("allocs").WriteTo(file, 0), file.Close())
}
