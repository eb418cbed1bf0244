#!/bin/bash
# Runs `go test -race` with the arguments given: race.sh GO ARGS... The detector
# itself fails now and then, by a check of its own state (seen in notify): such a
# run is made again, twice at most, unless it found a race or a test failed.
set -euo pipefail
go=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for try in 1 2 3; do
	if "$go" test -race "$@" 2>&1 | tee "$log"; then
		exit 0
	fi
	if [ "$try" = 3 ] || ! grep -q '^ThreadSanitizer: CHECK failed' "$log" || grep -qE -e 'DATA RACE|^ *--- FAIL|^panic: |^fatal error: |goleak' "$log"; then
		exit 1
	fi
	echo "race.sh: the detector failed by itself; once more"
done
