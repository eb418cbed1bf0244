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
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=$("$go" env GOCACHE)/fuzz

# directories prints those with fuzz targets that the build tags let in.
directories() {
	local file tag
	while read -r file; do
		tag=$(sed -n 's|^//go:build \([a-z]*\)$|\1|p' "$file")
		[[ -n $tag && ${GOFLAGS:-} != *"$tag"* ]] || dirname "$file"
	done < <(grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' .)
}

while read -r dir; do
	"$go" test -c -fuzz . -o "$work/test" "$dir" # once for all its targets
	package=$("$go" list "$dir")
	while read -r target; do
		if out=$(cd "$dir" && "$work/test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$fuzztime" \
			-test.fuzzcachedir "$cache/$package" 2>&1 </dev/null); then
			echo "fuzz $dir $target: $(grep elapsed <<<"$out" | tail -n 1 | sed 's/^fuzz: //')"
		elif grep -q 'context deadline exceeded' <<<"$out" && ! grep -qE 'Failing input|panic|testdata/fuzz' <<<"$out"; then
			echo "fuzz $dir $target: its time ended in the middle of an input"
		else
			echo "fuzz $dir $target: FAILED"
			echo "$out"
			failed=1
		fi
	done < <("$work/test" -test.list '^Fuzz')
done < <(directories | sort -u)
exit $failed
