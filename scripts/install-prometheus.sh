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

readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
readonly PLACE="$PWD/target/prometheus"

# The binary runs here and is of this major. Older Prometheus prints its version on stderr.
runs() { # <program> <major>
    [[ -x $1 ]] && "$1" --version 2>&1 | grep -q "version $2\."
}

has() { # <major>
    runs "$PLACE/$1/prometheus" "$1" && { [[ $1 != 2 ]] || runs "$PLACE/2/promtool" 2; }
}

# The mirror this machine uses already: it is the one that is reachable from here.
mirror() {
    local codename
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    apt-get update --print-uris | sed -n "s#^'\(.*\)/dists/$codename/InRelease'.*#\1#p" | head -n 1
}

unpack() { # <major> <suite>: the programs of the suite's package `prometheus` to $PLACE/<major>
    local major=$1 suite=$2
    local apt_home="$PLACE/apt-$suite"

    # Emptied first: of an interrupted run, nothing is worth keeping.
    rm -rf "$apt_home" "${PLACE:?}/$major"
    mkdir -p "$apt_home"/{state/lists/partial,cache/archives/partial,unpacked} "$PLACE/$major"
    : >"$apt_home/state/status"
    echo "deb [signed-by=$KEYRING] $URI $suite main" >"$apt_home/sources.list"

    # Read after the machine's own configuration, which keeps its proxy settings. The sandbox user is
    # switched off because it could not write below a home directory; the hooks, because they are meant
    # for the system's package lists.
    cat >"$apt_home/apt.conf" <<CONFIG
Dir::Etc::sourcelist "$apt_home/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$apt_home/state";
Dir::State::status "$apt_home/state/status";
Dir::Cache "$apt_home/cache";
APT::Sandbox::User "root";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONFIG
    echo "install-prometheus: fetching Prometheus $major from Debian $suite"
    (
        cd "$apt_home" &&
            apt-get -qq -c apt.conf --error-on=any update &&
            apt-get -qq -c apt.conf download prometheus &&
            dpkg-deb -x prometheus_*.deb unpacked
    ) || fail "apt could not fetch 'prometheus' of Debian $suite from $URI." \
        "If the mirror is the reason, name another: DEBIAN_MIRROR=<URI> $0"

    local program
    for program in prometheus promtool; do
        if [[ -e $apt_home/unpacked/usr/bin/$program ]]; then
            mv "$apt_home/unpacked/usr/bin/$program" "$PLACE/$major/"
        fi
    done
    has "$major" || fail \
        "the package of Debian $suite is not a Prometheus $major.x that runs on this machine:" \
        "$("$PLACE/$major/prometheus" --version 2>&1 | head -n 3)"
    rm -rf "$apt_home"
}

if has 2 && has 3; then exit 0; fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    fail "apt-get and dpkg-deb are needed, as on Debian. Elsewhere, put these there by hand:" \
        "Prometheus 2.x as $PLACE/2/prometheus and $PLACE/2/promtool, 3.x as $PLACE/3/prometheus"
fi
[[ -r $KEYRING ]] || fail \
    "$KEYRING is missing, without which the packages cannot be verified." \
    "Try: apt-get install debian-archive-keyring"
URI=${DEBIAN_MIRROR:-$(mirror)}
[[ -n $URI ]] || fail \
    "no Debian mirror in this machine's apt sources. Name one: DEBIAN_MIRROR=<URI> $0"

# One at a time: tests and a demo may ask for it together.
mkdir -p "$PLACE"
exec {lock}>"$PLACE/.lock"
flock "$lock"

has 2 || unpack 2 bookworm
has 3 || unpack 3 sid
