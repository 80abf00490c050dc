package pubsub

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

func TestTwentyThousandChannels(t *testing.T) {
	server := redistest.Start(t)
	m := start(t, server.Client(t), Config{})
	subs := make([]*Subscription, 20_000)
	began := time.Now()
	for i := range subs {
		subs[i] = m.Subscribe(fmt.Sprint("channel:", i))
	}
	subscribed := time.Since(began)
	for _, s := range subs {
		awaitConfirmed(t, s)
	}
	confirmed := time.Since(began)

	began = time.Now()
	kill(t, server)
	for _, s := range subs {
		awaitWake(t, s)
		awaitConfirmed(t, s)
	}
	again := time.Since(began)
	publish(t, server, "channel:12345")
	awaitWake(t, subs[12345])

	began = time.Now()
	for _, s := range subs {
		s.Close()
	}
	redistest.Eventually(t, patience, "unsubscribed", func() bool { return m.subscribed.Load() == 0 })
	t.Logf("20 000 channels: called in %v, confirmed after %v, after a kill again in %v, gone %v after Close (1 s of it Linger)",
		subscribed, confirmed, again, time.Since(began))
}
