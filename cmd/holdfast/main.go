// Command holdfast shows a lock service at work.
//
//	go run github.com/holdfast-go/holdfast/cmd/holdfast demo
//
// demo needs nothing but Go. It starts a Redis inside itself, starts five worker
// processes (itself, five times) that contend for one lock, and shows what happens:
// who holds and who waits, how fast a release wakes the next one, a long job kept by
// the watchdog, a holder killed by SIGKILL, and a holder forced out. It ends by itself
// after some twelve seconds with a summary, and exits 0 only if no two workers were
// ever inside at once. With --kind fair the lock is a fair one, and no two workers may
// have been granted it in another order than that of the queue; with --kind multi each
// visit locks two or three of three names; with --kind red the lock is a quorum lock on
// five servers inside the process, one of which is killed in the middle.
//
// # How it is built
//
//	acts.go      the show, act by act
//	stage.go     the conductor: sends jobs, takes in what happens, waits for it
//	crew.go      the worker processes          worker.go    what runs in each
//	wire.go      the lines of JSON between them
//	register.go  a set in Redis of who is inside, which the lock knows nothing of
//	book.go      every visit, and whether two overlapped
//	stats.go     hand-offs and the summary
//	kinds.go     the kinds of lock
//	server.go    the Redis: inside this process, or behind a URL; five for a quorum lock
//	watch.go     what Redis says of the lock meanwhile
//	view.go screen.go plain.go   what is shown
//
// All times that are compared were taken on this machine, so a clock that is set
// during the show may spoil it.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130
)

const usage = `holdfast: distributed locks on Redis

  holdfast demo       five processes contend for one lock; takes 12 to 20 seconds, needs nothing
      --kind KIND     rlock (the plain lock, by default), fair (first come, first served), multi
                      (several names as one) or red (a quorum of five servers, one of them is killed)
      --redis URL     use this server instead of one of its own: redis://, rediss:// or unix://;
                      a cluster is recognised, or has several hosts: redis://a:7000,b:7000;
                      not with --kind red, which brings five servers of its own
      --cluster       it is a cluster, whether or not it says so
      --plain         lines of text, not a screen; so by itself when the output is no terminal
  holdfast version
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr *os.File) int {
	command := "help"
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch command {
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return exitOK
	case "version", "-version", "--version":
		fmt.Fprintln(stdout, "holdfast", version())
		return exitOK
	case "demo":
		return demoCommand(args, stdout, stderr)
	case workerCommand:
		return runWorker(os.Stdin, os.Stdout)
	}
	return misused(stderr, fmt.Errorf("unknown command %q", command))
}

// demoFlags are the flags of "holdfast demo".
type demoFlags struct {
	kind     string
	redis    string
	hasRedis bool
	cluster  bool
	plain    bool
	unlocked bool // hidden: the workers go in without a lock, to see the register count it
}

func demoCommand(args []string, stdout, stderr *os.File) int {
	var f demoFlags
	set := flag.NewFlagSet("demo", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.kind, "kind", plainKind, "")
	set.StringVar(&f.redis, "redis", "", "")
	set.BoolVar(&f.cluster, "cluster", false, "")
	set.BoolVar(&f.plain, "plain", false, "")
	set.BoolVar(&f.unlocked, "without-lock", false, "")
	switch err := set.Parse(args); {
	case err == flag.ErrHelp:
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		return misused(stderr, err)
	case set.NArg() > 0:
		return misused(stderr, fmt.Errorf("demo takes no arguments, got %q", set.Arg(0)))
	}
	set.Visit(func(given *flag.Flag) { f.hasRedis = f.hasRedis || given.Name == "redis" })
	if !slices.Contains(kinds, f.kind) {
		return misused(stderr, fmt.Errorf("--kind is one of %s, got %q", strings.Join(kinds, ", "), f.kind))
	}
	if f.kind == redKind && (f.hasRedis || f.cluster) {
		return misused(stderr, fmt.Errorf("--kind red brings five servers of its own, and takes no --redis and no --cluster"))
	}
	if f.cluster && !f.hasRedis {
		return misused(stderr, fmt.Errorf("--cluster needs --redis"))
	}
	return demo(f, stdout, stderr)
}

func misused(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "holdfast: %v\nRun \"holdfast -h\" for what there is.\n", err)
	return exitUsage
}

// version is the module's, as the go command recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown)"
	}
	return info.Main.Version
}
