#!/bin/bash
# Installs what the tests need and is not there yet: command-line S3 clients
# from Debian, and boto3 in an environment of its own under .deps.
set -euo pipefail
cd "$(dirname "$0")/.."

BOTO3=1.43.11

packages=()
need() { # need COMMAND PACKAGE
	command -v "$1" >/dev/null 2>&1 || [ -x "$1" ] || packages+=("$2")
}
need /usr/bin/aws awscli
need s3cmd s3cmd
need rclone rclone
need mkfs.ext4 e2fsprogs
need python3 python3
if [ ${#packages[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "deps: install these yourself: ${packages[*]}" >&2
		[ "${CI:-}" = true ] && exit 1 || exit 0
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
if ! .deps/venv/bin/python -c "import boto3, sys; sys.exit(boto3.__version__ != '$BOTO3')" 2>/dev/null; then
	python3 -m venv .deps/venv
	.deps/venv/bin/pip install -q "boto3==$BOTO3"
fi
