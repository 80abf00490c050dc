package pubsub

import (
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// mostChannels is how many channels one command subscribes.
const mostChannels = 500

// A session is one connection to one server, from its first command until anything
// goes wrong. Guarded by Manager.mu.
type session struct {
	manager *Manager
	server  server
	ps      *redis.PubSub
	rouse   chan struct{} // capacity 1: the writer has something to do
	dead    chan struct{} // closed by end

	topics    map[*topic]struct{}
	todo      []command     // not written yet
	expected  []expectation // written, not answered yet
	lastFrame time.Time
	pinged    bool // since the last frame
	over      bool
	watch     *time.Timer
}

type kind uint8

const (
	subscribe kind = iota
	unsubscribe
	ping
)

// A command is what the writer is to do.
type command struct {
	kind  kind
	topic *topic // of subscribe and unsubscribe
}

// An expectation is one written command: the topics that its replies are about, in
// their order.
type expectation struct {
	kind   kind
	topics []*topic
}

// sessionTo returns the session to a server, a new one if there is none. Under m.mu.
func (m *Manager) sessionTo(server server) *session {
	if s := m.sessions[server.name]; s != nil {
		return s
	}
	s := &session{
		manager: m, server: server, ps: server.open(),
		rouse:     make(chan struct{}, 1),
		dead:      make(chan struct{}),
		topics:    map[*topic]struct{}{},
		lastFrame: time.Now(),
	}
	m.sessions[server.name] = s
	m.wg.Add(1)
	go s.write() // ended by end
	s.watch = time.AfterFunc(m.config.Silence/3, s.look)
	return s
}

// add has a topic subscribed here. Under m.mu.
func (s *session) add(t *topic) {
	t.session = s
	s.topics[t] = struct{}{}
	s.do(command{subscribe, t})
}

// drop has a topic unsubscribed; without any topic the session ends. Under m.mu.
func (s *session) drop(t *topic) {
	s.manager.confirm(t, false)
	delete(s.topics, t)
	t.session = nil
	if len(s.topics) == 0 {
		s.end(nil)
		return
	}
	s.do(command{unsubscribe, t})
}

func (s *session) do(c command) {
	s.todo = append(s.todo, c)
	select {
	case s.rouse <- struct{}{}:
	default:
	}
}

// look is the session's own clock. It asks for a PONG when nothing has come for a
// third of the silence that is allowed, and ends the session after all of it: it
// writes nothing itself, so nothing can hold it up.
func (s *session) look() {
	m := s.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.over {
		return
	}
	silent := time.Since(s.lastFrame)
	switch {
	case silent >= m.config.Silence:
		s.end(fmt.Errorf("no answer from the server for %v", silent.Round(time.Millisecond)))
		return
	case silent >= m.config.Silence/3 && !s.pinged:
		s.pinged = true
		s.do(command{kind: ping})
	}
	s.watch.Reset(m.config.Silence / 6)
}

// end ends the session for a reason, nil if it is not needed any more. Its topics
// are wanted again after a pause. Under m.mu.
func (s *session) end(reason error) {
	if s.over {
		return
	}
	m := s.manager
	s.over = true
	close(s.dead)
	s.watch.Stop()
	delete(m.sessions, s.server.name)
	var topics []*topic
	for t := range s.topics {
		m.confirm(t, false)
		t.session = nil
		topics = append(topics, t)
	}
	m.wg.Add(1)
	go func() { // ends with the client's write timeout: Close waits for a write under way
		defer m.wg.Done()
		_ = s.ps.Close()
	}()
	if reason == nil || m.closed {
		return
	}
	m.log("connection for messages lost", reason)
	if refusedForGood(reason) {
		for _, t := range topics {
			t.err = reason
			t.rouse()
		}
	}
	m.reload()
	m.wantLater(topics, m.pause(s.server.name))
}

func (s *session) endWith(reason error) {
	s.manager.mu.Lock()
	defer s.manager.mu.Unlock()
	s.end(reason)
}

// write is the writer: the only goroutine that go-redis's mutex can hold up. The
// first command dials; the reader starts when it has been written.
func (s *session) write() {
	m := s.manager
	defer m.wg.Done()
	reading := false
	for {
		for _, e := range s.next() {
			if err := s.send(e); err != nil {
				s.endWith(err)
				return
			}
			if !reading {
				reading = true
				m.wg.Add(1)
				go s.read() // ended by end, which closes its connection
			}
		}
		select {
		case <-s.rouse:
		case <-s.dead:
			return
		}
	}
}

// next takes what is to be done, as commands of many channels each. They are
// expected from now on, because an answer may come before the write returns.
func (s *session) next() (commands []expectation) {
	s.manager.mu.Lock()
	defer s.manager.mu.Unlock()
	if s.over {
		return nil
	}
	for _, c := range s.todo {
		if c.kind == subscribe && c.topic.session != s {
			continue // dropped meanwhile
		}
		last := len(commands) - 1
		if last >= 0 && c.joins(commands[last]) {
			commands[last].topics = append(commands[last].topics, c.topic)
			continue
		}
		e := expectation{kind: c.kind}
		if c.topic != nil {
			e.topics = []*topic{c.topic}
		}
		commands = append(commands, e)
	}
	s.todo = nil
	s.expected = append(s.expected, commands...)
	return commands
}

func (c command) joins(e expectation) bool {
	return c.kind != ping && c.kind == e.kind && len(e.topics) < mostChannels && !c.topic.alone && !e.topics[0].alone
}

func (s *session) send(e expectation) error {
	channels := make([]string, len(e.topics))
	for i, t := range e.topics {
		channels[i] = t.channel
	}
	ctx := s.manager.ctx
	switch {
	case e.kind == ping:
		return s.ps.Ping(ctx)
	case e.kind == subscribe && s.server.sharded:
		return s.ps.SSubscribe(ctx, channels...)
	case e.kind == subscribe:
		return s.ps.Subscribe(ctx, channels...)
	case s.server.sharded:
		return s.ps.SUnsubscribe(ctx, channels...)
	default:
		return s.ps.Unsubscribe(ctx, channels...)
	}
}

// read is the reader. Whatever goes wrong ends the session.
func (s *session) read() {
	m := s.manager
	defer m.wg.Done()
	for {
		frame, err := s.ps.ReceiveTimeout(m.ctx, 2*m.config.Silence)
		m.mu.Lock()
		if !s.over {
			err = s.frame(frame, err)
		}
		if err != nil {
			s.end(err)
		}
		over := s.over
		m.mu.Unlock()
		if over {
			return
		}
	}
}

// frame takes one frame, or the error that came instead. Under m.mu.
func (s *session) frame(frame any, err error) error {
	m := s.manager
	var refusal redis.Error
	if err != nil && (!errors.As(err, &refusal) || redis.HasErrorPrefix(err, "READONLY") || redis.HasErrorPrefix(err, "LOADING")) {
		return err // of the connection
	}
	s.lastFrame = time.Now()
	s.pinged = false
	switch f := frame.(type) {
	case nil:
		return s.refused(err)
	case *redis.Message:
		if t := m.topics[f.Channel]; t != nil {
			t.rouse()
		}
	case *redis.Pong:
		s.pop(ping)
	case *redis.Subscription:
		if f.Kind == "subscribe" || f.Kind == "ssubscribe" {
			return s.subscribed(f.Channel)
		}
		s.unsubscribed(f.Channel)
	}
	return nil
}

// subscribed takes a confirmation: everybody on that channel looks again.
func (s *session) subscribed(channel string) error {
	t := s.pop(subscribe)
	if t == nil || t.channel != channel {
		return fmt.Errorf("the server confirmed %q, which was not the next", channel)
	}
	if t.session != s {
		return nil // dropped meanwhile; it is unsubscribed next
	}
	delete(s.manager.failures, s.server.name)
	t.err, t.alone = nil, false
	s.manager.confirm(t, true)
	t.rouse()
	return nil
}

// unsubscribed takes the answer to an unsubscribe, or the news that the channel's
// slot has moved to another server.
func (s *session) unsubscribed(channel string) {
	if len(s.expected) > 0 && s.expected[0].kind == unsubscribe && s.expected[0].topics[0].channel == channel {
		s.pop(unsubscribe)
		return
	}
	if t := s.manager.topics[channel]; t != nil && t.session == s {
		s.moved(t)
	}
}

// moved gives a topic back to the router.
func (s *session) moved(t *topic) {
	m := s.manager
	m.confirm(t, false)
	t.session = nil
	delete(s.topics, t)
	t.rouse() // the release may have been told elsewhere already
	m.reload()
	m.wantLater([]*topic{t}, 20*time.Millisecond)
	if len(s.topics) == 0 {
		s.end(nil)
	}
}

// pop takes the next topic off what is expected, if it is of that kind.
func (s *session) pop(k kind) *topic {
	if len(s.expected) == 0 || s.expected[0].kind != k {
		return nil
	}
	e := &s.expected[0]
	if len(e.topics) == 0 {
		s.expected = s.expected[1:]
		return nil
	}
	t := e.topics[0]
	e.topics = e.topics[1:]
	if len(e.topics) == 0 {
		s.expected = s.expected[1:]
	}
	return t
}

// refused takes the error reply to one command.
func (s *session) refused(err error) error {
	if len(s.expected) == 0 {
		return err
	}
	e := s.expected[0]
	s.expected = s.expected[1:]
	if e.kind != subscribe {
		return nil // PING without permission: an answer is all that was wanted
	}
	for _, t := range e.topics {
		switch {
		case t.session != s:
		case len(e.topics) > 1:
			t.alone = true // one of them was refused: which one?
			s.do(command{subscribe, t})
		case refusedForGood(err):
			s.refuse(t, err)
		default:
			s.moved(t) // MOVED, CLUSTERDOWN: another server, or the same one later
		}
	}
	return nil
}

// refusedAgain is how long a channel rests that Redis refused for good.
const refusedAgain = 2 * time.Second

// refuse gives a channel up for a while, and tells those who wait for it.
func (s *session) refuse(t *topic, err error) {
	m := s.manager
	t.err = err
	t.session = nil
	delete(s.topics, t)
	t.rouse()
	m.wantLater([]*topic{t}, refusedAgain)
	if len(s.topics) == 0 {
		s.end(nil)
	}
}

// refusedForGood tells whether Redis will refuse the same again.
func refusedForGood(err error) bool {
	for _, prefix := range []string{"NOPERM", "NOAUTH", "WRONGPASS", "unknown command"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}
