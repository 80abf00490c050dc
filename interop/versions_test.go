package interop

import (
	"fmt"
	"strings"
	"testing"
)

// otherVersions of Redisson are tried too; scripts/interop.sh fetches them.
var otherVersions = []string{"4.0.0", "3.52.0"}

// versionCases are few: what is on the wire, and who is told.
var versionCases = []testCase{
	{"exclusion", "", exclusion},
	{"counts", "lock fair", counts},
	{"force unlock", "lock fair", forceUnlock},
	{"a foreign unlock is refused", "", foreignUnlock},
	{"names", "lock fair", names},
	{"many waiters", "", manyWaiters},
	{"queue: served in order", "fair", servedInOrder},
}

func TestOtherVersions(t *testing.T) {
	for _, version := range otherVersions {
		older, err := startAgent(version)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(older.close)
		if got, err := older.redisson(); err != nil || got != version {
			t.Fatalf("got Redisson %q, %v, want %s", got, err, version)
		}
		for _, s := range []*site{sites[0], sites[len(sites)-1]} {
			p, err := openRemote(older, "Java", s, settings{})
			if err != nil {
				t.Fatal(err)
			}
			runVersion(t, version, s, p)
		}
	}
}

func runVersion(t *testing.T, version string, s *site, p party) {
	for _, k := range kinds {
		for _, c := range versionCases {
			if !k.in(c.kinds) {
				continue
			}
			for _, first := range []string{"Go", "Java"} {
				t.Run(version+"/"+caseName(s, k, c.name, first), func(t *testing.T) {
					t.Parallel()
					defer func() { results.version(version, k.name, s, !t.Failed()) }()
					b := newBout(t, s, k, version+" "+c.name)
					if b.first, b.second = p, s.party(t, "Go", settings{}); first == "Go" {
						b.first, b.second = b.second, b.first
					}
					c.run(b)
				})
			}
		}
	}
}

// version counts a case of another version of Redisson.
func (t *tally) version(version, kind string, s *site, passed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.versions == nil {
		t.versions = map[string]cell{}
	}
	key := fmt.Sprintf("| %s | %s | %s |", version, kind, s.name)
	c := t.versions[key]
	if passed {
		c.passed++
	} else {
		c.failed++
	}
	t.versions[key] = c
}

// versionTable has a row for each version, kind and site; the main version is the
// other table.
func (t *tally) versionTable() string {
	lines := []string{"| Redisson | kind | servers | |", "|---|---|---|---|"}
	for _, version := range otherVersions {
		for _, k := range kinds {
			for _, s := range sites {
				key := fmt.Sprintf("| %s | %s | %s |", version, k.name, s.name)
				if c, ok := t.versions[key]; ok {
					lines = append(lines, fmt.Sprintf("%s %s |", key, c))
				}
			}
		}
	}
	return strings.Join(lines, "\n") + "\n"
}
