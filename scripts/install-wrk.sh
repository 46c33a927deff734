#!/usr/bin/env bash
# Makes sure of wrk, the load tool of the HTTP benchmark. Quick when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

command -v wrk >/dev/null || apt_install wrk
