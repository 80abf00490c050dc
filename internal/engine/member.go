package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/internal/keys"
)

// What follows is what locks are asked that are members of others: what goes together, what is
// the same, and in which order they are acquired.

// Together tells whether two locks can be asked for in one Ask.
func (l *Lock) Together(other *Lock) bool {
	return l.engine == other.engine && l.engine.sender.Together(l.target.Key, other.target.Key)
}

// Slots tells whether the lock's server is known to be a cluster.
func (l *Lock) Slots() bool { return l.engine.sender.Slots() }

// IsDark tells whether the lock's server did not answer a quorum lock's try in time, or could not be
// dialled, the last time that it was asked.
func (l *Lock) IsDark() bool { return l.engine.dark.Load() }

// SetDark notes it.
func (l *Lock) SetDark(dark bool) { l.engine.dark.Store(dark) }

// Owns tells whether a hold is one of this lock.
func (l *Lock) Owns(held Held) bool {
	h, ok := held.(*hold)
	return ok && h.owner.engine == l.engine && h.owner.target.Key == l.target.Key
}

// Carries tells whether an owner is one of this lock.
func (l *Lock) Carries(c Carrier) bool { return c.Value(l.target.ownerKey) != nil }

// OneClient tells whether two locks are of one client.
func (l *Lock) OneClient(other *Lock) bool { return l.engine == other.engine }

// Same tells whether two locks are the same one: of one client, one key, one kind.
func (l *Lock) Same(other *Lock) bool {
	return l.engine == other.engine && l.target.Key == other.target.Key && l.Kind() == other.Kind()
}

// Kind is the driver's name.
func (l *Lock) Kind() string { return l.target.Driver.Kind() }

// Queues tells whether waiters of the lock stand in a queue in Redis.
func (l *Lock) Queues() bool {
	_, ok := l.target.Driver.(Queue)
	return ok
}

// Impossible is why no call of the lock is possible, or nil.
func (l *Lock) Impossible() error { return l.target.Err }

// OnClose has f called on a goroutine of its own when the client closes, unless it is
// stopped before.
func (l *Lock) OnClose(f func()) (stop func() bool) { return context.AfterFunc(l.engine.life, f) }

// MemberError says which of several locks an error is about: by name, and by server, as those
// of a quorum lock may all have one name. It is nil if err is.
func (l *Lock) MemberError(err error) error { return memberError(l.target, l.engine, err) }

// MemberError is the one of the hold's lock.
func (h *hold) MemberError(err error) error { return memberError(h.owner.target, h.owner.engine, err) }

func memberError(t *Target, e *Engine, err error) error {
	if err == nil {
		return nil
	}
	if e.place == "" || strings.HasPrefix(e.place, behindSentinels) {
		return fmt.Errorf("member %q: %w", t.Name, err)
	}
	return fmt.Errorf("member %q on %s: %w", t.Name, e.place, err)
}

// Compare orders locks the same way in all processes that name their servers alike: by
// server, slot and key. Servers of one name are ordered as their clients were made: a client
// behind sentinels does not tell which ones these are, or the name of its master.
func (l *Lock) Compare(other *Lock) int {
	return compare(l.target, l.engine, other.target, other.engine)
}

func compare(t *Target, e *Engine, otherT *Target, otherE *Engine) int {
	if n := strings.Compare(e.place, otherE.place); n != 0 {
		return n
	}
	if e.sender.Slots() || otherE.sender.Slots() { // of two clients of one cluster behind a proxy only one may know it yet
		if n := keys.Slot(t.Key) - keys.Slot(otherT.Key); n != 0 {
			return n
		}
	}
	if n := strings.Compare(t.Key, otherT.Key); n != 0 {
		return n
	}
	return cmp.Compare(e.nth, otherE.nth)
}

// behindSentinels is how placeOf names what the sentinels know: go-redis calls it so, instead of an address.
const behindSentinels = "FailoverClient/"

// placeOf names the server, or the cluster, as the Redis client was told.
func placeOf(rdb redis.UniversalClient) string {
	switch rdb := rdb.(type) {
	case *redis.Client:
		return fmt.Sprintf("%s/%d", rdb.Options().Addr, rdb.Options().DB)
	case *redis.ClusterClient:
		addrs := slices.Clone(rdb.Options().Addrs)
		slices.Sort(addrs)
		return strings.Join(addrs, ",")
	}
	return ""
}
