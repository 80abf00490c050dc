package pubsub

import (
	"context"
	"fmt"
	"time"
)

// mostChannels is how many channels one command subscribes.
const mostChannels = 500

// A session is one connection to one server, from its first command until anything
// goes wrong. Guarded by Manager.mu.
type session struct {
	manager *Manager
	server  server
	wire    wire
	ctx     context.Context // ended by end
	cancel  context.CancelFunc
	rouse   chan struct{} // capacity 1: the writer has something to do
	opened  time.Time

	topics    map[*topic]struct{}
	todo      []command     // not written yet
	expected  []expectation // written, not answered yet
	lastReply time.Time     // or when the first expectation was written, if there was none
	lastFrame time.Time
	pinged    bool // since the last frame
	over      bool
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

// open makes a session. Under m.mu.
func (m *Manager) open(server server) *session {
	now := time.Now()
	s := &session{
		manager: m, server: server, wire: server.open(m.ctx),
		rouse:  make(chan struct{}, 1),
		topics: map[*topic]struct{}{},
		opened: now, lastFrame: now,
	}
	s.ctx, s.cancel = context.WithCancel(m.ctx)
	m.sessions[server.name] = s
	m.wg.Add(2)
	go s.write() // ended by end
	go s.guard() // ended by end
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

// guard is the session's own clock. It writes nothing and reads nothing itself, so
// nothing can hold it up before the end. Then it closes the connection, for which it
// waits until a dial or a write under way has ended, by the client's own timeouts.
func (s *session) guard() {
	defer s.manager.wg.Done()
	timer := time.NewTimer(s.look())
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			timer.Reset(s.look())
		case <-s.ctx.Done():
			_ = s.wire.Close()
			return
		}
	}
}

// look asks for a PONG when nothing has come for a third of the silence that is
// allowed, and ends the session after all of it, or when the server leaves a command
// unanswered that long. It tells when to look again.
func (s *session) look() time.Duration {
	m := s.manager
	m.mu.Lock()
	defer m.unlock()
	silent := time.Since(s.lastFrame)
	switch {
	case s.over:
	case len(s.expected) > 0 && time.Since(s.lastReply) >= m.config.Silence:
		// Messages may come all the while: no PING would be sent, and the channels that
		// are asked for would never be confirmed.
		s.end(fmt.Errorf("no reply to a command for %v", time.Since(s.lastReply).Round(time.Millisecond)))
	case silent >= m.config.Silence:
		s.end(fmt.Errorf("no answer from the server for %v", silent.Round(time.Millisecond)))
	case silent >= m.config.Silence/3 && !s.pinged:
		s.pinged = true
		s.do(command{kind: ping})
	}
	return max(min(m.config.Silence/6, m.config.Silence-silent), time.Millisecond)
}

// end ends the session for a reason, nil if it is not needed any more. Its topics
// are wanted again. Under m.mu.
func (s *session) end(reason error) {
	if s.over {
		return
	}
	m := s.manager
	s.over = true
	s.cancel()
	delete(m.sessions, s.server.name)
	if reason != nil && !m.closed {
		if m.failed(s.server.name, s.lastFrame.Sub(s.opened)) {
			m.warn("connection for messages lost", reason)
		}
		m.reload()
	}
	for t := range s.topics {
		m.confirm(t, false)
		t.session = nil
		if refusedForGood(reason) {
			t.err = reason
			t.rouse()
		}
		m.want(t)
	}
}

func (s *session) endWith(reason error) {
	s.manager.mu.Lock()
	defer s.manager.unlock()
	s.end(reason)
}

// write is the writer. Its first command dials, and the reader starts when that has
// been written. From then on the wire is given a context that has ended: it reads and
// writes with it, but when its connection is lost it can make no other one, whose
// confirmations nobody would expect.
func (s *session) write() {
	m := s.manager
	defer m.wg.Done()
	ctx := s.ctx
	for {
		for _, e := range s.next() {
			if err := s.send(ctx, e); err != nil {
				s.endWith(err)
				return
			}
			if ctx == s.ctx {
				ctx = m.spent
				m.wg.Add(1)
				go s.read() // ended by end, which has its connection closed
			}
		}
		select {
		case <-s.rouse:
		case <-s.ctx.Done():
			return
		}
	}
}

// next takes what is to be done, as commands of many channels each. They are
// expected from now on, because an answer may come before the write returns.
func (s *session) next() (commands []expectation) {
	s.manager.mu.Lock()
	defer s.manager.unlock()
	if s.over {
		return nil
	}
	for _, c := range s.todo {
		if c.kind == subscribe && c.topic.session != s {
			continue // dropped meanwhile
		}
		last := len(commands) - 1
		if last >= 0 && s.joins(c, commands[last]) {
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
	if len(s.expected) == 0 {
		s.lastReply = time.Now()
	}
	s.expected = append(s.expected, commands...)
	return commands
}

// joins tells whether a command can be written together with the one before. Sharded
// channels cannot: those of one command would have to be of one slot.
func (s *session) joins(c command, e expectation) bool {
	return c.kind != ping && c.kind == e.kind && len(e.topics) < mostChannels &&
		!s.server.sharded && !c.topic.alone && !e.topics[0].alone
}

func (s *session) send(ctx context.Context, e expectation) error {
	channels := make([]string, len(e.topics))
	for i, t := range e.topics {
		channels[i] = t.channel
	}
	switch {
	case e.kind == ping:
		return s.wire.Ping(ctx)
	case e.kind == subscribe && s.server.sharded:
		return s.wire.SSubscribe(ctx, channels...)
	case e.kind == subscribe:
		return s.wire.Subscribe(ctx, channels...)
	case s.server.sharded:
		return s.wire.SUnsubscribe(ctx, channels...)
	default:
		return s.wire.Unsubscribe(ctx, channels...)
	}
}

// read is the reader. Whatever goes wrong ends the session.
func (s *session) read() {
	m := s.manager
	defer m.wg.Done()
	for {
		frame, err := s.wire.ReceiveTimeout(m.spent, 2*m.config.Silence)
		m.mu.Lock()
		if !s.over {
			err = s.frame(frame, err)
		}
		if err != nil {
			s.end(err)
		}
		over := s.over
		m.unlock()
		if over {
			return
		}
	}
}
