#!/bin/bash
# Runs every fuzz target of the repository for a while: fuzz.sh GO FUZZTIME.
# Those that need a build tag are run when GOFLAGS has it. Each uses one
# processor, and as many run at once as there are.
#
# A target that is still running an input when its time ends fails with
# "context deadline exceeded" and no failing input; that is go test's own
# doing, not a finding, and is the only failure that is passed over.
set -euo pipefail
export go=$1 fuzztime=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=$("$go" env GOCACHE)/fuzz
export work cache

# directories prints those with fuzz targets that the build tags let in.
directories() {
	local file tag
	while read -r file; do
		tag=$(sed -n 's|^//go:build \([a-z]*\)$|\1|p' "$file")
		[[ -n $tag && ${GOFLAGS:-} != *"$tag"* ]] || dirname "$file"
	done < <(grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' .)
}

# fuzz DIR runs the targets of a directory, one after the other.
fuzz() {
	local dir=$1 test failed=0 package target out
	test=$work/test${dir//\//-}
	"$go" test -c -fuzz . -o "$test" "$dir" # once for all its targets
	package=$("$go" list "$dir")
	while read -r target; do
		if out=$(cd "$dir" && "$test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$fuzztime" -test.parallel 1 \
			-test.fuzzcachedir "$cache/$package" 2>&1 </dev/null); then
			echo "fuzz $dir $target: $(grep elapsed <<<"$out" | tail -n 1 | sed 's/^fuzz: //')"
		elif grep -q 'context deadline exceeded' <<<"$out" && ! grep -qE 'Failing input|panic|testdata/fuzz' <<<"$out"; then
			echo "fuzz $dir $target: its time ended in the middle of an input"
		else
			printf 'fuzz %s %s: FAILED\n%s\n' "$dir" "$target" "$out"
			failed=1
		fi
	done < <("$test" -test.list '^Fuzz')
	return $failed
}
export -f fuzz

directories | sort -u | xargs -n 1 -P "$(getconf _NPROCESSORS_ONLN)" bash -euo pipefail -c 'fuzz "$1"' fuzz.sh
