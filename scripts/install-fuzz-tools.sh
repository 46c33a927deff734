#!/usr/bin/env bash
# Puts what `make fuzz` needs beyond the Rust toolchain under target/tools/bin: cargo-fuzz; and a C++ compiler, for libFuzzer.
# Quick when it is there already; the first build takes a minute.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/lib.sh

# Pinned, as in install-lint-tools.sh.
readonly CARGO_FUZZ=0.13.2

command -v c++ >/dev/null || apt_install g++
if [[ $(target/tools/bin/cargo-fuzz --version 2>/dev/null || true) == "cargo-fuzz $CARGO_FUZZ" ]]; then
    exit 0
fi
command -v cargo >/dev/null || fail "cargo is missing; run scripts/install-tools.sh first"
cargo install --locked --debug --root target/tools "cargo-fuzz@$CARGO_FUZZ"
