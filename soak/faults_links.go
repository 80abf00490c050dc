package main

import (
	"errors"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/internal/faultproxy"
)

// chances are what happens to single commands of a link. The proxy lets the seed and
// the command's number decide.
func chances(gentle bool, rate float64) map[string][]faultproxy.Chance {
	if gentle {
		return nil
	}
	if rate == 0 {
		rate = 1
	}
	scripts := []faultproxy.Chance{
		{P: 0.0004, Decision: faultproxy.DropReply},
		{P: 0.0006, Decision: faultproxy.ResetAfter},
		{P: 0.0004, Decision: faultproxy.DropRequest},
		{P: 0.0006, Decision: faultproxy.ResetBefore},
		{P: 0.0006, Decision: faultproxy.DelayReply(15 * time.Millisecond)},
		{P: 0.0006, Decision: faultproxy.DelayReply(120 * time.Millisecond)},
		{P: 0.0003, Decision: faultproxy.DelayReply(250 * time.Millisecond)},
	}
	messages := []faultproxy.Chance{
		{P: 0.02, Decision: faultproxy.DropReply},
		{P: 0.02, Decision: faultproxy.ResetAfter},
		{P: 0.02, Decision: faultproxy.ResetBefore},
		{P: 0.02, Decision: faultproxy.DelayReply(50 * time.Millisecond)},
	}
	for i := range scripts {
		scripts[i].P *= rate
	}
	return map[string][]faultproxy.Chance{"EVALSHA": scripts, "EVAL": scripts, "SUBSCRIBE": messages, "SSUBSCRIBE": messages}
}

var spoiled = []string{"EVALSHA", "EVAL", "SUBSCRIBE", "SSUBSCRIBE"}

// tailOf is the tail of a decision about one command.
func tailOf(e faultproxy.Event) time.Duration {
	if strings.HasSuffix(e.Name, "SUBSCRIBE") {
		return tailSilent
	}
	switch e.Decision.String() {
	case "drop reply", "drop request":
		return tailAnswer
	default:
		return tailShort
	}
}

// linkFaults are those of one worker's links.
var linkFaults = []fault{
	{"half-open subscription", tailSilent, func(f *fate) (scope, error) {
		worker := f.team.any(f.rng)
		for _, link := range f.world.linksOf(worker) {
			for _, number := range link.PubSubConns() {
				link.BlackHoleOne(number)
			}
		}
		return scope{worker: worker}, nil
	}},
	{"all subscriptions half-open", tailSilent, func(f *fate) (scope, error) {
		for _, m := range f.team.living() {
			for _, link := range f.world.linksOf(m.name) {
				for _, number := range link.PubSubConns() {
					link.BlackHoleOne(number)
				}
			}
		}
		return scope{}, nil
	}},
	{"black hole", tailSilent, func(f *fate) (scope, error) {
		worker := f.team.any(f.rng)
		for _, link := range f.world.linksOf(worker) {
			link.BlackHole(true)
			defer link.BlackHole(false)
		}
		f.last(200*time.Millisecond, 1200*time.Millisecond)
		return scope{worker: worker}, nil
	}},
	{"all connections reset", tailShort, func(f *fate) (scope, error) {
		worker := f.team.any(f.rng)
		for _, link := range f.world.linksOf(worker) {
			link.KillAll()
		}
		return scope{worker: worker}, nil
	}},
	{"dial refused", tailPause, func(f *fate) (s scope, err error) {
		s.worker = f.team.any(f.rng)
		for _, link := range f.world.linksOf(s.worker) {
			err = errors.Join(err, link.Refuse(true))
			link.KillAll()
			defer func() { err = errors.Join(err, link.Refuse(false)) }()
		}
		f.last(100*time.Millisecond, 400*time.Millisecond)
		return s, err
	}},
	{"gate", tailShort, func(f *fate) (scope, error) {
		return f.gate(faultproxy.Gate)
	}},
	{"gate of a request", tailAnswer, func(f *fate) (scope, error) {
		return f.gate(faultproxy.GateRequest)
	}},
}

// gate holds the next script of a worker, or its answer.
func (f *fate) gate(decision func(<-chan struct{}) faultproxy.Decision) (scope, error) {
	worker := f.team.any(f.rng)
	open := make(chan struct{})
	defer close(open)
	for _, link := range f.world.linksOf(worker) {
		link.OnNext("EVALSHA", decision(open))
	}
	f.last(100*time.Millisecond, 600*time.Millisecond)
	return scope{worker: worker}, nil
}

// workerFaults hit a worker's process.
var workerFaults = []fault{
	{"worker stopped", tailShort, func(f *fate) (scope, error) {
		m := f.team.mortal(f.rng)
		if m == nil {
			return scope{}, errNobody
		}
		d := time.Duration(float64(watchdogTimeout) * (0.2 + 1.3*f.rng.Float64()))
		return scope{worker: m.name}, m.pause(f.ctx, d)
	}},
	{"worker killed", tailShort, func(f *fate) (scope, error) {
		m := f.team.mortal(f.rng)
		if m == nil {
			return scope{}, errNobody
		}
		return scope{worker: m.name}, f.team.replace(m)
	}},
}
