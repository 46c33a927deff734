#!/usr/bin/env bash
# Checks the dashboards in grafana/dashboards/ with Grafana's own types; with --prometheus URL, also that every query has
# data there. Installs what it needs under target/tools/.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-dashboard-tools.sh
exec target/tools/grafana/bin/python scripts/check-dashboards.py "$@"
