#!/bin/bash
# Runs every fuzz target of the repository for a while: fuzz.sh GO FUZZTIME.
set -euo pipefail
go=$1 fuzztime=$2
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | sort | while read -r file; do
	dir=$(dirname "$file")
	grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed 's/^func //' | while read -r target; do
		echo "fuzz $dir $target $fuzztime"
		"$go" test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "$dir" </dev/null | tail -n 1
	done
done
