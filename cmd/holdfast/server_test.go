package main

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestURLsAreRedacted(t *testing.T) {
	for url, want := range map[string]string{
		"redis://localhost:6379/2":                "redis://localhost:6379/2",
		"redis://:secret@localhost:6379":          "redis://***@localhost:6379",
		"redis://secret@localhost":                "redis://***@localhost",
		"rediss://me:secret@a:1,b:2/?addr=c:3":    "rediss://***@a:1,b:2/",
		"redis://:sec@ret@localhost":              "redis://***@localhost",
		"redis://:12/secret@localhost":            "redis://***@localhost",
		"redis://:12?secret#@localhost":           "redis://***@localhost",
		"redis://localhost?password=secret":       "redis://localhost",
		"redis://me:secret":                       "redis://me:***",
		"redis://[::1]:6379":                      "redis://[::1]:6379",
		"me:secret@localhost":                     "***@localhost",
		"localhost:6379":                          "localhost:6379",
		"unix://me:secret@/run/redis.sock?db=1":   "unix://***@/run/redis.sock",
		"redis://:%zzsecret@localhost":            "redis://***@localhost",
		"redis://:secret@local host:6379":         "redis://***@local host:6379",
		"redis://:secret@localhost:6379/notanumb": "redis://***@localhost:6379/notanumb",
		"": "",
	} {
		if got := redacted(url); got != want {
			t.Errorf("%q redacted: got %q, want %q", url, got, want)
		}
		rdb, err := dial(url, false)
		if err == nil {
			_ = rdb.Close()
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error %q has the password in it", url, err)
		}
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	for _, url := range []string{
		"", "localhost:6379", "http://localhost", "redis://:12/34@localhost", "redis://:1?2@localhost", "redis://:1#2@localhost",
		"redis://localhost/x", "redis://localhost?nonsense=1", "redis://local host", "redis://:%zz@localhost",
	} {
		if rdb, err := dial(url, false); err == nil {
			t.Errorf("%q: got a client, want an error", url)
			_ = rdb.Close()
		}
	}
}

func TestURLsOfClusters(t *testing.T) {
	const want = "a:7000 b:7001 c:7002"
	for _, url := range []string{
		"redis://me:pw,@a:7000,b:7001,c:7002", "redis://me:pw,@a:7000?addr=b:7001&addr=c:7002", "redis://me:pw,@a:7000,b:7001?addr=c:7002",
	} {
		if !severalHosts(url) {
			t.Errorf("%q: got one host, want several", url)
		}
		rdb, err := dial(url, true)
		if err != nil {
			t.Fatalf("%q: %v", url, err)
		}
		o := rdb.(*redis.ClusterClient).Options()
		_ = rdb.Close()
		got := strings.Fields(strings.Join(o.Addrs, " "))
		if len(got) != 3 || o.Addrs[0] != "a:7000" || o.Username != "me" || o.Password != "pw," {
			t.Errorf("%q: got %v, %q, %q, want %s, me and its password", url, o.Addrs, o.Username, o.Password, want)
		}
	}
	for _, url := range []string{"redis://a:7000", "redis://me:p,w@a:7000", "redis://a:7000?client_name=x,y"} {
		if severalHosts(url) {
			t.Errorf("%q: got several hosts, want one", url)
		}
	}
}
