// Package redistest runs real Redis servers for tests: a single one, a cluster,
// or a master with replicas and three sentinels. Each server is a process of
// its own on a free port of 127.0.0.1 with a directory of its own, so tests may
// run in parallel.
//
// The binary is redis-server from PATH, or the one that the environment
// variable HOLDFAST_REDIS_SERVER names. Without one a test fails and says what
// to install; it is never skipped.
//
// StartWithClock starts a single server whose clock can be set.
//
// Each Start… function belongs to a test: it fails the test when the servers do
// not come up, and stops them when the test ends. Most have a Launch… beside them
// for programs without a test, which return an error and leave Close to the
// caller.
//
// # How a server ends
//
// Close kills it and removes its directory. If the program that started it
// dies first, even by SIGKILL, the kernel kills the server (Pdeathsig). Linux
// ties that to the thread that forked, not to the process, and the Go runtime
// ends threads as it likes; therefore each server is forked by a goroutine that
// is locked to its thread and stays there, waiting, until the server has ended.
//
// # Ports
//
// A server's port stays its own from start to Close, also while the server is
// down: a dial is refused then, and Restart finds it free (see package loopback).
package redistest
