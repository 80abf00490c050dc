// Command holdfast shows a lock service at work.
//
//	go run github.com/holdfast-go/holdfast/cmd/holdfast demo
//
// demo needs nothing but Go. It starts a Redis inside itself, starts five worker
// processes (itself, five times) that contend for one lock, and shows what happens:
// who holds and who waits, how fast a release wakes the next one, a long job kept by
// the watchdog, a holder killed by SIGKILL, and a holder forced out. It ends by itself
// after some twelve seconds with a summary, and exits 0 only if no two workers were
// ever inside at once.
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
//	server.go    the Redis: inside this process, or behind a URL
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
)

const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130
)

const usage = `holdfast: distributed locks on Redis

  holdfast demo       five processes contend for one lock; takes 12 seconds, needs nothing
      --redis URL     use this server instead of one of its own: redis://, rediss:// or unix://;
                      a cluster is recognised, or has several hosts: redis://a:7000,b:7000
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
