# Shared by the scripts beside this file; sourced, not run.

fail() { # <line>…
    printf "$(basename "$0" .sh): %s\n" "$@" >&2
    exit 1
}

apt_install() { # <package>…
    local as_root=()
    if [[ $EUID != 0 ]]; then as_root=(sudo); fi
    if ! command -v apt-get >/dev/null || ! command -v "${as_root[@]:-true}" >/dev/null; then
        fail "missing on this machine: $*. Install it with your package manager, then run this again."
    fi
    echo "$(basename "$0" .sh): installing $*"
    "${as_root[@]}" apt-get -qq update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends "$@" >/dev/null
}

# The Debian mirror this machine uses already: it is the one that is reachable from here. DEBIAN_MIRROR=<URI>
# names another.
debian_mirror() {
    local codename
    [[ -z ${DEBIAN_MIRROR:-} ]] || { echo "$DEBIAN_MIRROR" && return; }
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    apt-get update --print-uris | sed -n "s#^'\(.*\)/dists/$codename/InRelease'.*#\1#p" | head -n 1
}

# Fetches packages of a Debian suite and unpacks them to a folder, without installing anything: no service is
# started, nothing else changes, and root is not needed. apt gets a configuration of its own, so it works before
# the first `apt-get update` and never lets another suite near the system's packages; signatures are checked as
# usual. Dependencies are not followed.
debian_unpack() { # <suite> <folder> <package>…
    local suite=$1 folder=$2 keyring=/usr/share/keyrings/debian-archive-keyring.gpg uri home
    shift 2
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        fail "apt-get and dpkg-deb are needed for: $*. They are there on Debian."
    [[ -r $keyring ]] || fail "$keyring is missing, without which packages cannot be verified." \
        "Try: apt-get install debian-archive-keyring"
    uri=$(debian_mirror)
    [[ -n $uri ]] || fail "no Debian mirror in this machine's apt sources. Name one: DEBIAN_MIRROR=<URI> $0"
    # Emptied first: of an interrupted run, nothing is worth keeping.
    home="$folder/.apt"
    rm -rf "$home"
    mkdir -p "$home"/{state/lists/partial,cache/archives/partial}
    : >"$home/state/status"
    echo "deb [signed-by=$keyring] $uri $suite main" >"$home/sources.list"
    # Read after the machine's own configuration, which keeps its proxy settings. The sandbox user is
    # switched off because it could not write below a home directory; the hooks, because they are meant
    # for the system's package lists.
    cat >"$home/apt.conf" <<CONFIG
Dir::Etc::sourcelist "$home/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$home/state";
Dir::State::status "$home/state/status";
Dir::Cache "$home/cache";
APT::Sandbox::User "root";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONFIG
    (
        cd "$home" &&
            apt-get -qq -c apt.conf --error-on=any update &&
            apt-get -qq -c apt.conf download "$@" &&
            for package in ./*.deb; do dpkg-deb -x "$package" "$folder" || exit; done
    ) || fail "apt could not fetch from Debian $suite at $uri: $*" \
        "If the mirror is the reason, name another: DEBIAN_MIRROR=<URI> $0"
    rm -rf "$home"
}
