package engine

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// publishing knows whether releases are told with PUBLISH or SPUBLISH. The choice
// is Redisson's, or the two would not hear each other: SPUBLISH in a cluster whose
// servers know sharded channels, PUBLISH everywhere else, also where a single
// server would know them.
type publishing struct {
	cluster *redis.ClusterClient // nil: PUBLISH

	mu       sync.Mutex
	command  string        // empty until it is known
	asking   chan struct{} // closed when the question under way is answered; nil: none is
	question error         // what became of the last one
}

func newPublishing(rdb redis.UniversalClient) *publishing {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok || cluster.Options().ClusterSlots != nil {
		// A cluster client with slots of its own is spread over plain servers, behind
		// sentinels say. Redisson sees no cluster there.
		return &publishing{command: "PUBLISH"}
	}
	return &publishing{cluster: cluster}
}

func (p *publishing) known() (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.command, p.command != ""
}

// sharded is the subscription manager's question: SSUBSCRIBE or SUBSCRIBE.
func (p *publishing) sharded(ctx context.Context) (bool, error) {
	command, err := p.ask(ctx, nil)
	return command == "SPUBLISH", err
}

// ask returns the command, and asks a server on the first call. The question goes
// out on a goroutine of its own, so that a hanging server holds up nobody whose
// ctx ends.
func (p *publishing) ask(ctx context.Context, stop <-chan struct{}) (string, error) {
	limit := time.NewTimer(attemptLimit)
	defer limit.Stop()
	for asked := false; ; asked = true {
		p.mu.Lock()
		if p.command != "" || asked && p.asking == nil {
			defer p.mu.Unlock()
			return p.command, p.question
		}
		if p.asking == nil {
			p.asking = make(chan struct{})
			go p.probe(p.asking) // ends with the client's own timeouts
		}
		asking := p.asking
		p.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
			return "", errSilent
		case <-stop:
			return "", errSilent
		case <-limit.C:
			return "", errSilent
		}
	}
}

func (p *publishing) probe(answered chan struct{}) {
	err := p.cluster.PubSubShardNumSub(context.Background()).Err()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.question = nil
	switch {
	case err == nil, redis.HasErrorPrefix(err, "NOPERM"):
		// Who may not ask gets what every cluster since 7.0 has.
		p.command = "SPUBLISH"
	case redis.HasErrorPrefix(err, "Unknown"), redis.HasErrorPrefix(err, "unknown"):
		p.command = "PUBLISH" // a server before 7.0: it does not know the question
	default:
		p.question = err
	}
	p.asking = nil
	close(answered)
}

// publishCommand tells the command with which releases are told.
func (e *Engine) publishCommand(ctx context.Context, stop <-chan struct{}) (string, error) {
	if command, ok := e.publish.known(); ok {
		return command, nil
	}
	return e.publish.ask(ctx, stop)
}
