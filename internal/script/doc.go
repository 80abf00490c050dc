// Package script is the one place through which every script goes to Redis.
//
// # One program, many operations
//
// Each .lua file is a plain Redis script of one verb: "redis-cli --eval" runs it as it
// is. NewProgram makes one program of all of them: the text of each file becomes a
// branch of one Lua function, which is told where in the KEYS and ARGV of the call the
// operation's own begin, and dispatch.lua runs a list of operations with it, each under pcall,
// so that the error of one operation is its own answer and touches no other. A single
// operation uses the same program, so there is one script for Redis to know.
//
// What is around a command in Lua takes Redis longer than the command. So a verb may have others that do
// several of its operations in one go, see Verb: for the members of a multi lock, and for the releases of many callers.
//
// # Lanes
//
// A Sender keeps a few lanes to each server, and a queue before them. An operation summons a free
// lane, unless one is coming already, and that one departs at once with all that waits by then, up to 128, in one
// EVALSHA. While all lanes are out, the queue grows, and the next one that comes back takes it. So calls grow
// with the load, and nobody waits for a batch to fill.
//
//	free lane           all lanes out             a lane comes back
//	op -> EVALSHA(op)   op, op, op -> queue       EVALSHA(op, op, op)
//
// A lane that has others at work beside it first yields its processor to goroutines that can
// run. Many of them have just been answered together and are about to ask for more; they then share a call,
// where each would have taken the next free lane by itself. A caller alone is mostly spared that.
//
// A lane's goroutine stays for the next operation until Close: a new one would have to grow its
// stack again.
//
// Callers wait on a channel, never on a socket: Call.Done beside their ctx. A
// lane that has been out for long no longer counts, so that one hanging
// connection does not stop the others.
//
// On a cluster the lanes are kept for each node, and a call is a pipeline with one
// EVALSHA a slot. A plain client may talk to a cluster through a proxy: from the
// first CROSSSLOT answer on (nothing was executed) it splits by slot too. An All of
// several slots is refused then with ErrSplit, and asked for in parts.
//
// # What is never done
//
// A command that may have been executed is never sent again from here: commands
// carry NoRetry, which go-redis honours. Only NOSCRIPT (send the text instead),
// CROSSSLOT and the TRYAGAIN or NOPERM of a call with several operations (send them one by one)
// are answered here, because Redis executed nothing. Everything else is for the
// caller, operation by operation; ClassOf tells what an error means.
package script
