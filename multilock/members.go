package multilock

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-go/holdfast/internal/engine"
	"github.com/holdfast-go/holdfast/locking"
)

// flatten lists what a group is made of: each member once, nested multi locks as their
// own members. The error names what cannot be one.
func flatten(kind string, locks []locking.Lock) (parts []locking.Lock, err error) {
	if len(locks) == 0 {
		return nil, fmt.Errorf("holdfast: %s has no members", kind)
	}
	for i, l := range locks {
		own, err := unfold(l)
		if err != nil {
			return nil, fmt.Errorf("holdfast: member %d of %s%w", i+1, kind, err)
		}
		for _, m := range own {
			if !slices.ContainsFunc(parts, func(p locking.Lock) bool { return same(p, m) }) {
				parts = append(parts, m)
			}
		}
	}
	return parts, sameKey(kind, parts)
}

// unfold is a lock itself, or what a multi lock is made of. The error goes on from the lock's number.
func unfold(l locking.Lock) ([]locking.Lock, error) {
	var err error
	switch l := l.(type) {
	case *engine.Lock:
		if l == nil {
			return nil, errors.New(" is nil")
		}
		if err := l.Impossible(); err != nil {
			return nil, fmt.Errorf(", %q: %w", l.Name(), err)
		}
	case *Red:
		if l == nil {
			return nil, errors.New(" is nil")
		}
		err = l.err
	case *Multi:
		if l == nil {
			return nil, errors.New(" is nil")
		}
		if l.err == nil {
			return l.parts, nil
		}
		err = l.err
	case nil:
		return nil, errors.New(" is nil")
	default:
		return nil, fmt.Errorf(", a %T, cannot be one: it must be a lock of this library", l)
	}
	if err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	return []locking.Lock{l}, nil
}

// same tells whether two parts are the same lock.
func same(p, q locking.Lock) bool {
	ps, qs := locksOf(p), locksOf(q)
	_, pRed := p.(*Red)
	_, qRed := q.(*Red)
	return pRed == qRed && sameMembers(ps, qs)
}

func sameMembers(ps, qs []*engine.Lock) bool {
	return len(ps) == len(qs) && !slices.ContainsFunc(ps, func(m *engine.Lock) bool { return !slices.ContainsFunc(qs, m.Same) })
}

// locksOf are the locks of a part: itself, or a quorum lock's members.
func locksOf(part locking.Lock) []*engine.Lock {
	switch l := part.(type) {
	case *engine.Lock:
		return []*engine.Lock{l}
	case *Red:
		return l.given
	}
	return nil
}

// named says which part an error is about.
func named(part locking.Lock, err error) error {
	switch l := part.(type) {
	case *engine.Lock:
		return l.MemberError(err)
	case *Red:
		return l.memberError(err)
	}
	return err
}

// split sorts the parts of a multi lock into plain or fair locks and quorum locks.
func split(parts []locking.Lock) (single []*engine.Lock, quorums []*Red) {
	for _, part := range parts {
		switch l := part.(type) {
		case *engine.Lock:
			single = append(single, l)
		case *Red:
			quorums = append(quorums, l)
		}
	}
	return single, quorums
}

// sameKey refuses two parts that have one key: a plain and a fair lock of one name, or a lock that is
// a member of a quorum lock too. They would wait for each other.
func sameKey(kind string, parts []locking.Lock) error {
	for i, p := range parts {
		for _, q := range parts[:i] {
			for _, m := range locksOf(p) {
				for _, other := range locksOf(q) {
					if m.OneClient(other) && m.Compare(other) == 0 {
						return fmt.Errorf("holdfast: %s has %q twice, as %s and as %s: they are one key, and would wait for each other",
							kind, m.Name(), kindOf(q), kindOf(p))
					}
				}
			}
		}
	}
	return nil
}

func kindOf(part locking.Lock) string {
	if l, ok := part.(*engine.Lock); ok {
		return l.Kind()
	}
	return "a member of " + part.Name()
}

// quorumMembers checks the members of a quorum lock.
func quorumMembers(locks []locking.Lock) ([]*engine.Lock, error) {
	for i, l := range locks {
		switch l := l.(type) {
		case *Multi:
			return nil, fmt.Errorf("holdfast: member %d of a quorum lock is a multi lock; each member must be one lock on a server of its own", i+1)
		case *Red:
			return nil, fmt.Errorf("holdfast: member %d of a quorum lock is a RedLock; each member must be one lock on a server of its own", i+1)
		case *engine.Lock:
			for j, other := range locks[:i] {
				if other, ok := other.(*engine.Lock); ok && l != nil && other != nil && l.Same(other) {
					return nil, fmt.Errorf("holdfast: members %d and %d of a quorum lock are the same one, %q; each needs a server of its own", j+1, i+1, l.Name())
				}
			}
		}
	}
	parts, err := flatten("a quorum lock", locks)
	if err != nil {
		return nil, err
	}
	members, _ := split(parts)
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

// nameOf names a group by its parts; by what was given if that makes no group.
func nameOf(kind string, parts, given []locking.Lock) string {
	if parts == nil {
		parts = given
	}
	names := make([]string, len(parts))
	for i, l := range parts {
		names[i] = givenName(l)
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
