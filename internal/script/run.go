package script

// A run is one unit, or several in a row whose verb does them in one go (Each).
type run []unit

// runs are the runs of a parcel.
func runs(units []unit) []run {
	var found [1]run // mostly it is one
	all := found[:0]
	for len(units) > 0 {
		n := 1
		if units[0].op.Verb.Each != nil {
			for n < len(units) && units[n].op.Verb == units[0].op.Verb {
				n++
			}
		}
		all = append(all, run(units[:n]))
		units = units[n:]
	}
	return all
}

// word is the verb's name as it is sent.
func (r run) word() any {
	if len(r) > 1 {
		return r[0].op.Verb.Each.word
	}
	return r[0].op.Verb.word
}

func (r run) keys() (n int) {
	for _, u := range r {
		n += len(u.op.Keys)
	}
	return n
}

func (r run) appendArgs(args []any) []any {
	if len(r) > 1 {
		args = append(args, len(r))
	}
	for _, u := range r {
		args = u.op.appendArgs(args)
	}
	return args
}

// deliver gives each its answer.
func (r run) deliver(reply any) {
	answer := read(reply)
	if len(r) == 1 {
		*r[0].answer = answer
		return
	}
	for i, share := range answer.each(len(r)) {
		*r[i].answer = share
	}
}

func (r run) fail(err error) {
	for _, u := range r {
		u.answer.Err = err
	}
}
