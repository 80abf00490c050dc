package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// lease is short, so that renewals and a takeover can be watched.
const lease = time.Second

var names = []string{"worker-1", "worker-2", "worker-3", "worker-4", "worker-5"}

// demo runs the show and returns the exit status.
func demo(f demoFlags, stdout, stderr *os.File) int {
	silence()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()

	sums, err := perform(ctx, stop, f, stdout)
	switch {
	case ctx.Err() != nil && err != nil:
		fmt.Fprintln(stderr, "holdfast: interrupted")
		if !errors.Is(err, context.Canceled) {
			fmt.Fprintln(stderr, "holdfast:", err)
		}
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "holdfast:", err)
		return exitFailure
	}
	fmt.Fprintln(stdout, sums)
	if sums.overlaps > 0 || sums.inversions > 0 {
		return exitFailure
	}
	return exitOK
}

// perform sets the stage, plays, and clears the stage again. Once ctx has ended a
// further signal ends the process at once.
func perform(ctx context.Context, stop func(), f demoFlags, stdout *os.File) (_ summary, err error) {
	context.AfterFunc(ctx, stop)
	began := time.Now()
	s, err := findServer(ctx, f)
	if err != nil {
		return summary{}, err
	}
	defer s.stop()
	b := brief{
		URL: s.url, Cluster: s.cluster, Kind: f.kind, Members: s.members, Lease: lease, Unlocked: f.unlocked,
		Prefix: "holdfast-demo:{" + uuid.NewString() + "}:", // one slot of a cluster
	}
	rdb, err := dial(s.url, s.cluster)
	if err != nil {
		return summary{}, err
	}
	defer rdb.Close()
	l, err := checkedLocks(ctx, b, s.label, began)
	if err != nil {
		return summary{}, err
	}
	defer l.close()
	defer func() { err = errors.Join(err, clear(rdb, b.Prefix)) }()

	crew, err := startCrew(names, b)
	defer crew.stop()
	if err != nil {
		return summary{}, err
	}
	return present(ctx, s, rdb, l, b, crew, began, newOutput(f, stdout))
}

func findServer(ctx context.Context, f demoFlags) (*server, error) {
	if f.kind == redKind {
		return ownQuorum()
	}
	if !f.hasRedis {
		return ownServer()
	}
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	return within(ctx, redacted(f.redis), func() (*server, error) { return foreignServer(ctx, f) })
}

// checkedLocks makes the clients of this process and has them look whether the servers
// suit.
func checkedLocks(ctx context.Context, b brief, label string, began time.Time) (*locks, error) {
	l, err := openLocks(b)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithDeadline(ctx, began.Add(connectLimit))
	defer cancel()
	for _, client := range l.clients {
		if err := client.Check(limited); err != nil {
			_ = l.close()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, unreachable(label, err)
		}
	}
	return l, nil
}

// clear removes the keys of the show; those of a quorum lock end with their servers.
func clear(rdb redisClient, prefix string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	keys := []string{newRegister(rdb, prefix).key}
	for _, name := range groupNames {
		keys = append(keys, prefix+name)
	}
	for _, companion := range []string{"redisson_lock_queue:", "redisson_lock_timeout:"} {
		keys = append(keys, companion+prefix+lockName)
	}
	return rdb.Del(ctx, keys...).Err()
}

// present plays the show on a stage with a crew, and sums it up.
func present(ctx context.Context, server *server, rdb redisClient, l *locks, b brief,
	crew *crew, began time.Time, out output) (summary, error) {
	o := newLookout(b.Kind, b.Prefix, l.rdbs)
	looks := make(chan look)
	watching, cancel := context.WithCancel(ctx)
	var threads sync.WaitGroup
	threads.Go(func() { o.watch(watching, looks) }) // ends below
	defer threads.Wait()
	defer cancel()
	defer out.close()

	s := &stage{
		began: began, server: server, lease: b.Lease, out: out,
		kind: b.Kind, lock: l.all(), register: newRegister(rdb, b.Prefix),
		look:   o.look,
		events: crew.events, looks: looks,
		acts: actsOf(b.Kind), book: newBook(), sums: summary{kind: b.Kind, lease: b.Lease, workers: len(crew.processes)},
	}
	for _, p := range crew.processes {
		s.actors = append(s.actors, &actor{process: p})
	}
	s.say("%s on %s; the lease is %v, its key %s", titleOf(b.Kind), server.label, b.Lease, strings.Join(o.keys, ", "))
	if err := s.play(ctx); err != nil {
		return summary{}, err
	}
	s.sums.visits, s.sums.handoffs = len(s.book.visits), durations(s.book.handoffs())
	s.sums.overtaken = s.book.overtaken()
	s.sums.overlaps = s.book.overlaps(true)
	s.sums.neighbours, s.sums.inversions = s.book.order()
	return s.sums, nil
}
