#!/bin/bash
# The gateway's suites over the store in RADOS, with each queue, on one cluster
# of three OSDs in memory, which ends with this script.
#
#   tests/onrados.sh GO short|long
set -euo pipefail
cd "$(dirname "$0")/.."
go=$1 form=$2

dir=$(mktemp -d -t herald-onrados-XXXXXX)
exec 3> >(exec tests/ceph.sh watch "$dir") # until this script ends, however it does
watch=$!
trap 'exec 3>&-; wait $watch' EXIT
STORE=memstore tests/ceph.sh start "$dir" 3 3>&-
"$go" build -tags faults,rados -o "$dir/gateway" ./cmd/gateway
export HERALD_TEST_CEPH=$dir HERALD_GATEWAY=$dir/gateway

# on STORE QUEUE ARGS... runs tests there.
on() {
	echo "store $1, queues $2: ${*:3}"
	HERALD_TEST_STORE=$1 HERALD_TEST_QUEUE=$2 "$go" test -tags rados -count=1 -timeout 60m "${@:3}" 3>&-
}

case $form in
short) # at the same time: most of it is waiting
	runs=()
	on rados+ec rados -short ./tests/s3compat 3>&- &
	runs+=($!)
	on rados redis -short ./tests/notifications 3>&- &
	runs+=($!)
	on rados embedded -short -run TestKillAtRandom ./tests/crash 3>&- & # and with the others
	runs+=($!)
	failed=0
	for run in "${runs[@]}"; do wait "$run" || failed=1; done
	exit $failed
	;;
long)
	on rados embedded ./tests/s3compat ./tests/notifications ./tests/badinput
	on rados+ec redis ./tests/s3compat ./tests/notifications ./tests/badinput
	on rados+ec rados ./tests/s3compat ./tests/notifications ./tests/badinput
	on rados+ec embedded -run 'TestKillAtRandom|TestFaultPoints|TestMoveQueues' ./tests/crash # and with the others
	;;
esac
