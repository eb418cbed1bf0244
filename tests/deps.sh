#!/bin/bash
# Installs what the tests need and is not there yet: command-line S3 clients,
# Redis, RabbitMQ, Mosquitto and Ceph from Debian, and under .deps boto3 in an environment of its own,
# MinIO's mc and the jars of a Kafka broker. The servers are for the tests to start: none is
# started here. What cannot be installed is named, and the tests that need it are
# skipped; in CI (CI=true) that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

BOTO3=1.43.11
MC=v0.0.0-20250313080218-cf909e1063a9

packages=()
need() { # need COMMAND PACKAGE
	command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] || packages+=("$2")
}
missing() { # missing WHAT...
	echo "deps: install these yourself, or the tests that need them are skipped: $*" >&2
	[ "${CI:-}" != true ] || exit 1
}
PATH=$PATH:/usr/sbin:/sbin
need /usr/bin/aws awscli
need s3cmd s3cmd
need rclone rclone
need mkfs.ext4 e2fsprogs
need python3 python3
python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
need redis-server redis-server
need redis-sentinel redis-sentinel
need redis-cli redis-tools
need nats-server nats-server
need java default-jre-headless
need mvn maven
need rabbitmq-server rabbitmq-server
need mosquitto mosquitto
need openssl openssl
need gcc gcc
need /usr/include/stdlib.h libc6-dev
basic=("${packages[@]}")
packages=()
need ceph-mon ceph-mon
need ceph-mgr ceph-mgr
need ceph-osd ceph-osd
need ceph ceph-common
need radosgw radosgw
need /usr/include/rados/librados.h librados-dev
ceph=("${packages[@]}")

install() { # install PACKAGE...
	[ $# -gt 0 ] || return 0
	apt-get install -y -qq --no-install-recommends "$@" >/dev/null || missing "$@"
}
if [ ${#basic[@]} -eq 0 ] && [ ${#ceph[@]} -eq 0 ]; then
	: # all is there
elif [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	missing "${basic[@]}" "${ceph[@]}"
else
	export DEBIAN_FRONTEND=noninteractive
	policy=/usr/sbin/policy-rc.d # asked before a package starts its service
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
		trap 'rm -f "$policy"' EXIT
	fi
	apt-get update -qq || true # install tells
	install "${basic[@]}"
	install "${ceph[@]}"
	if command -v systemctl >/dev/null; then # nor at the next boot
		for service in redis-server redis-sentinel rabbitmq-server mosquitto; do
			[[ " ${basic[*]} " != *" $service "* ]] || systemctl disable -q "$service" 2>/dev/null || true
		done
	fi
fi
if ! .deps/venv/bin/python -c "import boto3, sys; sys.exit(boto3.__version__ != '$BOTO3')" 2>/dev/null; then
	{ python3 -m venv .deps/venv && .deps/venv/bin/pip install -q "boto3==$BOTO3"; } || missing boto3
fi
if [ ! -e ".deps/mc/$MC" ]; then # takes two minutes of CPU the first time
	rm -rf .deps/mc
	{ GOFLAGS= CGO_ENABLED=0 GOBIN="$PWD/.deps/mc" go install -ldflags=-s "github.com/minio/mc@$MC" && touch ".deps/mc/$MC"; } ||
		missing "mc (go install)"
fi
kafka=$(sed -n '/<artifactId>kafka_/,/<version>/s/.*<version>\(.*\)<.*/\1/p' tests/kafka/pom.xml)
if [ ! -e ".deps/kafka/$kafka" ]; then
	rm -rf .deps/kafka
	{ mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/.deps/kafka" >/dev/null &&
		touch ".deps/kafka/$kafka"; } || missing "Kafka's jars (mvn)"
fi
