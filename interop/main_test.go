package interop

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var (
	sites []*site
	java  *agent // for all cases but those that need a process of their own
)

// sitesVariable chooses the sites by name, comma separated, for a quick run.
const sitesVariable = "HOLDFAST_INTEROP_SITES"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		serveChild()
		return
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if java, err = startAgent(redissonVersion); err == nil {
		defer java.close()
		sites, err = startSites()
		defer closeSites(sites)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: interop:", err)
		return 1
	}
	if wanted := os.Getenv(sitesVariable); wanted != "" {
		sites = slices.DeleteFunc(sites, func(s *site) bool { return !slices.Contains(strings.Split(wanted, ","), s.name) })
	}
	code := m.Run()
	if code != 0 {
		fmt.Fprintf(os.Stderr, "The Java process said last:\n%s\n", java.tail())
	}
	results.print(os.Stdout)
	if everything() {
		code = cmp.Or(code, results.compare(os.Stdout))
	}
	return code
}

// everything tells whether this run is of all cases on all sites.
func everything() bool {
	return flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" &&
		os.Getenv(sitesVariable) == ""
}
