package pubsub

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// frame takes one frame, or the error that came instead. Under m.mu.
func (s *session) frame(frame any, err error) error {
	m := s.manager
	if err != nil && !aboutCommand(err) {
		return err
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

// aboutCommand tells whether an error is the reply to one command, and not one of
// the connection or of the whole server.
func aboutCommand(err error) bool {
	var refusal redis.Error
	return errors.As(err, &refusal) && !hasPrefix(err, "READONLY", "LOADING", "NOAUTH", "WRONGPASS")
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
	t.err, t.alone, t.refusals = nil, false, backoff{}
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

// moved gives a topic back to the router: its slot has moved, or cannot be served now.
func (s *session) moved(t *topic) {
	t.refusals.fail()
	s.manager.reload()
	s.yield(t, t.refusals.until)
}

// yield has a topic rest; without any topic the session ends.
func (s *session) yield(t *topic, until time.Time) {
	m := s.manager
	m.confirm(t, false)
	t.session = nil
	delete(s.topics, t)
	m.rest(t, until)
	if len(s.topics) == 0 {
		s.end(nil)
	}
}

// pop takes the next topic off what is expected, if it is of that kind.
func (s *session) pop(k kind) *topic {
	if len(s.expected) == 0 || s.expected[0].kind != k {
		return nil
	}
	s.lastReply = time.Now()
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
	s.lastReply = time.Now()
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
	t.err, t.alone = err, true // no other channel is to be refused with it the next time
	t.rouse()
	s.yield(t, time.Now().Add(refusedAgain))
}

// refusedForGood tells whether Redis will refuse the same again.
func refusedForGood(err error) bool {
	return hasPrefix(err, "NOPERM", "NOAUTH", "WRONGPASS", "unknown command")
}

func hasPrefix(err error, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return redis.HasErrorPrefix(err, p) })
}
