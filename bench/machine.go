package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// A machine is what a run ran on, and with.
type machine struct {
	OS       string   `json:"os"`
	CPUs     int      `json:"cpus"`
	Load     string   `json:"load,omitempty"` // of the last 1, 5 and 15 minutes, at the start
	Go       string   `json:"go"`
	Redis    string   `json:"redis"`
	Versions []string `json:"versions"`
}

func describeMachine(addr string) (machine, error) {
	s, err := openStats(addr)
	if err != nil {
		return machine{}, err
	}
	defer s.close()
	version, err := s.version()
	return machine{
		OS:       runtime.GOOS + "/" + runtime.GOARCH,
		CPUs:     runtime.GOMAXPROCS(0),
		Load:     load(),
		Go:       runtime.Version(),
		Redis:    version,
		Versions: versions(),
	}, err
}

// load is empty where there is no /proc.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// versions are those of the peers and of go-redis.
func versions() []string {
	wanted := []string{"github.com/redis/go-redis/v9"}
	for _, p := range peers {
		wanted = append(wanted, p.module)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	var found []string
	for _, path := range wanted {
		for _, dep := range info.Deps {
			if dep.Path != path {
				continue
			}
			if dep.Replace != nil {
				found = append(found, path+" (this tree)")
			} else {
				found = append(found, path+" "+dep.Version)
			}
		}
	}
	return found
}

func (m machine) String() string {
	load := ""
	if m.Load != "" {
		load = ", load at the start " + m.Load
	}
	return fmt.Sprintf("%s, %s%s; %s; Redis %s; %s.",
		m.OS, count(m.CPUs, "CPU"), load, m.Go, m.Redis, strings.Join(m.Versions, ", "))
}
