package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// An output shows the show.
type output interface {
	act(number, title, text string)
	line(at time.Duration, text string)
	draw(view)
	close()
}

// newOutput is a screen on a terminal and plain lines elsewhere.
func newOutput(f demoFlags, stdout *os.File) output {
	if f.plain || !term.IsTerminal(int(stdout.Fd())) || os.Getenv("TERM") == "dumb" {
		return &plain{stdout}
	}
	s := &screen{
		out:    stdout,
		colour: os.Getenv("NO_COLOR") == "",
		size: func() (int, int) {
			width, height, err := term.GetSize(int(stdout.Fd()))
			if err != nil || width < 1 || height < 1 {
				return 80, 24
			}
			return width, height
		},
	}
	s.open()
	return s
}

// A plain output writes one line for each thing that happens.
type plain struct{ out io.Writer }

func (p *plain) act(number, title, text string) {
	fmt.Fprintf(p.out, "\nact %s: %s (%s)\n", number, title, text)
}

func (p *plain) line(at time.Duration, text string) { fmt.Fprintln(p.out, stamped(at, text)) }
func (p *plain) draw(view)                          {}
func (p *plain) close()                             { fmt.Fprintln(p.out) }

func stamped(at time.Duration, text string) string {
	return fmt.Sprintf("%7.3f  %s", at.Seconds(), text)
}

// A style is an ANSI colour or the like; the parameter of SGR.
type style string

const (
	plainText style = ""
	bold      style = "1"
	dim       style = "2"
	red       style = "31"
	green     style = "32"
	yellow    style = "33"
)

// A screen draws frame over frame on the terminal's alternate screen, so that nothing
// of what was there before is touched.
type screen struct {
	out    io.Writer
	colour bool
	size   func() (width, height int)
	log    []string
}

const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the alternate screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	beginFrame  = "\x1b[?2026h\x1b[H" // where it is known, shown at once at its end
	endFrame    = "\x1b[J\x1b[?2026l" // nothing below the last line
	endLine     = "\x1b[K"
)

func (s *screen) open()  { _, _ = io.WriteString(s.out, enterScreen) }
func (s *screen) close() { _, _ = io.WriteString(s.out, leaveScreen) }

func (s *screen) act(number, title, _ string) {
	s.log = append(s.log, fmt.Sprintf("act %s: %s", number, title))
}

func (s *screen) line(at time.Duration, text string) { s.log = append(s.log, stamped(at, text)) }

// draw writes one frame with a single write.
func (s *screen) draw(v view) {
	width, height := s.size()
	v.log = s.log
	_, _ = io.WriteString(s.out, frame(render(v, width, height), s.colour))
}

// frame is what the terminal is sent for these lines. Each is cleared behind its end,
// and nothing is cleared before it is written over, so nothing flickers.
func frame(lines [][]span, colour bool) string {
	var b strings.Builder
	b.WriteString(beginFrame)
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		for _, s := range line {
			b.WriteString(paint(s, colour))
		}
		b.WriteString(endLine)
	}
	b.WriteString(endFrame)
	return b.String()
}

func paint(s span, colour bool) string {
	if !colour || s.style == plainText {
		return s.text
	}
	return "\x1b[" + string(s.style) + "m" + s.text + "\x1b[0m"
}
