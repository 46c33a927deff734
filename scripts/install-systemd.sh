#!/usr/bin/env bash
# Makes sure of systemd-analyze, which judges the units in deploy/systemd/. Nothing is started. Quick when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

if command -v systemd-analyze >/dev/null; then exit 0; fi
apt_install systemd
