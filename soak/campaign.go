package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9/logging"
)

const usage = `soak: lock clients against real servers that are spoiled by a seeded schedule

  soak run [flags]          rounds over all topologies; without a command, too
  soak check HISTORY...     the checks of saved histories again, without servers
  soak controls [flags]     planted bugs, each must be caught by name; heeds -dir, -only and -seed

flags:
`

// command runs what the command line asks for; the result is the exit status.
func command(args []string) int {
	verb := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	logging.Disable() // go-redis tells of every dial that fails
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	switch verb {
	case "", "run":
		err = campaign(ctx, args)
	case "check":
		err = recheck(args)
	case "controls":
		err = onlyControls(ctx, args)
	case "help":
		err = flag.ErrHelp
	default:
		err = fmt.Errorf("no command is called %q; there are run, check and controls", verb)
	}
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		flags := newFlags(new(settings))
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		return 1
	}
	return 0
}

// settings are the flags of a run.
type settings struct {
	duration time.Duration
	seed     uint64
	dir      string
	keep     bool
	short    bool
	only     string
	controls bool
	atOnce   int
}

func newFlags(s *settings) *flag.FlagSet {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // command tells what went wrong
	flags.DurationVar(&s.duration, "duration", 10*time.Minute, "time under load, over all rounds")
	flags.Uint64Var(&s.seed, "seed", 0, "seed of the run; 0 draws one")
	flags.StringVar(&s.dir, "dir", "", "where histories and report.json go; empty: a temporary folder")
	flags.BoolVar(&s.keep, "keep", false, "keep the histories of rounds without violations, too")
	flags.BoolVar(&s.short, "short", false, "one short round of each kind, with its floors, and the negative controls")
	flags.IntVar(&s.atOnce, "at-once", 2, "rounds that run side by side")
	flags.StringVar(&s.only, "only", "", "only rounds whose names contain this; no floors")
	flags.BoolVar(&s.controls, "controls", true, "with -short: run the negative controls")
	return flags
}

func parse(args []string) (s settings, err error) {
	if err := newFlags(&s).Parse(args); err != nil {
		return s, err
	}
	if s.duration <= 0 {
		return s, fmt.Errorf("-duration %v: it must be positive", s.duration)
	}
	if s.atOnce < 1 {
		return s, fmt.Errorf("-at-once %d: at least one round must run", s.atOnce)
	}
	if s.seed == 0 {
		s.seed = rand.Uint64N(1 << 32)
	}
	if s.dir == "" {
		s.dir, err = os.MkdirTemp("", "soak-")
	} else {
		err = os.MkdirAll(s.dir, 0o755)
	}
	return s, err
}

// campaign runs rounds until the time is over.
func campaign(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(plan(s, 0), func(r round) bool { return strings.Contains(r.Name, s.only) }) {
		return fmt.Errorf("no round's name contains %q", s.only)
	}
	rep := newReport(s.seed)
	fmt.Printf("seed %d, histories in %s\n", s.seed, s.dir)
	b := startBoard(rep)
	under := time.Duration(0)
	places := make(chan struct{}, s.atOnce)
	var group sync.WaitGroup
	for cycle := 0; ctx.Err() == nil && (cycle == 0 || !s.short && under < s.duration); cycle++ {
		for _, r := range plan(s, cycle) {
			if !strings.Contains(r.Name, s.only) || !s.short && under >= s.duration && s.only == "" {
				continue
			}
			places <- struct{}{}
			if ctx.Err() != nil {
				break
			}
			under += r.Duration
			group.Go(func() {
				b.round(ctx, &runner{round: r, binary: self}, s)
				<-places
			})
		}
	}
	group.Wait()
	b.end()
	if s.short && s.controls && ctx.Err() == nil {
		rep.Controls, err = runControls(ctx, s)
		if err != nil {
			rep.Invalid = append(rep.Invalid, err.Error())
		}
	}
	if ctx.Err() == nil && s.only == "" {
		rep.floors(s)
	}
	rep.Valid = len(rep.Invalid) == 0
	fmt.Println()
	rep.table(os.Stdout)
	if err := rep.write(filepath.Join(s.dir, "report.json")); err != nil {
		return err
	}
	return rep.verdict()
}

func (r *report) verdict() error {
	missed := 0
	for _, c := range r.Controls {
		if !c.Caught {
			missed++
		}
	}
	var err error
	if len(r.Violations) > 0 {
		err = fmt.Errorf("%d violations; histories: %s", len(r.Violations), strings.Join(r.Kept, " "))
	}
	if missed > 0 {
		err = errors.Join(err, fmt.Errorf("%d planted bugs were not caught", missed))
	}
	if !r.Valid {
		err = errors.Join(err, errors.New("the run is invalid"))
	}
	return err
}

// recheck checks saved histories again.
func recheck(args []string) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("check which history?")
	}
	rep := newReport(0)
	for _, path := range flags.Args() {
		r, events, err := readHistory(path)
		if err != nil {
			return err
		}
		rep.Seed = r.Seed
		rep.add(analyse(r, events))
		rep.Kept = append(rep.Kept, path)
	}
	rep.Valid = true
	rep.table(os.Stdout)
	return rep.verdict()
}

// commit is the library's, with a mark if it was changed since.
func commit() string {
	text, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}

func redisVersion() string {
	binary := os.Getenv("HOLDFAST_REDIS_SERVER")
	if binary == "" {
		binary = "redis-server"
	}
	text, _ := exec.Command(binary, "--version").Output()
	for _, word := range strings.Fields(string(text)) {
		if version, ok := strings.CutPrefix(word, "v="); ok {
			return version
		}
	}
	return "unknown"
}
