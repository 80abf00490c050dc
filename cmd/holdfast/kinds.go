package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-go/holdfast"
)

// The kinds of lock that there are shows of.
const (
	plainKind = "rlock"
	fairKind  = "fair"
	multiKind = "multi"
	redKind   = "red"
)

var kinds = []string{plainKind, fairKind, multiKind, redKind}

// groupNames are what a multi lock takes two or three of: any two such sets have a name
// in common, so no two workers may be inside at once.
var groupNames = []string{lockName, "stock", "invoices"}

// namesOf are the names that are locked in a show of that kind.
func namesOf(kind string) []string {
	if kind == multiKind {
		return groupNames
	}
	return []string{lockName}
}

// titleOf is what the lock of that kind is called on the screen.
func titleOf(kind string) string {
	switch kind {
	case fairKind:
		return fmt.Sprintf("fair lock %q", lockName)
	case multiKind:
		return fmt.Sprintf("multi lock of %q", groupNames)
	case redKind:
		return fmt.Sprintf("quorum lock %q", lockName)
	}
	return fmt.Sprintf("lock %q", lockName)
}

// holderOf is what all members of one hold have in common: the owner of a lock with one
// name, and the client of one with several members, each of which has an owner of its own.
func holderOf(kind, owner string) string {
	if kind == multiKind || kind == redKind {
		owner, _, _ = strings.Cut(owner, ":")
	}
	return owner
}

// A locks is what one process locks with: a client for each server, and their Redis
// clients.
type locks struct {
	kind    string
	clients []*holdfast.Client
	rdbs    []redisClient
}

// openLocks dials what the brief says; nothing is sent yet.
func openLocks(b brief) (*locks, error) {
	l := &locks{kind: b.Kind}
	options := []holdfast.Option{
		holdfast.WithWatchdogTimeout(b.Lease),
		holdfast.WithNameMapper(func(name string) string { return b.Prefix + name }),
		holdfast.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))), // the parent shows it if this worker fails
	}
	if b.Kind == redKind {
		options = append(options, holdfast.WithClientID("demo-"+uuid.NewString())) // one, of one client on each server
	}
	for _, url := range b.servers() {
		rdb, err := dial(url, b.Cluster)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.rdbs = append(l.rdbs, rdb)
		client, err := holdfast.New(rdb, options...)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.clients = append(l.clients, client)
	}
	return l, nil
}

// one is the lock of one visit: of a multi lock, two or three names in any order.
func (l *locks) one() holdfast.Lock {
	if l.kind != multiKind {
		return l.all()
	}
	names := slices.Clone(groupNames)
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return l.group(names[:2+rand.IntN(2)])
}

// all is everything that is locked in the show.
func (l *locks) all() holdfast.Lock {
	first := l.clients[0]
	switch l.kind {
	case fairKind:
		return first.FairLock(lockName)
	case multiKind:
		return l.group(groupNames)
	case redKind:
		var members []holdfast.Lock
		for _, c := range l.clients {
			members = append(members, c.RLock(lockName))
		}
		return first.RedLock(members...)
	}
	return first.RLock(lockName)
}

func (l *locks) group(names []string) holdfast.Lock {
	var members []holdfast.Lock
	for _, name := range names {
		members = append(members, l.clients[0].RLock(name))
	}
	return l.clients[0].MultiLock(members...)
}

// close closes all, at once: a server that is gone makes its client take a while.
func (l *locks) close() error {
	errs := make(chan error)
	for _, c := range l.clients {
		go func() { errs <- c.Close() }() // ends within the few seconds that Close takes
	}
	var err error
	for range l.clients {
		err = errors.Join(err, <-errs)
	}
	for _, rdb := range l.rdbs {
		err = errors.Join(err, rdb.Close())
	}
	return err
}
