#!/usr/bin/env bash
# Installs a C compiler with apt where that is possible; otherwise says what to install.
# The race detector needs one, and so do the tests that set a server's clock.
set -euo pipefail
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc libc6-dev >/dev/null
fi
if ! command -v cc >/dev/null; then
	echo "a C compiler, cc, is missing: install one (Debian: apt-get install gcc libc6-dev)" >&2
	exit 1
fi
