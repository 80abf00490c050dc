package faultproxy

import (
	"bufio"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

func TestReadReplyFindsTheEnd(t *testing.T) {
	for _, frame := range []string{
		"+OK\r\n", "-ERR no\r\n", ":1\r\n", "_\r\n", ",1.5\r\n", "#t\r\n", "(123456789012345678901\r\n", "\n",
		"$0\r\n\r\n", "$-1\r\n", "$4\r\n\r\n*1\r\n", "=7\r\ntxt:a\r\n\r\n", "!5\r\nERR x\r\n",
		"*0\r\n", "*-1\r\n", "*2\r\n*1\r\n:1\r\n$1\r\na\r\n", "~1\r\n+a\r\n", "%1\r\n+a\r\n*1\r\n:1\r\n",
		">2\r\n$10\r\ninvalidate\r\n_\r\n", "|1\r\n+ttl\r\n:5\r\n$1\r\na\r\n",
	} {
		r := bufio.NewReader(strings.NewReader(frame + "+next\r\n"))
		if got, err := readReply(r); err != nil || string(got) != frame {
			t.Errorf("reply: got %q, %v, want %q", got, err, frame)
		}
	}
	for _, frame := range []string{"hello\r\n", "$x\r\n", "*-2\r\n", "$5\r\nab\r\n", "*2\r\n:1\r\n", ""} {
		if got, err := readReply(bufio.NewReader(strings.NewReader(frame))); err == nil {
			t.Errorf("reply %q: got %q, want an error", frame, got)
		}
	}
}

func TestReadCommand(t *testing.T) {
	for raw, want := range map[string][]string{
		"*2\r\n$4\r\nECHO\r\n$4\r\na\r\nb\r\n": {"ECHO", "a\r\nb"},
		"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n":       {"ECHO", ""},
		"PING hello\r\n":                       {"PING", "hello"},
		"*0\r\n":                               nil,
	} {
		r := bufio.NewReader(strings.NewReader(raw + "PING\r\n"))
		if got, forward, err := readCommand(r); err != nil || !reflect.DeepEqual(got, want) || string(forward) != raw {
			t.Errorf("command: got %q, raw %q, %v, want %q, raw %q", got, forward, err, want, raw)
		}
	}
}

func TestPushKind(t *testing.T) {
	for _, test := range []struct {
		frame      string
		subscribed bool
		kind       string
		push       bool
	}{
		{">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", true, "subscribe", true},
		{">2\r\n$10\r\ninvalidate\r\n_\r\n", false, "", true},
		{"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", true, "message", true},
		{"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", false, "", false}, // an LRANGE, say
		{"*2\r\n$4\r\npong\r\n$0\r\n\r\n", true, "", false},
		{"*0\r\n", true, "", false},
		{"$7\r\nmessage\r\n", true, "", false},
	} {
		if kind, push := pushKind([]byte(test.frame), test.subscribed); kind != test.kind || push != test.push {
			t.Errorf("kind of %q: got %q, %v, want %q, %v", test.frame, kind, push, test.kind, test.push)
		}
	}
}

func TestClusterBehindProxies(t *testing.T) {
	redistest.NeedRedis(t, 7, 0, "a running node keeps its announced port")
	c := redistest.StartCluster(t, 2, 1)
	proxies := map[*redistest.Server]*Proxy{}
	for i, node := range c.Nodes {
		proxies[node] = New(t, node.Addr(), uint64(i))
		if err := c.Announce(t.Context(), node, proxies[node].Addr()); err != nil {
			t.Fatal(err)
		}
	}
	redistest.Eventually(t, limit, "replicas follow through the proxies", func() bool { return c.Healthy() == nil })

	client := c.Client(t)
	master := proxies[c.MasterOf("orders")]
	master.OnNext("INCR", ResetBefore)
	if got, err := client.Incr(t.Context(), "orders").Result(); err != nil || got != 1 {
		t.Errorf("incr: got %d, %v, want 1 by go-redis's second try", got, err)
	}
	if got := master.Seen()["INCR"]; got != 2 {
		t.Errorf("commands through the master's proxy: got %d, want 2", got)
	}
}
