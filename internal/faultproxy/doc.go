// Package faultproxy stands between a Redis client and its server and spoils
// the link: it lets a command be executed and loses the reply, never forwards
// one, holds one back, resets the connection, or falls silent.
//
// It knows where a command and a reply begin and end, in RESP2 and RESP3, and
// which reply belongs to which command, also in pipelines and beside push
// messages. So a fault hits the third EVALSHA and nothing else.
//
// # TCP has no holes
//
// A network loses whole connections, never a reply out of the middle of one.
// Therefore a connection that has lost a reply delivers no later one either, for
// the rest of its life, and one that has lost a request no later request: it
// stays established, and a client gets on only through a new one. (Otherwise the
// next reply would pass for the lost one, which no network does.) After
// DropReply later requests still reach the server; after a black hole nothing
// passes either way.
//
// # Seeds
//
// A random fault depends on the seed, the command's name and its number among
// the commands of that name, and not on time: the n-th EVALSHA meets the same
// fate in every run.
//
// # Limits
//
// After MONITOR, SYNC and PSYNC what the server sends is passed on unread.
// CLIENT REPLY OFF and SKIP, which make a server not answer, are not understood.
package faultproxy
