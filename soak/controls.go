package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A control is a planted bug: a small edit of the library, in a copy that only the
// workers of one short round are built from. The round must fail by one of the checks
// that are named, or the checks are worth nothing.
type control struct {
	name   string
	edits  []edit
	round  round
	caught []string // by any of these checks
}

// An edit replaces a text that is in a file exactly once.
type edit struct{ file, old, new string }

var controls = []control{
	{
		name: "release without an owner check",
		edits: []edit{
			{"rlock/release.lua", `if redis.call('HDEL', KEYS[1], owner) == 0 then return {-1, 0} end`, `redis.call('DEL', KEYS[1])`},
			{"rlock/release_each.lua", `redis.pcall('HDEL', KEYS[i], ARGV[4 * i - 2])`, `redis.pcall('DEL', KEYS[i])`},
		},
		round:  round{Load: map[string]int{"hot": 4, "stay": 4, "victim": 3}, Rate: 30, Faults: []string{}, Duration: 10 * time.Second},
		caught: []string{checkOverlap},
	}, {
		name:   "renew without an owner check",
		edits:  []edit{{"rlock/renew.lua", `if redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 then`, `if false then`}},
		round:  round{Lossy: true, Load: map[string]int{"victim": 4}, OwnLoad: map[string]int{"force": 2}, Gentle: true, Faults: []string{}, Duration: 12 * time.Second},
		caught: []string{checkBound},
	}, {
		name: "increments instead of counts, and commands sent twice",
		edits: []edit{
			{"internal/script/sender.go", `func (once) NoRetry() bool { return true }`, `func (once) NoRetry() bool { return false }`},
			{"rlock/acquire.lua", `count = math.max(tonumber(count), before + 1)`, `count = tonumber(count) + 1`},
			{"rlock/release.lua", `if after > 0 then`, `after = tonumber(redis.call('HGET', KEYS[1], owner) or 1) - 1
if after > 0 then`},
		},
		round:  round{Load: map[string]int{"reenter": 4}, Rate: 30, Faults: []string{}, Duration: 12 * time.Second},
		caught: []string{checkOverlap, checkLoss}, // freed too early, whether somebody else came in or not
	}, {
		name: "an owner used again after an unknown outcome",
		edits: []edit{{"internal/engine/single.go",
			`s.o = nil // never again the one whose acquisition may still arrive`, ``}},
		round:  round{Load: map[string]int{"reenter": 3, "stay": 4, "victim": 3}, Rate: 60, Faults: []string{}, Duration: 14 * time.Second},
		caught: []string{checkOverlap, checkLoss}, // its hold is freed under it, whether somebody else came in or not
	}, {
		name:   "no compensation",
		edits:  []edit{{"internal/engine/undo.go", "	u.send(now)\n", "	u.end()\n"}},
		round:  round{Load: map[string]int{"hot": 4}, Rate: 6, Faults: []string{}, Duration: 12 * time.Second},
		caught: []string{checkStall},
	}, {
		name:   "a subscription that is renewed wakes nobody",
		edits:  []edit{{"pubsub/replies.go", "	s.manager.confirm(t, true)\n	t.rouse()\n", "	s.manager.confirm(t, true)\n"}},
		round:  round{Load: map[string]int{"hot": 4, "patient": 4}, Gentle: true, Faults: []string{"CLIENT KILL pubsub"}, Pace: 300 * time.Millisecond},
		caught: []string{checkStall},
	}, {
		name:  "a half-open subscription goes unnoticed",
		edits: []edit{{"pubsub/manager.go", `config.Silence = 3 * time.Second`, `config.Silence = time.Hour`}},
		round: round{Workers: 2, Load: map[string]int{"patient": 2}, Gentle: true, Faults: []string{"all subscriptions half-open"}, Pace: 2 * time.Second,
			Once: true, Duration: 16 * time.Second},
		caught: []string{checkStall},
	}, {
		name: "the lease counted from the reply",
		edits: []edit{
			{"internal/engine/owner.go", `until := window(sent, lease)`, `until := window(time.Now(), lease)`},
			{"internal/engine/owner.go", `o.trusted = later(o.trusted, window(sent, lease))`, `o.trusted = later(o.trusted, window(time.Now(), lease))`},
		},
		round:  round{Load: map[string]int{"hot": 2, "stay": 4}, Rate: 40, Faults: []string{}, Duration: 10 * time.Second},
		caught: []string{checkWindow, checkOverlap},
	}, {
		name:   "no persistence, and kill -9",
		round:  round{Forgetful: true, Load: map[string]int{"hot": 4, "keep": 2}, Gentle: true, Faults: []string{"kill -9"}, Pace: 700 * time.Millisecond},
		caught: []string{checkOverlap},
	}, {
		name:  "a dead head of the fair queue stays",
		edits: []edit{{"fairlock/acquire.lua", `if entry == owner or #dead == 32 or (score(entry) or 0) > now then break end`, `if true then break end`}},
		round: round{Mortals: 1, Load: map[string]int{"fair": 4}, Gentle: true, Faults: []string{"worker killed"}, Pace: time.Second / 2,
			Alone: true, Duration: 14 * time.Second}, // one early death: it excuses the seconds after it
		caught: []string{checkStall},
	},
}

// An outcome is what became of a control.
type outcome struct {
	Name   string   `json:"name"`
	Caught bool     `json:"caught"`
	By     []string `json:"by"` // all checks that found something
	Why    string   `json:"why,omitempty"`
}

func onlyControls(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	rep := newReport(s.seed)
	rep.Valid = true
	if rep.Controls, err = runControls(ctx, s); err != nil {
		return err
	}
	return rep.verdict()
}

// controlRounds are how many rounds a planted bug has to show itself in: some do so only if a
// message comes within the few milliseconds in which nobody listens.
const controlRounds = 3

// atOnce is how many controls run side by side; they mostly wait.
const atOnce = 4

// runControls builds the workers of each control and runs its round.
func runControls(ctx context.Context, s settings) ([]outcome, error) {
	outcomes := make([]outcome, len(controls))
	failures := make([]error, len(controls))
	places := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, c := range controls {
		if !strings.Contains(c.name, s.only) {
			continue
		}
		places <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		binary, err := c.build(ctx, s.dir, i)
		if err != nil {
			return nil, err
		}
		group.Go(func() {
			defer func() { <-places }()
			rounds := 0
			for n := range controlRounds {
				rounds++
				again := s
				again.seed += uint64(n)
				outcomes[i], failures[i] = c.run(ctx, again, i, binary)
				if outcomes[i].Caught || failures[i] != nil || ctx.Err() != nil {
					break
				}
			}
			o := outcomes[i]
			fmt.Printf("%-56s caught: %v, in round %d by %s %s\n", o.Name, o.Caught, rounds, strings.Join(o.By, ", "), o.Why)
		})
	}
	group.Wait()
	outcomes = slices.DeleteFunc(outcomes, func(o outcome) bool { return o.Name == "" })
	return outcomes, errors.Join(failures...)
}

// build makes the workers' program with the planted bug. An edit that does not fit
// is an error: the library has changed, and the control with it.
func (c control) build(ctx context.Context, dir string, i int) (string, error) {
	root, err := libraryRoot(ctx)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for _, e := range c.edits {
		path := filepath.Join(root, e.file)
		source := path
		if replace[path] != "" {
			source = replace[path]
		}
		text, err := os.ReadFile(source)
		if err != nil {
			return "", err
		}
		if n := bytes.Count(text, []byte(e.old)); n != 1 {
			return "", fmt.Errorf("control %q: its text is in %s %d times, not once; adapt the control to the library", c.name, e.file, n)
		}
		copied := filepath.Join(dir, fmt.Sprintf("control%d-%s", i, filepath.Base(e.file)))
		if err := os.WriteFile(copied, bytes.Replace(text, []byte(e.old), []byte(e.new), 1), 0o644); err != nil {
			return "", err
		}
		replace[path] = copied
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlayFile := filepath.Join(dir, fmt.Sprintf("control%d.json", i))
	if err := os.WriteFile(overlayFile, overlay, 0o644); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, fmt.Sprintf("control%d", i))
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlayFile, "-o", binary, ".")
	build.Dir = filepath.Join(root, "soak")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("control %q: %w\n%s", c.name, err, out)
	}
	return binary, nil
}

// libraryRoot is where the library's sources are.
func libraryRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/holdfast-go/holdfast").Output()
	if err != nil {
		return "", fmt.Errorf("the controls are built from source: run them in the folder soak: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// run runs the control's round and looks whether it failed as it must.
func (c control) run(ctx context.Context, s settings, i int, binary string) (outcome, error) {
	r := c.round
	r.Name, r.Seed = fmt.Sprintf("control-%02d", i), s.seed
	if r.Topology == "" {
		r.Topology = "standalone"
	}
	if r.Duration == 0 {
		r.Duration = 8 * time.Second
	}
	if r.Workers == 0 {
		r.Workers = 3
	}
	running := &runner{round: r, binary: binary, impatient: true}
	if err := running.run(ctx, s.dir); err != nil {
		return outcome{Name: c.name, Why: err.Error()}, nil
	}
	described, events, err := readHistory(running.history)
	if err != nil {
		return outcome{Name: c.name}, err
	}
	o := outcome{Name: c.name}
	for _, v := range analyse(described, events).found {
		if !slices.Contains(o.By, v.Check) {
			o.By = append(o.By, v.Check)
		}
		o.Caught = o.Caught || slices.Contains(c.caught, v.Check)
	}
	slices.Sort(o.By)
	if !o.Caught {
		o.Why = fmt.Sprintf("want one of %v; history %s", c.caught, running.history)
	} else {
		_ = os.Remove(running.history)
	}
	return o, nil
}
