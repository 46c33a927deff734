#!/usr/bin/env bash
# Makes sure of what `cargo build` needs here: the pinned Rust toolchain with its components and the
# WebAssembly target of the guests, and a C linker. Quick when everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/lib.sh

# The words of one key in rust-toolchain.toml, so that versions stand in that file only.
pinned() { # <key>
    sed -n "s/^$1 *= *//p" rust-toolchain.toml | tr -d '[]",'
}

# Asked of the files, not of `rustup component list`, which would use the network.
toolchain_is_complete() {
    local word
    cargo --version >/dev/null 2>&1 || return
    for word in $(pinned targets); do
        [[ -d $(rustc --print sysroot)/lib/rustlib/$word ]] || return
    done
    for word in $(pinned components); do
        case $word in
            clippy) cargo clippy --version >/dev/null 2>&1 || return ;;
            *) "$word" --version >/dev/null 2>&1 || return ;;
        esac
    done
}

command -v cc >/dev/null || apt_install gcc libc6-dev

command -v rustup >/dev/null || fail \
    "rustup is missing; it fetches the Rust version that rust-toolchain.toml names." \
    "Install it from https://rustup.rs, or on Debian 13 and later: apt-get install rustup"

# rustup does this by itself at the first cargo call, unless RUSTUP_AUTO_INSTALL=0 forbids it. A
# toolchain that is there already is only added to: installing it again would replace its files under
# builds that may be running.
if ! toolchain_is_complete; then
    toolchain=${RUSTUP_TOOLCHAIN:-$(pinned channel)}
    read -ra components <<<"$(pinned components)"
    read -ra targets <<<"$(pinned targets)"
    echo "install-tools: installing for Rust $toolchain: ${components[*]} ${targets[*]}"
    if ! cargo --version >/dev/null 2>&1; then
        rustup toolchain install "$toolchain" --profile "$(pinned profile)" --no-self-update ||
            fail "rustup could not install Rust $toolchain." \
                "Where that version is here under another name, say so: export RUSTUP_TOOLCHAIN=stable"
    fi
    if ! rustup component add --toolchain "$toolchain" "${components[@]}" ||
        ! rustup target add --toolchain "$toolchain" "${targets[@]}" ||
        ! toolchain_is_complete; then
        fail "rustup could not complete Rust $toolchain with: ${components[*]} ${targets[*]}"
    fi
fi
