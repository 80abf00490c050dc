package redistest

import (
	"context"
	_ "embed"
	endian "encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/redistest/loopback"
)

//go:embed skew/skew.c
var skewSource []byte

// A Clock is the time of day of one server, which can be set. What the server
// measures with the monotonic clock goes on as before.
type Clock struct {
	file   *os.File
	server *Server
}

// StartWithClock is Start of a server whose clock can be set. It needs a C compiler, as
// the race detector does, and a server that is linked dynamically; without them
// the test fails and says so.
func StartWithClock(t testing.TB, args ...string) (*Server, *Clock) {
	t.Helper()
	clock, env, err := newClock(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = clock.file.Close() })
	s, err := launch(loopback.Hold, env, args)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	clock.server = s
	for _, offset := range []time.Duration{time.Hour, 0} {
		if err := clock.Set(t.Context(), offset); err != nil {
			t.Fatal(err)
		}
	}
	return s, clock
}

// newClock makes a clock that is right, and the environment of who is to see it.
func newClock(dir string) (*Clock, []string, error) {
	source, library, offset := filepath.Join(dir, "skew.c"), filepath.Join(dir, "skew.so"), filepath.Join(dir, "offset")
	if err := os.WriteFile(source, skewSource, 0o600); err != nil {
		return nil, nil, err
	}
	if said, err := exec.Command("cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", library, source).CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("redistest: a server whose clock can be set needs a C compiler (Debian: apt-get install gcc libc6-dev): %w\n%s", err, said)
	}
	file, err := os.Create(offset)
	if err != nil {
		return nil, nil, err
	}
	clock := &Clock{file: file}
	return clock, []string{"LD_PRELOAD=" + library, "HOLDFAST_SKEW=" + offset}, clock.write(0)
}

// Set sets the server's clock to the right time and so much more, or less, and returns
// once the server sees it: Redis with its next look at the clock, Valkey a little later.
func (c *Clock) Set(ctx context.Context, offset time.Duration) error {
	if err := c.write(offset); err != nil {
		return err
	}
	const near = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return until(ctx, func() error {
		now, err := c.server.admin.Time(ctx).Result()
		if err != nil {
			return c.server.failed("ask for the time", err)
		}
		if off := time.Until(now); (off - offset).Abs() > near {
			return fmt.Errorf("redistest: the clock was set to %v, and the server sees %v: is it linked statically?", offset, off)
		}
		return nil
	})
}

func (c *Clock) write(offset time.Duration) error {
	_, err := c.file.WriteAt(endian.NativeEndian.AppendUint64(nil, uint64(offset.Microseconds())), 0)
	return err
}
