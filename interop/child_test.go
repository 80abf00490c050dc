package interop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Go peer that can be killed is this test binary, run again with childVariable
// set: it then serves the requests that the Java agent serves, less those for
// stress.
const childVariable = "HOLDFAST_INTEROP_CHILD"

func startGoChild() (*agent, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	return launchAgent(cmd)
}

// serveChild does what the requests say until there are no more.
func serveChild() {
	parties := map[string]*goParty{}
	actors := map[string]*goActor{}
	var out sync.Mutex
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var q request
		if err := json.Unmarshal(line, &q); err != nil {
			panic(err)
		}
		if q.Op == "open" {
			parties[q.Client], err = openGo(childRedis(q), settings{watchdog: milliseconds(q.Watchdog), prefix: q.Prefix})
			say(&out, reply{ID: q.ID, Value: json.RawMessage(`"go"`)}, err)
			continue
		}
		if actors[q.Worker] == nil {
			actors[q.Worker] = parties[q.Client].actor().(*goActor)
		}
		actor := actors[q.Worker]
		go func() { // ends with its call, or the process
			got := actor.do(call{q.Op, spec{q.Kind, q.Names}, milliseconds(q.WaitMillis), milliseconds(q.LeaseMillis)})
			say(&out, reply{ID: q.ID, Value: fmt.Append(nil, got.ok), Start: got.start, End: got.end}, got.err)
		}()
	}
}

func childRedis(q request) redis.UniversalClient {
	var addrs []string
	for _, url := range q.Addresses {
		addrs = append(addrs, strings.TrimPrefix(url, "redis://"))
	}
	if q.Cluster {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	}
	return redis.NewClient(&redis.Options{Addr: addrs[0]})
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func say(out *sync.Mutex, r reply, err error) {
	if err != nil {
		r.Error, r.Message = fmt.Sprintf("%T", err), err.Error()
	}
	line, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	out.Lock()
	defer out.Unlock()
	fmt.Printf("%s\n", line)
}
