package main

import "runtime"

// settledMemory is what is in use once the garbage is gone. What a finalizer or a
// pool keeps alive takes a second collection.
func settledMemory() runtime.MemStats {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m
}
