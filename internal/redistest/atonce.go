package redistest

import (
	"flag"
	"strconv"
)

// AtOnce lets so many parallel tests of a package run at once, unless the command line says how many. Tests
// with servers mostly wait, for leases and for servers, so there may be more of them than processors. Those whose
// time is short are not parallel: they run alone. For TestMain, before it runs the tests.
func AtOnce(n int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(n))
	}
}
