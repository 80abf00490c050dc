package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// An observer is a hook in a worker's Redis client. It notes each operation of each
// script that is sent, and what became of it.
type observer struct {
	record *recorder
	worker string
	mortal bool // the process may be killed: note operations before they are sent, too
}

var _ redis.Hook = (*observer)(nil)

func (o *observer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (o *observer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		ops := o.sent(cmd)
		err := next(ctx, cmd)
		o.answered(ops, cmd, err)
		return err
	}
}

func (o *observer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		ops := make([][]event, len(cmds))
		for i, cmd := range cmds {
			ops[i] = o.sent(cmd)
		}
		err := next(ctx, cmds)
		for i, cmd := range cmds {
			o.answered(ops[i], cmd, cmd.Err())
		}
		return err
	}
}

// sent reads the operations out of a command that is about to go out.
func (o *observer) sent(cmd redis.Cmder) []event {
	ops := operations(words(cmd.Args()))
	call := now()
	for i := range ops {
		ops[i].Kind, ops[i].Call, ops[i].Worker = kindOp, call, o.worker
		if o.mortal && ops[i].Lock != "" {
			e := ops[i]
			e.Kind = kindSent
			o.record.note(e)
		}
	}
	return ops
}

// answered notes what became of the operations. What was certainly not executed
// is left out, as if it had never been.
func (o *observer) answered(ops []event, cmd redis.Cmder, err error) {
	at := now()
	var answers []any
	if value, ok := cmd.(interface{ Val() any }); ok && err == nil {
		args := cmd.Args()
		answers = answersOf(value.Val(), len(args) > 0 && args[len(args)-1] == "")
	}
	for _, op := range ops {
		if op.Lock == "" {
			continue
		}
		op.Time = at
		switch i := op.nth; {
		case err != nil:
			op.Unknown, op.Err = !notExecuted(err), err.Error()
		case i >= len(answers):
			op.Unknown, op.Err = true, fmt.Sprintf("only %d answers", len(answers))
		case op.share > 0:
			op.Answer, op.Err = shareOf(answers[i], op.share)
		default:
			op.Answer, op.Err = answer(answers[i])
		}
		o.record.note(op)
	}
}

// answersOf are the answers in a reply, which is one operation's own unless it is that to a list.
func answersOf(reply any, list bool) []any {
	if !list {
		return []any{reply}
	}
	answers, _ := reply.([]any)
	return answers
}

// answer reads one operation's answer: numbers, of which {1, n} is written as n; or the text of its own error.
func answer(reply any) (numbers []int64, text string) {
	if n, ok := reply.(int64); ok {
		return []int64{1, n}, ""
	}
	list, ok := reply.([]any)
	if !ok {
		return nil, fmt.Sprint(reply)
	}
	for _, item := range list {
		if n, ok := item.(int64); ok {
			numbers = append(numbers, n)
		}
	}
	return numbers, ""
}

// shareOf reads one operation's part of the answer to several that are done in one:
// n, the same answer for each; {0, answer, …}; or, all or nothing, {which one was not possible, its answer}. One that was taken back
// within the same script was never there.
func shareOf(reply any, share int) ([]int64, string) {
	if n, ok := reply.(int64); ok {
		return answer(n)
	}
	list, ok := reply.([]any)
	if !ok || len(list) == 0 {
		return nil, fmt.Sprint(reply)
	}
	switch failed, _ := list[0].(int64); {
	case failed == 0 && share < len(list):
		return answer(list[share])
	case int(failed) == share && len(list) > 1:
		return answer(list[1])
	}
	return nil, "taken back"
}

// notExecuted tells whether an error means that the server executed nothing: it said
// no, or never heard of the command.
func notExecuted(err error) bool {
	if redis.HasErrorPrefix(err, "MOVED") || redis.HasErrorPrefix(err, "ASK") {
		return false // the client has followed it, and nobody knows how far
	}
	var reply redis.Error
	var dial *net.OpError
	return errors.As(err, &reply) || errors.As(err, &dial) && dial.Op == "dial" ||
		errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted)
}

func words(args []any) []string {
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = fmt.Sprint(arg)
	}
	return words
}

// operations reads the operations out of the words of a command, as
// internal/script/dispatch.lua does. Those that this program does not model have no
// Lock.
func operations(words []string) []event {
	if len(words) < 4 || !strings.HasPrefix(strings.ToLower(words[0]), "eval") {
		return nil
	}
	nkeys, err := strconv.Atoi(words[2])
	if err != nil || len(words) < 4+nkeys {
		return nil
	}
	keys, args := words[3:3+nkeys], words[3+nkeys:]
	last := len(args) - 1
	if args[last] != "" {
		return expand(0, args[last], keys, args[:last])
	}
	var ops []event
	nth := 0
	for args = args[:last]; len(args) >= 3; {
		k, err1 := strconv.Atoi(args[1])
		n, err2 := strconv.Atoi(args[2])
		if err1 != nil || err2 != nil || k > len(keys) || 3+n > len(args) {
			return nil
		}
		ops = append(ops, expand(nth, args[0], keys[:k], args[3:3+n])...)
		keys, args = keys[k:], args[3+n:]
		nth++
	}
	return ops
}

// several are the verbs that do several operations of another one, and how many arguments each of these has.
var several = map[string]struct {
	of   string
	args int
}{
	"rlock.acquire_all":  {"rlock.acquire", 3},
	"rlock.release_each": {"rlock.release", 4},
}

// expand reads an operation, or those that are done in one, out of its words.
func expand(nth int, verb string, keys, args []string) (ops []event) {
	if s, ok := several[verb]; ok {
		for i := 0; i < len(keys) && 1+(i+1)*s.args <= len(args); i++ {
			e := operation(s.of, keys[i:i+1], args[1+i*s.args:1+(i+1)*s.args])
			e.nth, e.share = nth, i+1
			ops = append(ops, e)
		}
		return ops
	}
	if verb != "all" {
		e := operation(verb, keys, args)
		e.nth = nth
		return []event{e}
	}
	for share := 1; len(args) >= 4; share++ {
		nkeys, err1 := strconv.Atoi(args[2])
		ndo, err2 := strconv.Atoi(args[3])
		if err1 != nil || err2 != nil || nkeys > len(keys) || 4+ndo > len(args) {
			return ops
		}
		e := operation(args[0], keys[:nkeys], args[4:4+ndo])
		e.nth, e.share = nth, share
		ops = append(ops, e)
		keys, args = keys[nkeys:], args[4+ndo:]
	}
	return ops
}

func operation(verb string, keys, args []string) event {
	number := func(i int) int64 { n, _ := strconv.ParseInt(args[i], 10, 64); return n }
	e := event{Verb: verb}
	switch {
	case verb == "rlock.acquire" && len(args) == 3:
		e.Lock, e.Lease, e.Owner, e.Count = keys[0], number(0)*ms, args[1], int(number(2))
	case verb == "rlock.renew" && len(args) == 2:
		e.Lock, e.Lease, e.Owner = keys[0], number(0)*ms, args[1]
	case verb == "rlock.release" && len(args) == 4:
		e.Lock, e.Owner, e.Count = keys[0], args[0], int(number(1))
	case verb == "fairlock.acquire" && len(args) == 8:
		e.Lock, e.Lease, e.Owner = keys[0], number(3)*ms, args[0]
	case verb == "fairlock.release" && len(args) == 3:
		e.Lock, e.Owner = keys[0], args[0]
	case verb == "rlock.force":
		e.Lock = keys[0]
	}
	return e
}
