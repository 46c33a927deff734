#!/usr/bin/env bash
# Puts two majors of Prometheus under target/prometheus/, for the end-to-end tests and `make demo`:
#
#   2/prometheus  2/promtool    from Debian bookworm (2.42)
#   3/prometheus                from Debian unstable (3.5; its package has no promtool)
#
# Both, because they differ in what Ebb depends on: Prometheus 3 ranges are left-open, 2.x closed.
#
# The packages are only unpacked, never installed: no service is started, nothing outside target/
# changes, and root is not needed. apt gets a configuration of its own, so it works before the first
# `apt-get update` and never lets unstable near the system's packages; signatures are checked as usual.
#
# Quick and without network when everything is there already. DEBIAN_MIRROR=<URI> overrides the mirror.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

readonly PLACE="$PWD/target/prometheus"

# The binary runs here and is of this major. Older Prometheus prints its version on stderr.
runs() { # <program> <major>
    [[ -x $1 ]] && "$1" --version 2>&1 | grep -q "version $2\."
}

has() { # <major>
    runs "$PLACE/$1/prometheus" "$1" && { [[ $1 != 2 ]] || runs "$PLACE/2/promtool" 2; }
}

unpack() { # <major> <suite>: the programs of the suite's package `prometheus` to $PLACE/<major>
    local major=$1 suite=$2 program
    rm -rf "${PLACE:?}/$major" "$PLACE/unpacked-$suite"
    mkdir -p "$PLACE/$major" "$PLACE/unpacked-$suite"
    echo "install-prometheus: fetching Prometheus $major from Debian $suite"
    debian_unpack "$suite" "$PLACE/unpacked-$suite" prometheus
    for program in prometheus promtool; do
        if [[ -e $PLACE/unpacked-$suite/usr/bin/$program ]]; then
            mv "$PLACE/unpacked-$suite/usr/bin/$program" "$PLACE/$major/"
        fi
    done
    rm -rf "$PLACE/unpacked-$suite"
    has "$major" || fail \
        "the package of Debian $suite is not a Prometheus $major.x that runs on this machine:" \
        "$("$PLACE/$major/prometheus" --version 2>&1 | head -n 3)"
}

if has 2 && has 3; then exit 0; fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    fail "apt-get and dpkg-deb are needed, as on Debian. Elsewhere, put these there by hand:" \
        "Prometheus 2.x as $PLACE/2/prometheus and $PLACE/2/promtool, 3.x as $PLACE/3/prometheus"
fi
# One at a time: tests and a demo may ask for it together.
mkdir -p "$PLACE"
exec {lock}>"$PLACE/.lock"
flock "$lock"

has 2 || unpack 2 bookworm
has 3 || unpack 3 sid
