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
