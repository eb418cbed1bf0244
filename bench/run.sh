#!/bin/bash
# Runs everything that is measured, or the scenarios given: run.sh [FLAGS].
set -euo pipefail
cd "$(dirname "$0")/.."
exec go run ./bench "$@"
