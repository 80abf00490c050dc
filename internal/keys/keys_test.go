package keys

import (
	"strings"
	"testing"
)

// The slots are what CLUSTER KEYSLOT of a Redis 7.0 answers.
func TestSlotIsRedisSlot(t *testing.T) {
	for key, want := range map[string]int{
		"":                     0,
		"123456789":            12739,
		"foo":                  12182,
		"{user1000}.following": 3443,
		"{user1000}.followers": 3443,
		"foo{}{bar}":           8363,
		"foo{{bar}}zap":        4015,
		"foo{bar}{zap}":        5061,
	} {
		if got := Slot(key); got != want {
			t.Errorf("Slot(%q): got %d, want %d", key, got, want)
		}
	}
}

func TestCompanionsAreRedissons(t *testing.T) {
	for prefix, companion := range map[string]func(string) string{
		"redisson_lock__channel": Channel, "redisson_lock_queue": Queue, "redisson_lock_timeout": Timeout,
	} {
		for name, want := range map[string]string{
			"order:7":  ":{order:7}",
			"{shop}:7": ":{shop}:7",
			"a{b":      ":a{b",
			"a}b":      ":{a}b}",
			"plain":    ":{plain}",
		} {
			if got := companion(name); got != prefix+want {
				t.Errorf("of %q: got %q, want %q", name, got, prefix+want)
			}
		}
	}
}

// The rows of redisson-wire.md 1.2 and of hazard 0.10.
func TestOneSlotRefusesTheNamesThatRedissonBreaks(t *testing.T) {
	for _, name := range []string{"plain", "a{b}c", "{b}", "a{b}{c}", "}{x}", "{a}}", "naïve name", "{shop}:7"} {
		if !OneSlot(name) {
			t.Errorf("OneSlot(%q): got false, want true", name)
		}
	}
	for _, name := range []string{"a{b", "a}b", "a{}b", "{}", "{}x", "a{", "}", "a{}b{c}"} {
		if OneSlot(name) {
			t.Errorf("OneSlot(%q): got true, want false", name)
		}
	}
}

// Whatever the bytes: a name that OneSlot lets through has no companion elsewhere.
func FuzzOneSlot(f *testing.F) {
	f.Add("a{b}c")
	f.Add("}{")
	f.Fuzz(func(t *testing.T, name string) {
		if !strings.ContainsAny(name, "{}") && !OneSlot(name) && name != "" {
			t.Errorf("OneSlot(%q): got false for a name without braces", name)
		}
		for _, companion := range []func(string) string{Channel, Queue, Timeout} {
			if OneSlot(name) != (Slot(name) == Slot(companion(name))) {
				t.Errorf("OneSlot(%q): got %v, but its key is in slot %d, %s in %d",
					name, OneSlot(name), Slot(name), companion(name), Slot(companion(name)))
			}
		}
	})
}
