package main

import (
	"context"
	"errors"
	"fmt"
)

// quorumServers is how many independent servers a quorum lock stands on.
const quorumServers = 5

func quorumFigure(callers int) figure {
	return figure{Name: fmt.Sprintf("quorum lock on five servers, %s", count(callers, "caller")), Unit: "pairs/s", Better: higher}
}

// quorumPairs measures lock and unlock of quorum locks that nobody else wants.
func quorumPairs(callers int) measurement {
	run := func(ctx context.Context, b *bench, p peer) (_ []reading, err error) {
		addrs, err := b.quorum(ctx)
		if err != nil {
			return nil, err
		}
		l, err := p.openQuorum(addrs, lease)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		work := make([]func(context.Context) error, callers)
		for i := range work {
			work[i] = pairsOf(l, i)
		}
		t := drive(ctx, b.settings.Window/4, b.settings.Window, work)
		return []reading{{quorumFigure(callers), t.perSecond()}}, t.problem()
	}
	fits := func(p peer) bool { return p.openQuorum != nil }
	return measurement{name: fmt.Sprintf("quorum/%d", callers), rounds: everyRound, fits: fits, run: run}
}

// quorum empties the servers of quorum locks, which start when first needed.
func (b *bench) quorum(ctx context.Context) (addrs []string, err error) {
	for len(b.servers) < quorumServers {
		s, err := startServer(ctx)
		if err != nil {
			return nil, err
		}
		b.servers = append(b.servers, s)
	}
	for _, s := range b.servers {
		addrs = append(addrs, s.addr)
		err = errors.Join(err, flush(ctx, s.addr))
	}
	return addrs, err
}

// stop ends the servers of quorum locks.
func (b *bench) stop() {
	for _, s := range b.servers {
		s.stop()
	}
}
