package loopback

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func hold(t *testing.T) *Port {
	t.Helper()
	port, err := HoldWithBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(port.Close)
	return port
}

func TestPort(t *testing.T) {
	t.Run("refuses dials until someone listens, again and again", func(t *testing.T) {
		port := hold(t)
		for range 3 {
			if _, err := net.DialTimeout("tcp", port.Addr(), time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatalf("dial of a held port: got %v, want %v", err, syscall.ECONNREFUSED)
			}
			listener, err := net.Listen("tcp", port.Addr())
			if err != nil {
				t.Fatalf("listen on a held port: %v", err)
			}
			conn, err := net.DialTimeout("tcp", port.Addr(), time.Second)
			if err != nil {
				t.Fatalf("dial of a listener on a held port: %v", err)
			}
			_ = conn.Close()
			_ = listener.Close()
		}
	})

	t.Run("is given to nobody who asks for any port", func(t *testing.T) {
		taken := map[int]bool{}
		for range 200 {
			port := hold(t)
			for _, number := range []int{port.Number, port.Number + busOffset} {
				if taken[number] {
					t.Fatalf("port %d was given twice", number)
				}
				taken[number] = true
			}
		}
	})

	t.Run("two cannot hold one bus port", func(t *testing.T) {
		first := hold(t)
		if fd, _, err := bind(first.Number+busOffset, false); !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("second bind: got fd %d, %v, want %v", fd, err, syscall.EADDRINUSE)
		}
	})
}
