// Package pubsub is the subscription manager: it wakes those who wait for a
// channel. One a client, shared by all its locks; it knows no lock kind.
//
// # What it promises
//
// A Subscription's wake-up is sticky: it stays until somebody takes it. There is
// one after every message, after every confirmation by the server (the first one
// and each one after a reconnection, since messages may have been lost before it),
// when Redis refuses the channel for good, and when the manager closes. So whoever
// looks after each wake-up misses nothing that happens while the server is reachable.
// Wake-ups are hints: one too many costs one look.
//
// A server that stops answering is noticed within Config.Silence and replaced, also
// when its connection stays open.
//
// # Why not go-redis's channel
//
// PubSub.Channel only writes its PINGs and never asks for a PONG, so it stays deaf on
// a half-open connection; it tells nothing of reconnections; and after a slot has
// moved a sharded subscription is dead. So the manager reads frames itself.
//
//	Manager   topics by channel; the router decides which server has a channel
//	topic     one channel: its subscriptions, whether the server has confirmed it
//	session   one connection to one server, for the life of one redis.PubSub
//
// # A session
//
// A session is never mended: whatever goes wrong ends it, and its topics are routed
// anew after a short pause, which grows while a server's sessions do not last. Its
// writer writes, its reader reads, and either may be held up by go-redis's mutex. So
// the guard, which touches no network, looks when the last frame came, asks the writer
// for a PING, and ends the session when no answer comes, whatever the other two are
// stuck in. Then it closes the connection.
//
// go-redis would replace a lost connection by itself, under our feet. It is not given
// the means: once the first command is written, the PubSub gets a context that has
// ended, with which it reads and writes but cannot dial.
//
// Replies come in the order of commands. The session keeps what it expects in that
// order, so that an error belongs to the channels of one command: a channel that
// this user may not read fails alone.
//
// # Life of a topic
//
//	wanted -> asked -> confirmed -> (no subscription for Config.Linger) -> gone
//	  ^         |          |
//	  +---------+----------+   session ended, slot moved, channel refused
//
// # Lock order
//
// There is one mutex, Manager.mu. Nothing waits for the network with it held, and
// the user's functions are called without it (see Manager.unlock).
package pubsub
