package main

import (
	"fmt"
	"strings"
	"time"
)

// A view is all that one frame shows.
type view struct {
	lock    string // "fair lock \"orders\""
	server  string
	elapsed time.Duration
	act     string // "2 of 5  a long job"
	text    string
	holder  string // empty: the lock is free
	owner   string
	ttl     time.Duration
	lease   time.Duration
	rows    []row
	numbers string
	overlap bool
	log     []string
}

// A row is one worker.
type row struct {
	name     string
	pid      int
	doing    string
	style    style
	acquired int
}

// view looks at the stage as it is now.
func (s *stage) view(now time.Time) view {
	v := view{
		lock: titleOf(s.kind), server: s.server.label, elapsed: now.Sub(s.began),
		text: s.act.text, lease: s.lease, overlap: s.sums.overlaps > 0,
	}
	if s.number > 0 {
		v.act = fmt.Sprintf("%d of %d  %s", s.number, len(s.acts), s.act.title)
	}
	if holder := s.holder(s.now.owner); holder != nil {
		v.holder, v.owner = holder.worker, holder.owner
		v.ttl = max(0, s.now.ttl-now.Sub(s.now.sent))
	}
	for _, a := range s.actors {
		doing, look := a.describe(now)
		v.rows = append(v.rows, row{a.name, a.cmd.Process.Pid, doing, look, a.acquired})
	}
	v.numbers = fmt.Sprintf("hand-offs %s   overlaps %d", measured(durations(s.book.handoffs()), "   "), s.sums.overlaps)
	return v
}

// describe tells what a worker is doing, and how that looks.
func (a *actor) describe(now time.Time) (string, style) {
	since := seconds(max(0, now.Sub(a.from)))
	switch {
	case a.doing == holds && a.visit.forced:
		return "FORCED OUT  not told yet", red
	case a.doing == holds:
		return "HOLDS   " + since, green
	case a.doing == waits:
		return "waits   " + since, yellow
	case a.doing == lost:
		return "lost its hold, stops", red
	case a.doing == died:
		return "killed  " + since + " ago", red
	case a.doing == "":
		return "starts", dim
	}
	return "idle", dim
}

// A span is a piece of a line in one style.
type span struct {
	style style
	text  string
}

// render lays a view out in lines of at most width columns and at most height lines;
// the log gets what is left.
func render(v view, width, height int) [][]span {
	lines := [][]span{
		{{bold, "holdfast demo"}, {plainText, fmt.Sprintf("   %s   %d processes   ", v.lock, len(v.rows))},
			{dim, v.server}, {plainText, fmt.Sprintf("   %.1f s", v.elapsed.Seconds())}},
		{{bold, "act " + v.act}, {dim, "   " + v.text}},
		{},
		lockLine(v),
		{},
	}
	for _, r := range v.rows {
		lines = append(lines, []span{
			{plainText, fmt.Sprintf("  %-10s", r.name)}, {dim, fmt.Sprintf("pid %-8d", r.pid)},
			{r.style, fmt.Sprintf("%-26s", r.doing)}, {dim, fmt.Sprintf("%5d times", r.acquired)},
		})
	}
	look := plainText
	if v.overlap {
		look = red
	}
	lines = append(lines, nil, []span{{look, v.numbers}}, nil)
	log := v.log[max(0, len(v.log)-max(0, height-len(lines))):]
	for _, text := range log {
		lines = append(lines, []span{{plainText, text}})
	}
	lines = lines[:min(len(lines), height)]
	for i := range lines {
		lines[i] = clip(lines[i], width)
	}
	return lines
}

func lockLine(v view) []span {
	if v.holder == "" {
		return []span{{dim, "free"}}
	}
	const length = 20
	full := int(length * min(v.ttl, v.lease) / max(v.lease, 1))
	return []span{
		{green, "held by " + v.holder},
		{plainText, "   lease "}, {green, strings.Repeat("=", full)}, {dim, strings.Repeat(".", length-full)},
		{plainText, fmt.Sprintf(" %s left of %s", seconds(v.ttl), seconds(v.lease))},
		{dim, "   owner " + short(v.owner)},
	}
}

// short leaves the end of an owner: of the client's UUID, and its number.
func short(owner string) string {
	client, number, _ := strings.Cut(owner, ":")
	return "..." + client[max(0, len(client)-8):] + ":" + number
}

// clip cuts a line to so many columns. All that is shown has one column a rune.
func clip(line []span, width int) (out []span) {
	for _, s := range line {
		text := []rune(s.text)
		text = text[:min(len(text), width)]
		width -= len(text)
		if len(text) > 0 {
			out = append(out, span{s.style, string(text)})
		}
	}
	return out
}
