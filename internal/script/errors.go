package script

import (
	"crypto/tls"
	"errors"
	"net"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A Class tells what an error means for the operation that got it.
type Class uint8

const (
	// Done: no error.
	Done Class = iota
	// Refused: nothing was executed, and the same words will be refused again.
	Refused
	// NotExecuted: nothing was executed; the operation may be sent again.
	NotExecuted
	// Unknown: it may have been executed, or may still be.
	Unknown
)

// passing are the beginnings of errors with which Redis executes nothing now,
// but may later.
var passing = []string{
	"LOADING", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "READONLY", "NOREPLICAS",
	"MOVED", "ASK", "NOSCRIPT", "max number of clients",
}

// moved is what a script says that asks for a key which has left the node while it
// ran: it had emptied it, in a slot on the move.
const moved = "Script attempted to access a non local key"

// ClassOf tells what an error means. An error reply means that nothing was
// executed: each script checks its arguments before its first write, and Redis
// refuses either the whole script or its first write. (But for moved and errLed: then it may have been
// executed.)
func ClassOf(err error) Class {
	if err == nil {
		return Done
	}
	var (
		dial        *net.OpError
		certificate *tls.CertificateVerificationError
		plaintext   tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, errLed):
		return Unknown
	case isReply(err):
		for _, prefix := range passing {
			if redis.HasErrorPrefix(err, prefix) {
				return NotExecuted
			}
		}
		if strings.Contains(err.Error(), moved) {
			return Unknown
		}
		return Refused
	case errors.Is(err, redis.ErrClosed), errors.As(err, &certificate), errors.As(err, &plaintext):
		return Refused
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted), errors.Is(err, ErrUndone), errors.Is(err, ErrSplit):
		return NotExecuted
	case errors.As(err, &dial) && dial.Op == "dial":
		return NotExecuted
	}
	return Unknown
}

// errLed: a redirect is all that is left as the answer. A cluster client follows it; if the
// other node's answer is lost then, it may leave the redirect as the command's error. It also does
// when it has followed as many as it may.
var errLed = errors.New("led to another node, and no further answer")

func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// errReply: the server answered something that no script of ours returns. What
// it executed is unknown.
var errReply = errors.New("unexpected reply from Redis")

// A replyError is the error of one operation in a call, in Redis's own words.
type replyError string

func (e replyError) Error() string { return string(e) }

// RedisError marks it as an error that Redis replied (redis.Error).
func (e replyError) RedisError() {}

// caught is what Redis before 7.0, and miniredis, put before the text of an error
// that a script caught.
var caught = regexp.MustCompile(`^(@?user_script)?: ?\d+: ?-?`)

func newReplyError(text string) error {
	return replyError(strings.TrimPrefix(caught.ReplaceAllString(text, ""), "-"))
}

// unauthenticated puts NOAUTH before what Redis says instead of it: from a connection without a
// password it reads no command of more than ten words, and no long word, and hangs up.
func unauthenticated(err error) error {
	if !redis.HasErrorPrefix(err, "Protocol error: unauthenticated") {
		return err
	}
	return replyError("NOAUTH Authentication required. (" + err.Error() + ")")
}
