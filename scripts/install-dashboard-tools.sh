#!/usr/bin/env bash
# Puts what scripts/check-dashboards.py needs under target/tools/grafana: Grafana's Foundation SDK (PyPI), its types
# as generated for Grafana 12, in a Python environment of its own. Quick when it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

# Pinned, so that a new release with other types fails here, in a commit that raises this number. Releases without an
# epoch (`…!11.6.0`) are those for the newest Grafana of their day; this one is of January 2026.
readonly SDK=1769699241
readonly PLACE=target/tools/grafana

if [[ $(cat "$PLACE/ready" 2>/dev/null || true) == "$SDK" ]] && "$PLACE/bin/python" -c '' 2>/dev/null; then exit 0; fi

command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail \
    "Python $(python3 --version | cut -d ' ' -f 2) is too old for the Grafana Foundation SDK: it needs 3.11 or later." \
    "Debian 12 and later have it."
echo "install-dashboard-tools: grafana-foundation-sdk $SDK"
rm -rf "$PLACE"
python3 -m venv "$PLACE"
"$PLACE/bin/pip" --quiet --disable-pip-version-check install "grafana-foundation-sdk==$SDK"
echo "$SDK" >"$PLACE/ready"
