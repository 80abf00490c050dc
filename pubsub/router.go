package pubsub

import (
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// route gives wanted topics to sessions and drops idle ones, until Close. It is the
// only goroutine that may have to wait for the cluster's picture.
func (m *Manager) route() {
	defer m.wg.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(m.dropIdle(time.Now()))
		m.routeWanted()
		select {
		case <-m.rouse:
		case <-timer.C:
		case <-m.ctx.Done():
			return
		}
	}
}

// dropIdle unsubscribes topics that have had no subscription for long enough, and
// tells when to look again.
func (m *Manager) dropIdle(now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.idle) > 0 {
		t := m.idle[0]
		wait := m.config.Linger - now.Sub(t.idleSince)
		if !t.idleSince.IsZero() && wait > 0 {
			return wait
		}
		m.idle[0] = nil
		m.idle = m.idle[1:]
		if !t.idleSince.IsZero() && m.topics[t.channel] == t {
			delete(m.topics, t.channel)
			if t.session != nil {
				t.session.drop(t)
			}
		}
	}
	m.idle = nil
	return time.Hour // Close of a subscription pokes
}

// routeWanted finds a server for each wanted topic. What cannot be found now is
// wanted again later.
func (m *Manager) routeWanted() {
	m.mu.Lock()
	wanted := m.wanted
	m.wanted = nil
	m.mu.Unlock()
	if len(wanted) == 0 {
		return
	}
	sharded, err := m.sharded()
	for i, t := range wanted {
		var server server
		if err == nil {
			server, err = m.serverOf(t.channel, sharded)
		}
		m.mu.Lock()
		if err != nil { // the picture of the whole cluster is missing
			m.log("no server for channels", err)
			m.wantLater(wanted[i:], m.pause("router"))
			m.mu.Unlock()
			return
		}
		delete(m.failures, "router")
		if !m.closed && m.topics[t.channel] == t && t.session == nil {
			m.sessionTo(server).add(t)
		}
		m.mu.Unlock()
	}
}

func (m *Manager) sharded() (bool, error) {
	if m.config.Sharded == nil {
		return false, nil
	}
	return m.config.Sharded(m.ctx)
}

// A server is where a session goes.
type server struct {
	name    string
	sharded bool
	open    func() *redis.PubSub // makes a PubSub that has not dialled yet
}

// serverOf tells which server has a channel.
func (m *Manager) serverOf(channel string, sharded bool) (server, error) {
	cluster, ok := m.rdb.(*redis.ClusterClient)
	if !sharded || !ok {
		return server{name: "", open: func() *redis.PubSub { return m.rdb.Subscribe(m.ctx) }}, nil
	}
	node, err := cluster.MasterForKey(m.ctx, channel)
	if err != nil {
		return server{}, err
	}
	open := func() *redis.PubSub { return node.SSubscribe(m.ctx) }
	return server{name: node.Options().Addr, sharded: true, open: open}, nil
}

// reload makes a cluster client look again who serves which slot.
func (m *Manager) reload() {
	if cluster, ok := m.rdb.(*redis.ClusterClient); ok {
		cluster.ReloadState(m.ctx)
	}
}

// pause tells how long to wait after one more failure in a row: from 10 ms,
// doubling up to a second, with jitter. Under m.mu.
func (m *Manager) pause(server string) time.Duration {
	n := m.failures[server]
	m.failures[server]++
	d := min(10*time.Millisecond<<min(n, 10), time.Second)
	return d/2 + rand.N(d)
}

func (m *Manager) log(msg string, err error) {
	if m.ctx.Err() == nil {
		m.config.Logger.Warn("holdfast: "+msg, "error", err)
	}
}
