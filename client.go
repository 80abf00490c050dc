package holdfast

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast-go/holdfast/fairlock"
	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/internal/script"
	"github.com/holdfast-go/holdfast/locking"
	"github.com/holdfast-go/holdfast/multilock"
	"github.com/holdfast-go/holdfast/rlock"
	"github.com/holdfast-go/holdfast/tracing"
)

// A Lock is a named lock in Redis, or several of them as one. It is stateless and cheap: it
// may be kept or made anew for each use, and shared between goroutines. Its methods are documented
// at [locking.Lock]: Lock, TryLock, Do, ForceUnlock, IsLocked, IsHeld, HoldCount,
// RemainingTTL.
type Lock = locking.Lock

// A Hold is one successful acquisition: the thing that is unlocked. Its methods are
// documented at [locking.Hold]: Name, Owner, Count, Context, Done, Err, Extend, Unlock.
type Hold = locking.Hold

// An AcquireOption changes one call of Lock or Do.
type AcquireOption = locking.AcquireOption

// A LockOption changes one lock. An option that the lock's kind cannot honour is an
// error of the lock's first call, which names both.
type LockOption = locking.LockOption

// A Client makes locks. One a process is enough for each Redis; all its methods may be
// called at once. It keeps, beside the connections of its Redis client's pool, one
// connection for messages to each server that it waits on.
type Client struct {
	engine *engine.Engine
	tracer *tracing.Tracer
	mapper func(string) string
	rdb    redis.UniversalClient
	fair   atomic.Bool // it has made a fair lock: Check tries its rights too
}

// New makes a client that sends through rdb and never closes it. It sends nothing
// yet: Check tells whether the server suits. rdb may be a *redis.Client (also from
// NewFailoverClient) or a *redis.ClusterClient. A *redis.Ring is refused: when a
// shard is down it moves keys to another one, where they are not locked.
//
// An option that makes no sense is an error that names it.
func New(rdb redis.UniversalClient, opts ...Option) (*Client, error) {
	if rdb == nil || reflect.ValueOf(rdb).Kind() == reflect.Pointer && reflect.ValueOf(rdb).IsNil() {
		return nil, errors.New("holdfast: the Redis client is nil")
	}
	if _, ok := rdb.(*redis.Ring); ok {
		return nil, errors.New("holdfast: a *redis.Ring cannot keep locks: it moves keys to another server when one is down")
	}
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	tracer, err := tracing.New(o.tracer, o.meter)
	if err != nil {
		return nil, fmt.Errorf("holdfast: %w", err)
	}
	first := uint64(1)
	if o.idWasGiven {
		first += rand.Uint64N(1 << 52) // an earlier process with this id may have left a lock
	}
	return &Client{
		engine: engine.New(engine.Config{
			Redis:      rdb,
			Program:    script.NewProgram(slices.Concat(rlock.Verbs(), fairlock.Verbs())...),
			ID:         o.id,
			FirstOwner: first,
			Watchdog:   o.watchdog,
			Retry:      o.retry,
			Tracer:     tracer,
			Logger:     o.logger,
		}),
		tracer: tracer,
		mapper: o.mapper,
		rdb:    rdb,
	}, nil
}

// RLock returns the plain reentrant lock of that name (Redisson's RLock, not Go's
// read lock). It sends nothing. A name or an option that is not possible is an
// error of the lock's first call.
func (c *Client) RLock(name string, opts ...LockOption) Lock {
	if c == nil || c.engine == nil {
		return rlock.New(nil, name, name, opts...) // says so at its first call
	}
	return rlock.New(c.engine, name, c.mapper(name), opts...)
}

// FairLock returns the fair lock of that name (Redisson's FairLock): whoever asked first
// gets it first, in whichever process, Go or Java. It re-enters, renews and ends like
// an RLock. Do not use one name for a fair and for a plain lock: they exclude each
// other, but a plain lock's release wakes nobody in the queue. It sends nothing. A name
// or an option that is not possible is an error of the lock's first call; WithPolling is
// one of them.
func (c *Client) FairLock(name string, opts ...LockOption) Lock {
	if c == nil || c.engine == nil {
		return fairlock.New(nil, name, name, opts...) // says so at its first call
	}
	c.fair.Store(true)
	return fairlock.New(c.engine, name, c.mapper(name), opts...)
}

// MultiLock returns several locks as one, which is held if all of them are: locks of any kind,
// of this client or of others, on one server or on several. It
// is all or nothing, acquires in one order wherever it is used, and holds nothing while
// it waits. Members on one server, or in one slot of a cluster, are acquired and released
// in one script. It sends nothing. Members that are not possible, none at all say, are an error
// of its first call that names which.
func (c *Client) MultiLock(locks ...Lock) Lock { return multilock.New(c.traces(), locks...) }

// RedLock returns a quorum lock: the same lock on an odd number of independent servers, at
// least 3, each with a client of its own; it is held if a majority of them is. It
// implements the published Redlock algorithm, and works as long as a majority of the servers
// does. Its members are RLocks. It sends nothing. Members that are not possible
// are an error of its first call that names which.
func (c *Client) RedLock(locks ...Lock) Lock { return multilock.NewRed(c.traces(), locks...) }

func (c *Client) traces() *tracing.Tracer {
	if c == nil {
		return nil
	}
	return c.tracer
}

// Close wakes every waiter with ErrClosed and ends every open hold with ErrClosed:
// Done closes, contexts end with that cause. The keys of open holds stay in Redis
// until their leases run out, because the work that they guard may still be
// running; one warning in the log tells how many. Releases that are not confirmed yet get
// 3 seconds. The Redis client stays open, and Unlock of an open hold still releases;
// one that Redis does not answer is not continued in the background any more.
// A second call does nothing.
func (c *Client) Close() error {
	if c == nil || c.engine == nil {
		return nil
	}
	return c.engine.Close()
}
