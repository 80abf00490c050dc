package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// redissonVersion is the one that the agent is compiled against and that the cases run with.
const redissonVersion = "4.7.0"

// An agent is one Java process. Its methods may be called from any goroutine.
type agent struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	log   string        // file of what it says beside its replies
	ended chan struct{} // closed once it has ended

	mu      sync.Mutex
	last    int64
	waiting map[int64]chan reply
}

// A request is one line to the agent; see Request.java.
type request struct {
	ID            int64          `json:"id"`
	Op            string         `json:"op"`
	Client        string         `json:"client,omitempty"`
	Worker        string         `json:"worker,omitempty"`
	Kind          string         `json:"kind,omitempty"`
	Names         []string       `json:"names,omitempty"`
	Clients       []string       `json:"clients,omitempty"`
	WaitMillis    int64          `json:"waitMillis,omitempty"`
	LeaseMillis   int64          `json:"leaseMillis,omitempty"`
	Interruptible bool           `json:"interruptible,omitempty"`
	Cluster       bool           `json:"cluster,omitempty"`
	Addresses     []string       `json:"addresses,omitempty"`
	Watchdog      int64          `json:"watchdogMillis,omitempty"`
	FairWait      int64          `json:"fairWaitMillis,omitempty"`
	Prefix        string         `json:"prefix,omitempty"`
	Millis        int64          `json:"millis,omitempty"`
	Seed          int64          `json:"seed,omitempty"`
	Targets       []stressTarget `json:"targets,omitempty"`
}

// A reply is one line from it; see Reply.java.
type reply struct {
	ID      int64           `json:"id"`
	Value   json.RawMessage `json:"value"`
	Error   string          `json:"error"`
	Message string          `json:"message"`
	Start   int64           `json:"start"`
	End     int64           `json:"end"`
	Thread  int64           `json:"thread"`
}

// javaError is what Java threw.
type javaError struct{ class, message string }

func (e *javaError) Error() string { return e.class + ": " + e.message }

var errAgentEnded = errors.New("the Java process has ended")

// startAgent starts a Java process with that version of Redisson.
func startAgent(version string, options ...string) (*agent, error) {
	libraries := filepath.Join("agent", "target", "lib-"+version)
	if _, err := os.Stat(libraries); err != nil {
		return nil, fmt.Errorf(`the Java agent is not built: run "make interop": %w`, err)
	}
	args := append([]string{
		"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.log.org.redisson.Redisson=off", // says of each RedLock that it is deprecated
	}, options...)
	args = append(args, "-cp", filepath.Join("agent", "target", "agent.jar")+":"+filepath.Join(libraries, "*"), "holdfast.interop.Agent")
	return launchAgent(exec.Command("java", args...))
}

// launchAgent runs a command that serves requests.
func launchAgent(cmd *exec.Cmd) (*agent, error) {
	log, err := os.CreateTemp("", "interop-agent-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	a := &agent{
		cmd: cmd, log: log.Name(),
		ended: make(chan struct{}), waiting: map[int64]chan reply{},
	}
	a.cmd.Stderr = log
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("the Java agent: %w", err)
	}
	go a.listen(out) // ends with the process, which close and kill end
	return a, nil
}

// listen hands every reply to its caller.
func (a *agent) listen(out io.Reader) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var r reply
		if err := json.Unmarshal(line, &r); err != nil {
			fmt.Fprintf(os.Stderr, "the Java agent says %q: %v\n", line, err)
			continue
		}
		a.mu.Lock()
		caller := a.waiting[r.ID]
		delete(a.waiting, r.ID)
		a.mu.Unlock()
		if caller != nil {
			caller <- r
		}
	}
	_ = a.cmd.Wait() // a killed process's status is no news
	close(a.ended)
}

// send sends a request and gives the channel of its reply.
func (a *agent) send(r request) <-chan reply {
	answer := make(chan reply, 1)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last++
	r.ID = a.last
	a.waiting[r.ID] = answer
	line, err := json.Marshal(r)
	if err != nil {
		panic(err) // of strings and numbers there is none
	}
	_, _ = a.in.Write(append(line, '\n')) // a broken pipe shows in ended
	return answer
}

// call waits for the reply.
func (a *agent) call(r request) (reply, error) {
	select {
	case got := <-a.send(r):
		if got.Error != "" {
			return got, &javaError{got.Error, got.Message}
		}
		return got, nil
	case <-a.ended:
		return reply{}, errAgentEnded
	}
}

// redisson asks which version it runs.
func (a *agent) redisson() (string, error) {
	r, err := a.call(request{Op: "version"})
	if err != nil {
		return "", err
	}
	return strconv.Unquote(string(r.Value))
}

// kill ends it by SIGKILL and returns once it is gone.
func (a *agent) kill() {
	_ = a.cmd.Process.Kill() // fails only when it has ended
	<-a.ended
	_ = os.Remove(a.log)
}

// close ends it without farewell: closing its input is the end.
func (a *agent) close() {
	_ = a.in.Close()
	select {
	case <-a.ended:
		_ = os.Remove(a.log)
	case <-time.After(5 * time.Second):
		a.kill()
	}
}

// tail is the end of what it has logged.
func (a *agent) tail() string {
	text, _ := os.ReadFile(a.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}
