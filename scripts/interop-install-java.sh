#!/usr/bin/env bash
# Installs a JDK (17 or later) and Maven with apt where that is possible; otherwise says what to install.
set -euo pipefail

# major: prints the JDK's feature number, 0 without a compiler.
major() {
	command -v javac >/dev/null || { echo 0; return; }
	javac -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p'
}

missing() { [ "$(major)" -lt 17 ] || ! command -v mvn >/dev/null; }

if missing && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openjdk-17-jdk-headless maven >/dev/null
fi
if missing; then
	echo "a JDK, 17 or later, and Maven are missing: install both (Debian: apt-get install openjdk-17-jdk-headless maven)" >&2
	exit 1
fi
