package multilock

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/locking"
)

// flatten lists the members of a multi lock: each once, nested multi locks as their
// own members. The error names what is none.
func flatten(kind string, locks []locking.Lock) (members []*engine.Lock, err error) {
	if len(locks) == 0 {
		return nil, fmt.Errorf("holdfast: %s has no members", kind)
	}
	for i, l := range locks {
		var own []*engine.Lock
		switch l := l.(type) {
		case nil:
			return nil, fmt.Errorf("holdfast: member %d of %s is nil", i+1, kind)
		case *engine.Lock:
			if l == nil {
				return nil, fmt.Errorf("holdfast: member %d of %s is nil", i+1, kind)
			}
			if err := l.Impossible(); err != nil {
				return nil, fmt.Errorf("holdfast: member %d of %s, %q: %w", i+1, kind, l.Name(), err)
			}
			own = []*engine.Lock{l}
		case *Multi:
			if l == nil {
				return nil, fmt.Errorf("holdfast: member %d of %s is nil", i+1, kind)
			}
			if l.err != nil {
				return nil, fmt.Errorf("holdfast: member %d of %s: %w", i+1, kind, l.err)
			}
			own = l.given
		case *Red:
			return nil, fmt.Errorf("holdfast: member %d of %s is a RedLock, which cannot be one: acquire it first, by itself, and the others inside of its hold", i+1, kind)
		default:
			return nil, fmt.Errorf("holdfast: member %d of %s, a %T, cannot be one: it must be a lock of this library", i+1, kind, l)
		}
		for _, m := range own {
			if !slices.ContainsFunc(members, m.Same) {
				members = append(members, m)
			}
		}
	}
	return members, sameKey(kind, members)
}

// sameKey refuses a plain and a fair lock of one name: they are one key, and would wait
// for each other.
func sameKey(kind string, members []*engine.Lock) error {
	for i, m := range members {
		for _, other := range members[:i] {
			if m.OneClient(other) && m.Compare(other) == 0 {
				return fmt.Errorf("holdfast: %s has %q twice, as %s and as %s: they are one key, and would wait for each other",
					kind, m.Name(), other.Kind(), m.Kind())
			}
		}
	}
	return nil
}

// quorumMembers checks the members of a quorum lock.
func quorumMembers(locks []locking.Lock) ([]*engine.Lock, error) {
	for i, l := range locks {
		switch l := l.(type) {
		case *Multi:
			return nil, fmt.Errorf("holdfast: member %d of a quorum lock is a multi lock; each member must be one lock on a server of its own", i+1)
		case *engine.Lock:
			for j, other := range locks[:i] {
				if other, ok := other.(*engine.Lock); ok && l != nil && other != nil && l.Same(other) {
					return nil, fmt.Errorf("holdfast: members %d and %d of a quorum lock are the same one, %q; each needs a server of its own", j+1, i+1, l.Name())
				}
			}
		}
	}
	members, err := flatten("a quorum lock", locks)
	if err != nil {
		return nil, err
	}
	for i, m := range members {
		if m.Queues() {
			return nil, fmt.Errorf("holdfast: member %d of a quorum lock, %q, is a fair lock: a turn in one queue is no turn in the others", i+1, m.Name())
		}
		for j, other := range members[:i] {
			if m.OneClient(other) {
				return nil, fmt.Errorf("holdfast: members %d and %d of a quorum lock, %q and %q, are of one client; each needs a server of its own, and so a client of its own",
					j+1, i+1, other.Name(), m.Name())
			}
		}
	}
	if n := len(members); n < 3 || n%2 == 0 {
		return nil, fmt.Errorf("holdfast: a quorum lock needs an odd number of at least 3 members, got %d", n)
	}
	return members, nil
}

// inOrder sorts members into the order in which they are acquired.
func inOrder(members []*engine.Lock) []*engine.Lock {
	sorted := slices.Clone(members)
	slices.SortStableFunc(sorted, func(a, b *engine.Lock) int { return a.Compare(b) })
	return sorted
}

// nameOf names a group by its members; by what was given if that makes no group.
func nameOf(kind string, members []*engine.Lock, given []locking.Lock) string {
	var names []string
	for _, m := range members {
		names = append(names, m.Name())
	}
	if members == nil {
		for _, l := range given {
			names = append(names, givenName(l))
		}
	}
	return kind + "(" + strings.Join(names, ", ") + ")"
}

// givenName is the name of anything that was given for a member, if it has one.
func givenName(l locking.Lock) string {
	switch l := l.(type) {
	case *engine.Lock:
		if l != nil {
			return l.Name()
		}
	case *Multi:
		if l != nil {
			return l.Name()
		}
	case *Red:
		if l != nil {
			return l.Name()
		}
	}
	return "?"
}
