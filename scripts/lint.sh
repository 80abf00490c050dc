#!/usr/bin/env bash
# gofmt, go vet and staticcheck over every module of the tree, govulncheck over the library.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "gofmt would change:" >&2
	echo "$unformatted" >&2
	exit 1
fi
for module in . bench interop soak; do
	[ -f "$module/go.mod" ] || continue
	echo "lint $module"
	(
		cd "$module"
		go vet ./...
		go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	)
done
# It needs the vulnerability database; where that is out of reach, say so and go on.
if ! go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./... >govulncheck.out 2>&1; then
	if grep -q 'Vulnerability #' govulncheck.out; then
		cat govulncheck.out >&2
		rm -f govulncheck.out
		exit 1
	fi
	echo "govulncheck could not run here: $(tail -1 govulncheck.out)" >&2
fi
rm -f govulncheck.out
