#!/usr/bin/env bash
# Prints a regular expression of the root's tests in virtual time: those of the files that are named for it.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "^($(sed -n 's/^func \(Test[A-Za-z0-9]*\)(t .*/\1/p' replay_test.go virtual*_test.go | paste -sd '|'))\$"
