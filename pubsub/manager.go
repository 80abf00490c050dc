package pubsub

import (
	"container/list"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Config changes a Manager. The zero value works.
type Config struct {
	// Sharded tells whether to subscribe with SSUBSCRIBE; it is asked before the
	// first subscription, and again after an error. nil: never.
	// It must return when its ctx ends.
	Sharded func(ctx context.Context) (bool, error)
	// Silence is how long a server may send nothing, not even a PONG, or leave a command
	// unanswered, before its connection is replaced; a dial counts as silence. Defaults
	// to 3 seconds.
	Silence time.Duration
	// Linger is how long a channel stays subscribed after its last Subscription was
	// closed. Defaults to 1 second.
	Linger time.Duration
	// Logger hears of lost connections, of many in a row only the 1st, 2nd, 4th, 8th,
	// and so on. Defaults to none.
	Logger *slog.Logger
	// Changed is told how many channels are subscribed more than before, or less
	// (negative). Calls may overlap; their sum is the number of subscribed channels.
	Changed func(delta int)
}

// A Manager keeps the subscriptions of one client. All its methods may be called at
// once.
type Manager struct {
	rdb    redis.UniversalClient
	config Config
	find   func(ctx context.Context, channel string) (server, error) // for the router

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	spent  context.Context // has ended: reads and writes, but dials no more
	rouse  chan struct{}   // capacity 1: the router has something to do
	wg     sync.WaitGroup  // every goroutine

	mu       sync.Mutex // guards what follows, and all topics and sessions; see unlock
	topics   map[string]*topic
	wanted   []*topic  // to be routed now
	resting  []*topic  // to be routed when their pauses are over
	restedAt time.Time // when the first of them is due; zero: none rests
	idle     list.List // of *topic: those without subscription, the longest first
	sessions map[string]*session
	failures map[string]*backoff // of sessions, by server
	started  bool
	closed   bool
	delta    int       // what Changed has not been told yet
	warnings []warning // what Logger has not been told yet
}

// A warning is one line for the Logger.
type warning struct {
	msg string
	err error
}

// New makes a manager. It does nothing until the first Subscribe.
func New(rdb redis.UniversalClient, config Config) *Manager {
	if config.Silence <= 0 {
		config.Silence = 3 * time.Second
	}
	if config.Linger <= 0 {
		config.Linger = time.Second
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Changed == nil {
		config.Changed = func(int) {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	spent, spend := context.WithCancel(ctx)
	spend()
	return &Manager{
		rdb: rdb, config: config, ctx: ctx, cancel: cancel, spent: spent,
		find:     (&finder{rdb: rdb, ask: config.Sharded}).serverOf,
		rouse:    make(chan struct{}, 1),
		topics:   map[string]*topic{},
		sessions: map[string]*session{},
		failures: map[string]*backoff{},
	}
}

// unlock frees the mutex, and then tells the user's functions what has happened
// under it: they may take their time, or call the manager.
func (m *Manager) unlock() {
	delta, warnings := m.delta, m.warnings
	m.delta, m.warnings = 0, nil
	m.mu.Unlock()
	if delta != 0 {
		m.config.Changed(delta)
	}
	for _, w := range warnings {
		m.config.Logger.Warn("holdfast: "+w.msg, "error", w.err)
	}
}

// warn has the Logger told. Under m.mu.
func (m *Manager) warn(msg string, err error) {
	if !m.closed {
		m.warnings = append(m.warnings, warning{msg, err})
	}
}

// A topic is one channel. It is in one place: with a session, among the wanted or the
// resting, or in the router's hands. Guarded by Manager.mu.
type topic struct {
	channel   string
	subs      map[*Subscription]struct{}
	session   *session // where it is asked for or confirmed
	confirmed bool
	alone     bool          // ask for it in a command of its own: one with others was refused
	err       error         // Redis refused it for good
	rest      time.Time     // not to be routed before
	refusals  backoff       // of other kinds, since it was confirmed
	idle      *list.Element // nil: it has subscriptions
	idleSince time.Time
}

// A Subscription is one waiter's interest in a channel.
type Subscription struct {
	manager *Manager
	topic   *topic
	wake    chan struct{}
}

// Subscribe subscribes to a channel. It never blocks and never fails: what becomes
// of it shows by wake-ups.
func (m *Manager) Subscribe(channel string) *Subscription {
	return m.Join(channel, make(chan struct{}, 1))
}

// Join is Subscribe with a channel for the wake-ups, which has room for one. Several
// subscriptions, also of several managers, may share it.
func (m *Manager) Join(channel string, wake chan struct{}) *Subscription {
	m.mu.Lock()
	defer m.unlock()
	t := m.topics[channel]
	if t == nil {
		t = &topic{channel: channel, subs: map[*Subscription]struct{}{}}
		if !m.closed {
			m.topics[channel] = t
			m.want(t)
		}
	}
	s := &Subscription{manager: m, topic: t, wake: wake}
	t.subs[s] = struct{}{}
	if t.idle != nil {
		m.idle.Remove(t.idle)
		t.idle = nil
	}
	if t.confirmed || t.err != nil || m.closed {
		// Confirmed before: a message may have passed between the subscriber's last look
		// and this call.
		s.rouse()
	}
	return s
}

// want has the router find a server for a topic. Under m.mu.
func (m *Manager) want(t *topic) {
	if m.closed {
		return
	}
	m.wanted = append(m.wanted, t)
	if !m.started {
		m.started = true
		m.wg.Add(1)
		go (&router{Manager: m}).route() // ended by Close
	}
	m.poke()
}

// rest is want at a later time. Under m.mu.
func (m *Manager) rest(t *topic, until time.Time) {
	if m.closed {
		return
	}
	t.rest = until
	m.resting = append(m.resting, t)
	if m.restedAt.IsZero() || until.Before(m.restedAt) {
		m.restedAt = until
		m.poke()
	}
}

func (m *Manager) poke() {
	select {
	case m.rouse <- struct{}{}:
	default:
	}
}

// Wake has a token after each message and each confirmation, when the channel is
// refused for good (Err) and when the manager closes. It holds one token at most.
func (s *Subscription) Wake() <-chan struct{} { return s.wake }

func (s *Subscription) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // one look is enough for many reasons
	}
}

// Confirmed tells whether the server has confirmed the subscription, and its
// connection has not been lost since.
func (s *Subscription) Confirmed() bool {
	s.manager.mu.Lock()
	defer s.manager.mu.Unlock()
	return s.topic.confirmed
}

// Err is what Redis said when it refused the channel for good (no permission, say);
// nil if it did not, or has accepted it since.
func (s *Subscription) Err() error {
	s.manager.mu.Lock()
	defer s.manager.mu.Unlock()
	return s.topic.err
}

// Close ends the subscription; a second call does nothing. The last one of a channel
// unsubscribes it after Config.Linger.
func (s *Subscription) Close() {
	m, t := s.manager, s.topic
	m.mu.Lock()
	defer m.unlock()
	if _, ok := t.subs[s]; !ok {
		return
	}
	delete(t.subs, s)
	if len(t.subs) == 0 && !m.closed {
		t.idleSince = time.Now()
		t.idle = m.idle.PushBack(t)
		if m.idle.Len() == 1 {
			m.poke() // it is the next to be dropped
		}
	}
}

// rouse wakes all of a topic's subscriptions. Under m.mu.
func (t *topic) rouse() {
	for s := range t.subs {
		s.rouse()
	}
}

// confirm notes whether the server has the subscription. Under m.mu.
func (m *Manager) confirm(t *topic, confirmed bool) {
	if t.confirmed == confirmed {
		return
	}
	t.confirmed = confirmed
	if confirmed {
		m.delta++
	} else {
		m.delta--
	}
}

// closeLimit bounds how long Close waits for goroutines that hang in the network.
const closeLimit = 2 * time.Second

// Close wakes every subscription and ends every connection. In order: nothing new is
// wanted; sessions end; the router stops; what hangs in the network gets a moment,
// and ends by itself if that is not enough.
// A second call does nothing.
func (m *Manager) Close() {
	m.mu.Lock()
	if m.closed {
		m.unlock()
		return
	}
	m.closed = true
	for _, s := range m.sessions {
		s.end(nil)
	}
	for _, t := range m.topics {
		t.rouse()
	}
	clear(m.topics)
	m.wanted, m.resting = nil, nil
	m.idle.Init()
	m.unlock()
	m.cancel()

	done := make(chan struct{})
	go func() { m.wg.Wait(); close(done) }() // ends with the Redis client's own timeouts
	timer := time.NewTimer(closeLimit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
