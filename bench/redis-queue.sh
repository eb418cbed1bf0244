#!/bin/bash
# Measures reserve+commit pairs of queue/redis, 64 in flight, 1 KiB, against two
# scripted writes of 1 KiB by redis-benchmark on the same server (appendfsync
# always), in turns, and prints the medians and their ratio. Wanted: 0.8.
# HERALD_PAIRS is the number of pairs in a turn (default 50000); arguments
# choose a part, for example: redis-queue.sh /1queues
set -euo pipefail
cd "$(dirname "$0")/.."
exec go test -run '^$' -bench "Pairs${1:-}" -benchtime 1x -timeout 30m ./queue/redis
