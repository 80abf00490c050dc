// Package interop proves that holdfast and a live Redisson share locks: its tests
// drive Go clients of the library and Java clients of Redisson side by side on the
// same servers. "make interop" builds what they need and runs them; there is
// nothing in it for a program to import.
//
// # The two sides
//
// A party is one client, a *holdfast.Client or a RedissonClient; an actor is one
// owner of a party: on the Go side a caller that passes its hold's context on, on
// the Java side a thread. Cases are written for two parties without saying which is
// which, and run both ways round: Go holds and Java comes second, then the reverse.
//
// The Java side is one process for all cases, the agent in agent/. It takes requests
// as lines of JSON and runs each on the thread that it names. Peers that are to be
// killed, and those with a wrong clock or another version of Redisson, are
// processes of their own.
//
// # The sites
//
// A site is where the locks are: a single Redis 7.0 or whatever redis-server is on
// the path, a single Redis 8.2, and a cluster of three masters with a replica each.
//
// # What fails, fails here
//
// The last test builds these tests with a library that differs from Redisson in one
// small thing, and demands that they fail: a case that cannot fail proves nothing.
package interop
