package holdfast_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/holdfast-go/holdfast"
)

// replaySeeds is how many scenes TestReplay plays. One alone, of any number:
//
//	go test -run 'TestReplay$' -replay.seed 4711 .
var (
	replaySeeds = flag.Int("replay.seeds", 500, "scenes that TestReplay plays")
	replaySeed  = flag.Uint64("replay.seed", 0, "the only scene that TestReplay plays")
)

// TestReplay plays the scenes of the fault campaign (soak/) in virtual time: three
// clients, spoiled links, a server that refuses for a while. The seed decides who does
// what when, and what becomes of the n-th write of each link. Clock and network are the
// bubble's, so two holds that are trusted at the same instant are two holds too many,
// without any tolerance.
//
// What a seed does not decide is the library's own jitter, a few milliseconds here and
// there: a seed that failed may need a few runs to fail again.
func TestReplay(t *testing.T) {
	first, n := uint64(1), *replaySeeds
	if *replaySeed != 0 {
		first, n = *replaySeed, 1
	}
	if testing.Short() {
		n = min(n, 50)
	}
	scenes := make([]*scene, n)
	for i := range scenes {
		scenes[i] = &scene{seed: first + uint64(i)}
	}
	t.Run("scenes", func(t *testing.T) {
		for _, s := range scenes {
			t.Run(fmt.Sprint("seed=", s.seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, s.play)
				if t.Failed() {
					t.Logf("again: go test -run 'TestReplay$' -replay.seed %d .", s.seed)
				}
			})
		}
	})
	acquired, spoiled := 0, 0
	for _, s := range scenes {
		acquired += s.acquired
		spoiled += s.spoiled
	}
	if *replaySeed == 0 && (acquired < 15*n || spoiled < n) {
		t.Errorf("%d scenes: %d acquisitions and %d faults, too few to mean anything", n, acquired, spoiled)
	}
}

// A scene is one seed.
type scene struct {
	*testing.T
	seed   uint64
	server *miniredis.Miniredis

	mu                sync.Mutex
	held              map[string]map[holdfast.Hold]bool // by lock, from Lock to Unlock
	acquired, spoiled int
}

// stream is the random stream of one part of the scene.
func (s *scene) stream(part uint64) *rand.Rand { return rand.New(rand.NewPCG(s.seed, part)) }

func (s *scene) play(t *testing.T) {
	s.T, s.held = t, map[string]map[holdfast.Hold]bool{}
	s.server = miniredis.NewMiniRedis()
	s.server.ClockTTL(true)
	defer s.server.Close()

	const clients, actors = 3, 2
	var cast sync.WaitGroup
	done := make(chan struct{})
	var closing []func()
	for c := range uint64(clients) {
		client, end := s.client(c)
		closing = append(closing, end)
		for a := range uint64(actors) {
			part := 100 + c*actors + a
			rng := s.stream(part)
			cast.Go(func() {
				for turn := range 4 {
					// No two wake at the same instant: each has a phase of its own.
					time.Sleep(time.Duration(rng.IntN(200))*time.Millisecond + time.Duration(part)*time.Microsecond + time.Duration(turn))
					s.turn(client, rng)
				}
			})
		}
	}
	go s.refuse(done)
	cast.Wait()
	close(done)
	time.Sleep(40 * time.Second) // longer than any lease
	if left := s.server.Keys(); len(left) > 0 {
		t.Errorf("keys are left: %v", left)
	}
	if left := s.server.PubSubChannels("*"); len(left) > 0 {
		t.Errorf("channels are left: %v", left)
	}
	for _, end := range closing {
		end()
	}
	time.Sleep(time.Minute) // what hangs in the network ends by its timeouts
}

// refuse has the server refuse everything for a while.
func (s *scene) refuse(done <-chan struct{}) {
	rng := s.stream(1)
	for _, say := range []string{"LOADING Redis is loading the dataset in memory", "READONLY You can't write against a read only replica."} {
		select {
		case <-time.After(time.Duration(rng.IntN(3000))*time.Millisecond + 7*time.Nanosecond):
		case <-done:
			return
		}
		s.server.SetError(say)
		time.Sleep(time.Duration(rng.IntN(700))*time.Millisecond + 11*time.Nanosecond)
		s.server.SetError("")
	}
}

const replayLease = 3 * time.Second

func (s *scene) client(number uint64) (*holdfast.Client, func()) {
	rng := s.stream(10 + number)
	var mu sync.Mutex
	rdb := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", DisableIdentity: true, ReadTimeout: 300 * time.Millisecond,
		// Their handshake waits for the network with a mutex locked, and on a mutex the
		// bubble's clock stands still.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			conn, err := s.server.Dial()
			if err != nil {
				return nil, err
			}
			return s.spoil(conn, func() (fate, much int) {
				mu.Lock()
				defer mu.Unlock()
				return rng.IntN(100), rng.IntN(250)
			}), nil
		},
	})
	client, err := holdfast.New(rdb, holdfast.WithWatchdogTimeout(replayLease), holdfast.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		s.Fatal(err)
	}
	return client, func() {
		_ = client.Close()
		_ = rdb.Close()
	}
}

// turn is one use of a lock.
func (s *scene) turn(client *holdfast.Client, rng *rand.Rand) {
	lock := client.RLock([]string{"orders", "stock"}[rng.IntN(2)])
	lease := time.Duration(0)
	if rng.IntN(3) == 0 {
		lease = time.Second
	}
	patience := 20 * time.Second
	if rng.IntN(4) == 0 {
		patience = time.Duration(rng.IntN(50))*time.Millisecond + 13*time.Nanosecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h, err := lock.Lock(ctx, holdfast.WithLease(lease))
	if err != nil {
		return
	}
	s.enter(h)
	if rng.IntN(4) == 0 {
		s.again(lock, h, rng)
	}
	stay := time.Duration(rng.IntN(40)) * time.Millisecond
	if rng.IntN(6) == 0 {
		stay = time.Duration(rng.IntN(4000)) * time.Millisecond // beyond a lease, and beyond a renewal
	}
	select {
	case <-time.After(stay + 17*time.Nanosecond):
	case <-h.Done():
	}
	s.leave(h)
	_ = h.Unlock(ctx)
}

// again re-enters, and unlocks again.
func (s *scene) again(lock holdfast.Lock, h holdfast.Hold, rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(h.Context(context.Background()), 2*time.Second)
	defer cancel()
	inner, err := lock.Lock(ctx)
	if err != nil {
		return
	}
	time.Sleep(time.Duration(rng.IntN(10))*time.Millisecond + 19*time.Nanosecond)
	_ = inner.Unlock(ctx)
}

// enter fails the scene if another hold of the lock is trusted at this instant.
func (s *scene) enter(h holdfast.Hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acquired++
	for other := range s.held[h.Name()] {
		if other.Err() == nil && h.Err() == nil {
			s.Errorf("%s: %s and %s hold it at once", h.Name(), other.Owner(), h.Owner())
		}
	}
	if s.held[h.Name()] == nil {
		s.held[h.Name()] = map[holdfast.Hold]bool{}
	}
	s.held[h.Name()][h] = true
}

func (s *scene) leave(h holdfast.Hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held[h.Name()], h)
}

// A spoiledLink is a connection on which the seed decides what becomes of each write. It
// reads whatever the server says at once, as a kernel does: miniredis writes with a mutex
// locked, and must never wait for a client that does not read.
type spoiledLink struct {
	scene  *scene
	client net.Conn // our end of what the client sees
	server net.Conn

	mu   sync.Mutex
	more *sync.Cond
	late time.Duration // the next answer comes so much later
	deaf bool          // what comes is lost
	cut  bool          // the next answer is lost, and the connection with it
	over bool
	come [][]byte
}

// spoil puts a link before a connection to the server.
func (s *scene) spoil(server net.Conn, decide func() (fate, much int)) net.Conn {
	outer, inner := net.Pipe()
	l := &spoiledLink{scene: s, client: inner, server: server}
	l.more = sync.NewCond(&l.mu)
	go l.up(decide) // these three end with either side
	go l.listen()
	go l.down()
	return outer
}

func (l *spoiledLink) close() {
	_ = l.client.Close()
	_ = l.server.Close()
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.more.Broadcast()
}

// up carries what the client writes.
func (l *spoiledLink) up(decide func() (fate, much int)) {
	defer l.close()
	mute := false // what is written is lost
	for buf := make([]byte, 1<<16); ; {
		n, err := l.client.Read(buf)
		if err != nil {
			return
		}
		fate, much := 100, 0
		if !bytes.Contains(buf[:n], []byte("hello")) {
			// Not the handshake: go-redis waits for that with a mutex locked, and on a
			// mutex the bubble's clock stands still.
			fate, much = decide()
		}
		if fate <= 5 {
			l.scene.mu.Lock()
			l.scene.spoiled++
			l.scene.mu.Unlock()
		}
		l.mu.Lock()
		switch {
		case fate == 0:
			mute = true
		case fate == 1:
			l.deaf = true
		case fate == 2:
			l.cut = true
		case fate == 4 || fate == 5:
			l.late = time.Duration(much)*time.Millisecond + 23*time.Nanosecond
		}
		l.mu.Unlock()
		if fate == 3 {
			return
		}
		if mute {
			continue
		}
		if _, err := l.server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// listen takes in what the server says.
func (l *spoiledLink) listen() {
	defer l.close()
	for buf := make([]byte, 1<<16); ; {
		n, err := l.server.Read(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		cut := l.cut
		if !l.deaf && !cut {
			l.come = append(l.come, slices.Clone(buf[:n]))
		}
		l.mu.Unlock()
		if cut {
			return
		}
		l.more.Signal()
	}
}

// down gives it to the client.
func (l *spoiledLink) down() {
	for {
		l.mu.Lock()
		for len(l.come) == 0 && !l.over {
			l.more.Wait()
		}
		if len(l.come) == 0 {
			l.mu.Unlock()
			return
		}
		next, late := l.come[0], l.late
		l.come, l.late = l.come[1:], 0
		l.mu.Unlock()
		time.Sleep(late)
		if _, err := l.client.Write(next); err != nil {
			l.close()
		}
	}
}
