package main

import (
	"cmp"
	"slices"
)

// A span is a stretch of time, from and to in nanoseconds of now().
type span struct{ from, to int64 }

// merged sorts spans and joins those that touch.
func merged(spans []span) []span {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out []span
	for _, s := range spans {
		if last := len(out) - 1; last >= 0 && s.from <= out[last].to {
			out[last].to = max(out[last].to, s.to)
		} else if s.to > s.from {
			out = append(out, s)
		}
	}
	return out
}

// minus is what of s lies in none of the merged spans.
func minus(s span, spans []span) (rest []span) {
	i, _ := slices.BinarySearchFunc(spans, s.from, func(o span, at int64) int { return cmp.Compare(o.to, at) })
	at := s.from
	for ; i < len(spans) && spans[i].from < s.to; i++ {
		if spans[i].from > at {
			rest = append(rest, span{at, spans[i].from})
		}
		at = max(at, spans[i].to)
	}
	if at < s.to {
		rest = append(rest, span{at, s.to})
	}
	return rest
}
