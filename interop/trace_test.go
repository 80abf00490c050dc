package interop

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/redistest"
)

// What each side writes, publishes and subscribes to is what docs/wire-format.md shows,
// on every site: taken with MONITOR, one deed after the other. What only reads is left
// out, and so is how scripts are sent.
func TestTraces(t *testing.T) {
	for _, s := range sites {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, k := range kinds {
				if k.group() {
					continue // its members are plain locks
				}
				for _, side := range []string{"Java", "Go"} {
					t.Run(k.name+"/"+side, func(t *testing.T) {
						b := newBout(t, s, k, "trace")
						got := (&trace{bout: b, side: side}).run()
						if s.cluster != nil {
							got = plain(t, got)
						}
						document.want(t, fmt.Sprintf("trace %s %s", k.name, side), "```\n"+aligned(got)+"```\n")
					})
				}
			}
		})
	}
}

// plain makes of a cluster's trace that of a single server: it differs in the names
// of the commands for channels, and in nothing else.
func plain(t *testing.T, text string) string {
	t.Helper()
	for _, word := range []string{"PUBLISH", "SUBSCRIBE"} {
		if strings.Contains(text, "\t"+word+" ") {
			t.Errorf("%s in a cluster, where it is S%s:\n%s", word, word, text)
		}
		text = strings.ReplaceAll(text, "\tS"+word+" ", "\t"+word+" ")
	}
	return text
}

// A trace is one scene: its lines by deed.
type trace struct {
	*bout
	side  string
	lines func() []string
	seen  int
	told  []string
	names []string // owners in the order in which they show
	other string   // name of a second lock on the same server
}

func (tr *trace) run() string {
	server := tr.site.of(tr.spec.names[0])
	tr.lines = server.Monitor(tr.T)
	for i := 0; tr.other == "" || tr.site.of(tr.other) != server; i++ {
		tr.other = fmt.Sprintf("%s other %d", tr.name, i)
	}
	// The waiter is another client's: within one, holdfast may hand the lock over unseen.
	client := tr.client(settings{})
	one, two, three := tr.hand(client), tr.hand(client), tr.hand(tr.client(settings{}))
	tr.deed("acquire", func() { one.acquire(0) })
	tr.deed("acquire again", func() { one.acquire(0) })
	tr.deed("release, still held", func() { one.unlock() })
	tr.deed("single try, taken", func() { two.wantTry(false) })
	var came <-chan answer
	tr.deed("wait", func() { came = three.begin("lock", 0, 0); tr.awaitWaiter(tr.spec) })
	tr.deed("release, granted to the waiter", func() {
		one.unlock()
		if got := tr.soon(came, 20*time.Second); got.err != nil {
			tr.Fatal(got.err)
		}
	})
	tr.deed("acquire with a lease of 40 s", func() { three.acquire(40 * time.Second) })
	tr.deed("release, still held", func() { three.unlock() })
	tr.deed("release", func() { three.unlock() })
	tr.deed("acquire", func() { one.acquire(0) })
	tr.deed("force", func() { two.force() })
	tr.inVain()
	tr.renewal()
	return strings.Join(tr.told, "\n") + "\n"
}

// client is a new one: Redisson's watchdog goes round every ten seconds, from its first
// lock on, and is not to come by within the scene.
func (tr *trace) client(with settings) party {
	tr.Helper()
	p, err := tr.site.open(tr.side, with)
	if err != nil {
		tr.Fatal(err)
	}
	tr.Cleanup(p.close)
	return p
}

// inVain is a wait that runs out: on another lock, because Go stays subscribed for a
// second or so.
func (tr *trace) inVain() {
	second := tr.kind.spec(tr.other)
	client := tr.client(settings{})
	one, two := tr.hand(client).on(second), tr.hand(client).on(second)
	one.acquire(0)
	tr.effects()
	tr.deed("wait 200 ms in vain", func() { two.try(200*time.Millisecond, 0) })
	one.unlock()
	tr.effects()
}

// renewal is the first of a client whose watchdog timeout is 1.5 seconds.
func (tr *trace) renewal() {
	h := tr.hand(tr.client(settings{watchdog: 1500 * time.Millisecond}))
	h.acquire(0)
	tr.effects()
	var found []string
	redistest.Eventually(tr, 5*time.Second, "a renewal", func() bool {
		found = append(found, tr.effects()...)
		return len(found) > 0
	})
	tr.tell("renewal, of 1500 ms", found[:1])
	h.unlock()
}

func (tr *trace) deed(name string, do func()) {
	tr.Helper()
	do()
	pause(100 * time.Millisecond) // what is sent and not waited for
	tr.tell(name, tr.effects())
}

func (tr *trace) tell(name string, effects []string) {
	if len(effects) == 0 {
		effects = []string{"nothing"}
	}
	for i, effect := range effects {
		if i > 0 {
			name = ""
		}
		tr.told = append(tr.told, name+"\t"+effect)
	}
}

var (
	quoted    = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
	ownerText = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}:[0-9]+`)
	latchText = regexp.MustCompile(`(redisson_unlock_latch:\S*:)[0-9a-f]{32}`)
	momentTxt = regexp.MustCompile(`\b[0-9]{13}\b`)
	latchTTL  = regexp.MustCompile(`(SET \S*redisson_unlock_latch.* PX) [0-9]+`)
)

var effective = strings.Fields("HSET HINCRBY PEXPIRE DEL SET RPUSH LPUSH LPOP LREM ZADD ZREM ZINCRBY " +
	"PUBLISH SPUBLISH SUBSCRIBE SSUBSCRIBE") // not UNSUBSCRIBE: each side takes its time

// effects are the commands since the last time that change or tell something. An HDEL does if it is told: without
// a message Go asks a master for its word with that of a field that is not there.
func (tr *trace) effects() []string {
	lines := tr.lines()
	var effects, last []string
	for i, line := range lines[tr.seen:] {
		if !strings.Contains(line, tr.name) {
			continue
		}
		effect := tr.effect(line)
		next := strings.Join(lines[tr.seen+i+1:min(tr.seen+i+2, len(lines))], "")
		switch command, _, _ := strings.Cut(effect, " "); {
		case command == "HDEL" && strings.Contains(next, `PUBLISH"`):
			effects = append(effects, effect)
		case !slices.Contains(effective, command), slices.Contains(effects, effect): // once a deed is enough
		case strings.HasPrefix(effect, "DEL redisson_unlock_latch"):
			last = append(last, effect) // it is not waited for, so it may come before or after a waiter's
		default:
			effects = append(effects, effect)
		}
	}
	tr.seen = len(lines)
	return append(effects, last...)
}

// effect is a line without what differs from run to run.
func (tr *trace) effect(line string) string {
	var words []string
	for _, found := range quoted.FindAllStringSubmatch(line, -1) {
		words = append(words, found[1])
	}
	words[0] = strings.ToUpper(words[0])
	if words[0] == "SET" && len(words) > 3 {
		words[3] = strings.ToUpper(words[3])
	}
	text := strings.ReplaceAll(strings.ReplaceAll(strings.Join(words, " "), tr.other, "orders"), tr.name, "orders")
	text = ownerText.ReplaceAllStringFunc(text, func(owner string) string {
		if !slices.Contains(tr.names, owner) {
			tr.names = append(tr.names, owner)
		}
		return string(rune('A' + slices.Index(tr.names, owner)))
	})
	text = latchText.ReplaceAllString(text, "${1}<request>")
	text = momentTxt.ReplaceAllString(text, "<moment>")
	return latchTTL.ReplaceAllString(text, "$1 <latch ttl>")
}

// aligned puts what stands after the tabs below each other.
func aligned(text string) string {
	const width = 32
	var b strings.Builder
	for line := range strings.Lines(text) {
		deed, effect, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		fmt.Fprintf(&b, "%-*s%s\n", width, deed, effect)
	}
	return b.String()
}
