#!/bin/bash
# Requests per second, CPU, memory and threads of this gateway and of radosgw,
# both on one Ceph cluster with one OSD (BlueStore on a file in -dir) that is
# started for it, taking the same load in turns.
#
#   make build-rados && bench/rados-store.sh
#   bench/rados-store.sh -run put-4KiB,list -clients 16 -time 2s -rounds 1
#   bench/rados-store.sh -help
#
# Environment: STORE=bluestore|memstore, OSD_SIZE (default 20G, a sparse file).
set -euo pipefail
cd "$(dirname "$0")/.."
export OSD_SIZE=${OSD_SIZE:-20G}
exec go run ./bench rados-store "$@"
