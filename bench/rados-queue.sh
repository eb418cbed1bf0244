#!/bin/bash
# Pairs of reserve and commit per second, 1 KiB each, 64 in flight: queues of
# queue/rados against the plain class 2pc_queue on one object, in turn in one
# run, on a Ceph cluster with one OSD that the benchmark starts itself.
# ROUNDS (default 5) is how many times; medians are printed. -v shows each
# measurement with the CPU time it took.
set -euo pipefail
cd "$(dirname "$0")/.."
go test -tags rados -run '^$' -bench '^BenchmarkPairs$' -benchtime "${ROUNDS:-5}x" -timeout 60m "$@" ./queue/rados |
	tr '\t' '\n' | sed 's/^ *//'
