#!/bin/bash
# Runs `go test -race` with the arguments given: race.sh GO ARGS... The detector
# itself dies in about half of the runs of notify, in tests with virtual time
# (testing/synctest): by a check of its own state, or on the stack of goroutine 0
# in a bubble, where none of our code runs. Such a run is made again, five times
# at most, unless it found a race or a test failed; what passed is cached.
set -euo pipefail
go=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for try in 1 2 3 4 5 6; do
	if "$go" test -race "$@" 2>&1 | tee "$log"; then
		exit 0
	fi
	if [ "$try" = 6 ] || ! grep -qE '^ThreadSanitizer: CHECK failed|^goroutine 0 gp=.*synctest bubble' "$log" || grep -qE -e 'DATA RACE|^ *--- FAIL|^panic: |^fatal error: |^goleak: ' "$log"; then
		exit 1
	fi
	echo "race.sh: the detector failed by itself; once more"
done
