#!/usr/bin/env bash
# Puts what examples/python/host.py needs under target/tools/python-host: Wasmtime's Python package (PyPI), in an environment of
# its own. Quick when it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

readonly WASMTIME=50.0.1
readonly PLACE=target/tools/python-host

if [[ $(cat "$PLACE/ready" 2>/dev/null || true) == "$WASMTIME" ]] && "$PLACE/bin/python" -c '' 2>/dev/null; then exit 0; fi

command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
echo "install-python-host: wasmtime $WASMTIME of PyPI"
rm -rf "$PLACE"
python3 -m venv "$PLACE"
"$PLACE/bin/pip" --quiet --disable-pip-version-check install "wasmtime==$WASMTIME"
echo "$WASMTIME" >"$PLACE/ready"
