#!/usr/bin/env bash
# Installs redis-server with apt where that is possible; otherwise says what to install.
set -euo pipefail
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server >/dev/null
fi
if ! command -v redis-server >/dev/null; then
	echo "redis-server is missing: install Redis 6.2 or later (Debian: apt-get install redis-server)," >&2
	echo "or set HOLDFAST_REDIS_SERVER to a redis-server binary." >&2
	exit 1
fi
