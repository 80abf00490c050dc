package faultproxy

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// readCommand reads one request: an array of bulk strings, or a line of words
// as a person at a terminal sends it. Raw is what to forward.
func readCommand(r *bufio.Reader) (words []string, raw []byte, err error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, nil, err
	}
	if line[0] != '*' {
		return strings.Fields(string(line)), line, nil
	}
	n, err := length(line)
	if err != nil {
		return nil, nil, err
	}
	raw = line
	for range n {
		start := len(raw)
		if raw, err = appendFrame(raw, r); err != nil {
			return nil, nil, err
		}
		words = append(words, bulk(raw[start:]))
	}
	return words, raw, nil
}

// readReply reads one reply or push message, with the attributes before it.
func readReply(r *bufio.Reader) ([]byte, error) { return appendFrame(nil, r) }

// appendFrame reads one whole RESP value, nested ones and all.
// https://redis.io/docs/latest/develop/reference/protocol-spec/
func appendFrame(raw []byte, r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	raw = append(raw, line...)
	parts := 0
	switch line[0] {
	case '+', '-', ':', '_', ',', '#', '(', '\n':
		return raw, nil
	case '$', '=', '!':
		return appendBulk(raw, line, r)
	case '*', '~', '>':
		parts, err = length(line)
	case '%':
		parts, err = length(line)
		parts *= 2
	case '|': // attributes: pairs, and then the value that they describe
		parts, err = length(line)
		parts = 2*parts + 1
	default:
		err = fmt.Errorf("faultproxy: not RESP: %q", line)
	}
	for ; err == nil && parts > 0; parts-- {
		raw, err = appendFrame(raw, r)
	}
	return raw, err
}

// appendBulk reads a string of counted bytes; -1 is RESP2's null.
func appendBulk(raw, header []byte, r *bufio.Reader) ([]byte, error) {
	n, err := length(header)
	if err != nil || n < 0 {
		return raw, err
	}
	start := len(raw)
	raw = append(raw, make([]byte, n+2)...)
	_, err = io.ReadFull(r, raw[start:])
	return raw, err
}

// length is the number in a header such as "*3\r\n".
func length(header []byte) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(string(header[1:])))
	if err != nil || n < -1 {
		return 0, fmt.Errorf("faultproxy: not a RESP length: %q", header)
	}
	return n, nil
}

// bulk is the text in "$3\r\nfoo\r\n".
func bulk(frame []byte) string {
	_, text, _ := strings.Cut(string(frame), "\r\n")
	return strings.TrimSuffix(text, "\r\n")
}

// pushKind is the first word of a push message, or of an array, which is how
// RESP2 sends messages to a connection that has subscribed: "message",
// "subscribe", … It is empty for any other reply.
func pushKind(frame []byte, subscribed bool) (kind string, push bool) {
	switch frame[0] {
	case '>':
		push = true
	case '*':
		if !subscribed {
			return "", false
		}
	default:
		return "", false
	}
	header, rest, _ := strings.Cut(string(frame[:min(len(frame), 64)]), "\r\n")
	if header == "*0" || header == "*-1" || !strings.HasPrefix(rest, "$") {
		return "", push
	}
	_, text, _ := strings.Cut(rest, "\r\n")
	text, _, _ = strings.Cut(text, "\r\n")
	switch kind = strings.ToLower(text); kind {
	case "message", "pmessage", "smessage":
		return kind, true
	case "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe":
		return kind, true
	}
	return "", push
}
