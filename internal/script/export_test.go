package script

// Source is the text of the program.
func (p *Program) Source() string { return p.source }
