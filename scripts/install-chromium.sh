#!/usr/bin/env bash
# Makes sure of Chromium and its driver, for the browser tests. Quick when both are there.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then exit 0; fi
apt_install chromium chromium-driver
