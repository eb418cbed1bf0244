#!/bin/bash
# Installs what the tests need and is not there yet: command-line S3 clients and
# Redis from Debian, boto3 in an environment of its own under .deps; with the
# argument "rados" Ceph as well. The servers are for the tests to start: none is
# started here.
set -euo pipefail
cd "$(dirname "$0")/.."

BOTO3=1.43.11

packages=()
need() { # need COMMAND PACKAGE
	command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] || packages+=("$2")
}
PATH=$PATH:/usr/sbin:/sbin
need /usr/bin/aws awscli
need s3cmd s3cmd
need rclone rclone
need mkfs.ext4 e2fsprogs
need python3 python3
need redis-server redis-server
need redis-sentinel redis-sentinel
need redis-cli redis-tools
if [ "${1:-}" = rados ]; then
	need ceph-mon ceph-mon
	need ceph-mgr ceph-mgr
	need ceph-osd ceph-osd
	need ceph ceph-common
	need radosgw radosgw
	need /usr/include/rados/librados.h librados-dev
fi
need gcc gcc
need /usr/include/stdlib.h libc6-dev
if [ ${#packages[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "deps: install these yourself: ${packages[*]}" >&2
		[ "${CI:-}" = true ] && exit 1 || exit 0
	fi
	export DEBIAN_FRONTEND=noninteractive
	policy=/usr/sbin/policy-rc.d # asked before a package starts its service
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
		trap 'rm -f "$policy"' EXIT
	fi
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
	if command -v systemctl >/dev/null; then # nor at the next boot
		for service in redis-server redis-sentinel; do
			[[ " ${packages[*]} " != *" $service "* ]] || systemctl disable -q "$service" 2>/dev/null || true
		done
	fi
fi
if ! .deps/venv/bin/python -c "import boto3, sys; sys.exit(boto3.__version__ != '$BOTO3')" 2>/dev/null; then
	python3 -m venv .deps/venv
	.deps/venv/bin/pip install -q "boto3==$BOTO3"
fi
