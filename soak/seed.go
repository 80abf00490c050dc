package main

import (
	"hash/fnv"
	"math/rand/v2"
)

// stream is the random stream of this name: each part of a run has one of its own, so
// that no part's draws depend on another's.
func stream(seed uint64, name string) *rand.Rand {
	return rand.New(rand.NewPCG(seed, streamID(name)))
}

func streamID(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64()
}
