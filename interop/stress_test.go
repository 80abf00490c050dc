package interop

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A stressTarget is a lock to choose in the stress, and the names that it covers.
type stressTarget struct {
	Kind  string   `json:"kind"`
	Names []string `json:"names"`
}

// A stressTally is what one worker did.
type stressTally struct {
	Sections  int      `json:"sections"`
	Refused   int      `json:"refused"`
	PerTarget []int    `json:"perTarget"`
	Wrong     []string `json:"wrong"`
}

const (
	stressWorkers = 8 // on each side
	stressWait    = 5 * time.Second
	stressLease   = 20 * time.Second
)

// stressTime is short, so that the whole run stays short: "scripts/interop.sh -run Stress
// -stress 60s" is the long one.
var stressTime = flag.Duration("stress", 20*time.Second, "how long the stress lasts")

// Threads and goroutines on few names, plain, timed, leased and re-entrant, each with
// a counter that only the lock protects and a key that shows who is inside.
func TestStress(t *testing.T) {
	for _, s := range sites {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				results.add("all", "stress", "Go first", s, !t.Failed())
				results.add("all", "stress", "Java first", s, !t.Failed())
			}()
			stress(t, s)
		})
	}
}

// stressTargets are few names for each kind. Kinds do not share a name, but the
// members of a multi lock overlap with those of another. (Majorities of two overlapping
// red locks may have no member in common, and then exclude nobody.)
func stressTargets() (targets []stressTarget) {
	for _, k := range kinds {
		if !k.group() {
			targets = append(targets, stressTarget{k.java, []string{"stress " + k.java}})
			continue
		}
		for first := range 2 {
			if first > 0 && k.java == "red" {
				break
			}
			target := stressTarget{Kind: k.java}
			for i := range k.members {
				target.Names = append(target.Names, fmt.Sprintf("stress %s %d", k.java, first+i))
			}
			targets = append(targets, target)
		}
	}
	return targets
}

func stress(t *testing.T, s *site) {
	targets := stressTargets()
	goes, javas := s.party(t, "Go", settings{}).(*goParty), s.party(t, "Java", settings{}).(*remoteParty)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	tallies := make([]stressTally, 2*stressWorkers)
	var workers sync.WaitGroup
	for i := range stressWorkers {
		workers.Go(func() {
			w := &stressWorker{t: t, admin: s.admin, party: goes, name: fmt.Sprint("go ", i),
				random: rand.New(rand.NewPCG(uint64(seed), uint64(i)))}
			tallies[i] = w.run(targets)
		})
		workers.Go(func() { tallies[stressWorkers+i] = stressInJava(t, javas, targets, seed+int64(i)) })
	}
	workers.Wait()
	checkStress(t, s, targets, tallies)
}

// checkStress compares what the workers say with what is in Redis.
func checkStress(t *testing.T, s *site, targets []stressTarget, tallies []stressTally) {
	t.Helper()
	want := map[string]int{}
	sides := [2]int{}
	for i, tally := range tallies {
		for _, wrong := range tally.Wrong {
			t.Error(wrong)
		}
		if len(tally.PerTarget) != len(targets) {
			t.Fatalf("worker %d told nothing", i)
		}
		for j, target := range targets {
			sides[i/stressWorkers] += tally.PerTarget[j]
			for _, name := range target.Names {
				want[name] += tally.PerTarget[j]
			}
		}
	}
	for name, count := range want {
		got, err := s.admin.Get(t.Context(), "count:{"+name+"}").Int()
		if err != nil || got != count {
			t.Errorf("counter of %q: got %d, %v, want %d: an update was lost", name, got, err, count)
		}
		if n := s.admin.Exists(t.Context(), name).Val(); n != 0 {
			t.Errorf("%q is still locked", name)
		}
	}
	for j, target := range targets {
		results.note("stress, %s, %v: %d sections in Go, %d in Java", s.name, target.Names, perTarget(tallies[:stressWorkers], j), perTarget(tallies[stressWorkers:], j))
	}
	if sides[0] == 0 || sides[1] == 0 {
		t.Errorf("got %d sections in Go and %d in Java, want progress on both sides", sides[0], sides[1])
	}
}

func perTarget(tallies []stressTally, j int) (sum int) {
	for _, tally := range tallies {
		sum += tally.PerTarget[j]
	}
	return sum
}

func stressInJava(t *testing.T, p *remoteParty, targets []stressTarget, seed int64) (tally stressTally) {
	got, err := p.agent.call(request{
		Op: "stress", Client: p.name, Worker: fmt.Sprintf("stress-%d", workerNumber.Add(1)),
		Millis: stressTime.Milliseconds(), Seed: seed, Targets: targets,
	})
	if err == nil {
		err = json.Unmarshal(got.Value, &tally)
	}
	if err != nil {
		t.Error(err)
	}
	return tally
}

// A stressWorker is one goroutine's share; the Java side's is Stress.java.
type stressWorker struct {
	t      *testing.T
	admin  redis.UniversalClient
	party  *goParty
	name   string
	random *rand.Rand
	tally  stressTally
}

func (w *stressWorker) run(targets []stressTarget) stressTally {
	w.tally.PerTarget = make([]int, len(targets))
	for end := time.Now().Add(*stressTime); time.Now().Before(end); {
		chosen := w.random.IntN(len(targets))
		w.once(targets[chosen], &w.tally.PerTarget[chosen])
	}
	return w.tally
}

func (w *stressWorker) once(target stressTarget, sections *int) {
	h := w.party.actor()
	lock := spec{target.Kind, target.Names}
	got := h.do(w.acquisition(lock))
	if !w.fine(lock, got.err) {
		return
	}
	if !got.ok {
		w.tally.Refused++
		return
	}
	again := w.random.IntN(4) == 0
	if again {
		w.fine(lock, h.do(call{op: "lock", lock: lock}).err)
	}
	for _, name := range target.Names {
		w.inside(name)
	}
	w.tally.Sections++
	*sections++
	if again {
		w.fine(lock, h.do(call{op: "unlock", lock: lock}).err)
	}
	w.fine(lock, h.do(call{op: "unlock", lock: lock}).err)
}

func (w *stressWorker) acquisition(lock spec) call {
	switch w.random.IntN(4) {
	case 0:
		return call{op: "lock", lock: lock}
	case 1:
		return call{op: "tryLock", lock: lock, wait: stressWait}
	case 2:
		return call{op: "tryLock", lock: lock, wait: stressWait, lease: stressLease}
	default:
		return call{op: "tryLock", lock: lock}
	}
}

func (w *stressWorker) fine(lock spec, err error) bool {
	if err != nil {
		w.wrong("%v: %v", lock, err)
	}
	return err == nil
}

func (w *stressWorker) inside(name string) {
	ctx := context.Background()
	inside, counter := "inside:{"+name+"}", "count:{"+name+"}"
	alone, err := w.admin.SetNX(ctx, inside, w.name, 0).Result()
	if err != nil || !alone {
		w.wrong("%s: %q, %v is inside with %s", name, w.admin.Get(ctx, inside).Val(), err, w.name)
	}
	count, _ := strconv.Atoi(cmp.Or(w.admin.Get(ctx, counter).Val(), "0"))
	if err := w.admin.Set(ctx, counter, count+1, 0).Err(); err != nil {
		w.wrong("%s: %v", counter, err)
	}
	w.admin.Del(ctx, inside)
}

func (w *stressWorker) wrong(format string, args ...any) {
	if len(w.tally.Wrong) < 10 {
		w.tally.Wrong = append(w.tally.Wrong, fmt.Sprintf(format, args...))
	}
}
