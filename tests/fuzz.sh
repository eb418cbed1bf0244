#!/bin/bash
# Runs every fuzz target of the repository for a while: fuzz.sh GO FUZZTIME.
# Those that need a build tag are run when GOFLAGS has it.
#
# A target that is still running an input when its time ends fails with
# "context deadline exceeded" and no failing input; that is go test's own
# doing, not a finding, and is the only failure that is passed over.
set -euo pipefail
go=$1 fuzztime=$2
failed=0
while read -r file; do
	tag=$(sed -n 's|^//go:build \([a-z]*\)$|\1|p' "$file")
	[[ -z $tag || ${GOFLAGS:-} == *"$tag"* ]] || continue
	dir=$(dirname "$file")
	while read -r target; do
		if out=$("$go" test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "$dir" 2>&1 </dev/null); then
			echo "fuzz $dir $target: $(tail -n 1 <<<"$out")"
		elif grep -q 'context deadline exceeded' <<<"$out" && ! grep -qE 'Failing input|panic|testdata/fuzz' <<<"$out"; then
			echo "fuzz $dir $target: its time ended in the middle of an input"
		else
			echo "fuzz $dir $target: FAILED"
			echo "$out"
			failed=1
		fi
	done < <(grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed 's/^func //')
done < <(grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | sort)
exit $failed
