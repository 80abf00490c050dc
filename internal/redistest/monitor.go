package redistest

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// Monitor starts to record the commands that the server runs, from every client
// and from scripts, in the order in which it runs them. The function it returns
// gives all that the server has run so far: it sends a command of its own and
// reads up to it. A line is what MONITOR tells without time, database and
// address; a command that a script calls has "lua " before it:
//
//	"evalsha" "a9f…" "1" "orders"
//	lua "hget" "orders" "owner"
//
// Call the function from the test's goroutine.
func (s *Server) Monitor(t testing.TB) (lines func() []string) {
	t.Helper()
	monitor, marker := s.dialRaw(t), s.dialRaw(t)
	stream := bufio.NewReader(monitor)
	ask(t, monitor, stream, "MONITOR", "+OK")
	answers := bufio.NewReader(marker)

	var seen []string
	marks := 0
	return func() []string {
		t.Helper()
		marks++
		mark := fmt.Sprintf("redistest-monitor-%d", marks)
		ask(t, marker, answers, "ECHO "+mark, "$")
		if _, err := answers.ReadString('\n'); err != nil { // the echo itself
			t.Fatalf("monitor: %v", err)
		}
		_ = monitor.SetReadDeadline(time.Now().Add(5 * time.Second))
		for {
			line, err := stream.ReadString('\n')
			if err != nil {
				t.Fatalf("monitor: %v", err)
			}
			command := monitored(line)
			if command == fmt.Sprintf("%q %q", "ECHO", mark) {
				return seen
			}
			seen = append(seen, command)
		}
	}
}

// monitored strips "+1690000000.123456 [0 127.0.0.1:1234] " off a line.
func monitored(line string) string {
	_, line, _ = strings.Cut(strings.TrimSpace(line), " [")
	source, command, _ := strings.Cut(line, "] ")
	if strings.HasSuffix(source, " lua") {
		return "lua " + command
	}
	return command
}

// ask sends an inline command and checks how the first line of its answer begins.
func ask(t testing.TB, conn net.Conn, answers *bufio.Reader, command, want string) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	if got, err := answers.ReadString('\n'); err != nil || !strings.HasPrefix(got, want) {
		t.Fatalf("%s: got %q, %v, want %q", command, got, err, want)
	}
}

func (s *Server) dialRaw(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.Addr(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
