package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/holdfast-go/holdfast"
)

// workerVariable makes this program a worker; its value is the workerConfig.
const workerVariable = "HOLDFAST_SOAK_WORKER"

// A workerConfig is all that a worker is told.
type workerConfig struct {
	Name     string // of the worker and its links; a worker that was killed and replaced keeps it
	Life     int    // how many came before it
	Seed     uint64
	History  string // the file
	Topology string
	Addrs    []string          // a server, a cluster's nodes or the sentinels
	Links    map[string]string // a server's address -> that of the proxy in front of it
	Register string
	Watchdog time.Duration
	Mortal   bool           // it may be killed
	Load     map[string]int // goroutines by workload
}

const (
	masterName   = "holdfast" // what redistest's sentinels call it
	readTimeout  = 300 * time.Millisecond
	user, secret = "locker", "soak"
)

// A worker is one client in a process of its own.
type worker struct {
	config   workerConfig
	record   *recorder
	client   *holdfast.Client   // the first of the clients
	clients  []*holdfast.Client // one; of a quorum, one for each server
	rdbs     []redis.UniversalClient
	register register
	heap     int64           // before any lock
	stopping <-chan struct{} // closed once the round is over
	ctx      context.Context // ends with stopping

	acquired, held atomic.Int64
}

// runWorker is a worker's main. The controller says "stop" and "close" on standard
// input; when that ends, the controller has died.
func runWorker(text string) error {
	signal.Ignore(syscall.SIGINT) // of a terminal; the controller decides
	logging.Disable()
	var config workerConfig
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return err
	}
	record, err := record(config.History)
	if err != nil {
		return err
	}
	stop, sweeping, closing := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go listen(stop, sweeping, closing) // ends the process when standard input ends

	w := &worker{config: config, record: record, stopping: stop}
	baseline := runtime.NumGoroutine()
	if err := w.open(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.ctx = ctx
	go func() { <-stop; cancel() }()
	go w.tell()  // until the process ends
	go w.probe() // until the process ends
	w.run()
	fmt.Println("quiet")
	<-sweeping
	w.sweep()
	fmt.Println("swept")
	<-closing
	err = errors.Join(w.close(baseline), record.close())
	fmt.Println("closed")
	if err != nil {
		return err
	}
	select {} // until standard input ends: it is still to be seen that no connection is left
}

func listen(stop, sweeping, closing chan struct{}) {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch lines.Text() {
		case "stop":
			close(stop)
		case "sweep":
			close(sweeping)
		case "close":
			close(closing)
		}
	}
	os.Exit(0)
}

// open makes the clients, behind the links, and the register's, which has no link.
func (w *worker) open() error {
	w.register = register{redis.NewClient(&redis.Options{Addr: w.config.Register, ReadTimeout: 30 * time.Second})}
	w.rdbs = w.connections()
	for _, rdb := range w.rdbs {
		rdb.(interface{ AddHook(redis.Hook) }).AddHook(&observer{w.record, w.config.Name, w.config.Mortal})
		client, err := holdfast.New(rdb, holdfast.WithWatchdogTimeout(w.config.Watchdog), holdfast.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			return err
		}
		w.clients = append(w.clients, client)
	}
	w.client = w.clients[0]
	w.heap = heap()
	return nil
}

// connections are the Redis clients that the topology asks for.
func (w *worker) connections() []redis.UniversalClient {
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if link := w.config.Links[addr]; link != "" {
			addr = link
		}
		dialer := net.Dialer{Timeout: readTimeout}
		return dialer.DialContext(ctx, network, addr)
	}
	switch w.config.Topology {
	case "cluster":
		return []redis.UniversalClient{redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: w.config.Addrs, Dialer: dial, ReadTimeout: readTimeout, PoolSize: 20,
		})}
	case "sentinel":
		return []redis.UniversalClient{redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: masterName, SentinelAddrs: w.config.Addrs, Dialer: dial, ReadTimeout: readTimeout, PoolSize: 20,
		})}
	}
	var rdbs []redis.UniversalClient // standalone: one server; quorum: five
	for _, addr := range w.config.Addrs {
		rdbs = append(rdbs, redis.NewClient(&redis.Options{
			Addr: addr, Username: user, Password: secret, Dialer: dial, ReadTimeout: readTimeout, PoolSize: 20,
		}))
	}
	return rdbs
}

// run runs the workloads until the round is over and every call has returned.
func (w *worker) run() {
	var group sync.WaitGroup
	for _, load := range workloads {
		for i := range w.config.Load[load.name] {
			id := fmt.Sprintf("%s.%d/%s-%d", w.config.Name, w.config.Life, load.name, i)
			g := &goroutine{worker: w, id: id, index: i, rng: stream(w.config.Seed, id)}
			group.Go(func() {
				for !w.over() {
					load.turn(g)
				}
			})
		}
	}
	group.Wait()
}

func (w *worker) over() bool {
	select {
	case <-w.stopping:
		return true
	default:
		return false
	}
}

// tell writes how many locks were acquired to the controller twice a second.
func (w *worker) tell() {
	for range time.Tick(500 * time.Millisecond) {
		fmt.Println("acquired", w.acquired.Load())
	}
}

// probe notes when this process stood still: what happened then says nothing about
// the library.
func (w *worker) probe() {
	probe(func(from, to int64) {
		w.record.note(event{Kind: kindNoise, Call: from, Time: to, Worker: w.config.Name, What: "worker late"})
	}, nil)
}

// unnoticed is how long a process may get no processor before that is noted.
const unnoticed = 25 * ms

// probe calls noisy with each moment in which this process got no processor.
func probe(noisy func(from, to int64), done <-chan struct{}) {
	const every = 10 * ms
	for last := now(); ; {
		select {
		case <-time.After(time.Duration(every)):
		case <-done:
			return
		}
		t := now()
		if t-last > every+unnoticed {
			noisy(last, t)
		}
		last = t
	}
}

// sweep tries each fair lock once. A place of a waiter that was killed is dropped by the
// next one who asks, and by nobody else.
func (w *worker) sweep() {
	for i := range w.config.Load["fair"] {
		if hold, err := w.client.FairLock(fmt.Sprintf("fair:%d", i)).TryLock(context.Background(), 5*time.Second, 0); err == nil {
			_ = hold.Unlock(context.Background())
		}
	}
}

// heapAllowed is by how much the heap may have grown when every lock is released:
// buffers of the connections, and what the runtime keeps.
const heapAllowed = 32 << 20

func heap() int64 {
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	return int64(memory.HeapAlloc)
}

// close closes the clients and looks for memory and goroutines that are left.
func (w *worker) close(baseline int) error {
	grown := heap() - w.heap
	w.record.note(event{Kind: kindFigure, Worker: w.config.Name, What: "heap", Value: grown})
	if grown > heapAllowed {
		w.record.note(event{Kind: kindGhost, Worker: w.config.Name, What: "bytes of memory", Value: grown})
	}
	var err error
	for i, client := range w.clients {
		err = errors.Join(err, client.Close(), w.rdbs[i].Close())
	}
	err = errors.Join(err, w.register.rdb.Close())
	left := 0
	for range 100 {
		if left = runtime.NumGoroutine() - baseline - 2; left <= 0 { // tell and probe
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if left > 0 {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		w.record.note(event{Kind: kindGhost, Worker: w.config.Name, What: "goroutines", Value: int64(left), Err: ours(string(stacks))})
	}
	return err
}

// ours are the stacks that lead through the library or its Redis client.
func ours(stacks string) string {
	var kept []string
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		if strings.Contains(stack, "holdfast") && !strings.Contains(stack, "main.(*worker)") || strings.Contains(stack, "go-redis") {
			kept = append(kept, stack)
		}
	}
	return strings.Join(kept, "\n\n")
}

// A goroutine is one strand of a workload, with its own random stream.
type goroutine struct {
	worker *worker
	id     string
	index  int
	rng    *rand.Rand
	holds  int
}

func (g *goroutine) between(least, most time.Duration) time.Duration {
	return least + time.Duration(g.rng.Int64N(int64(most-least)+1))
}

func (g *goroutine) chance(p float64) bool { return g.rng.Float64() < p }

// pause ends early when the round is over.
func (g *goroutine) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-g.worker.stopping:
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, holdfast.ErrLost) {
		return "lost"
	}
	return err.Error()
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "soak:", err)
	os.Exit(1)
}
