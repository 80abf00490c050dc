#!/usr/bin/env bash
# Runs all tests with the race detector.
#
# Everything is built before anything runs: on a fresh machine the compiler takes two
# minutes of both cores, and beside it the tests of time are late. So they are beside the
# promises on miniredis, which runs Lua slowly: these run alone. So do the root's others, which
# are the most at once, and the most that look at the time.
#
# The other packages wait most of the time, for leases and for servers, so two of them run at
# once. Only the root's tests in virtual time wait for nothing: they cannot be late, and
# get what these packages leave of the processors.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
virtual=$(scripts/virtual.sh)
slow='Promises$/^miniredis$'
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failed=0
"$go" test -race -c -o /dev/null ./...
echo "promises on miniredis:"
"$go" test -race -timeout 300s -run "$slow" . || failed=1
"$go" test -race -timeout 540s -skip "$virtual|$slow" . || failed=1
nice -n 19 "$go" test -race -timeout 540s -run "$virtual" . >"$out" 2>&1 &
# shellcheck disable=SC2046 # words
"$go" test -race -p 2 -timeout 540s $("$go" list ./... | tail -n +2) || failed=1
wait $! || failed=1
echo "in virtual time:"
cat "$out"
exit $failed
