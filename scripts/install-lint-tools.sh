#!/usr/bin/env bash
# Puts what `make lint` needs beyond the Rust toolchain under target/tools/bin: cargo-deny.
# Quick when it is there already; the first build takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

# Pinned, so that a new release with new checks or another deny.toml format fails here, in a commit that
# raises this number, and not one day on an unchanged tree. --locked for the same reason.
readonly CARGO_DENY=0.20.2

if [[ $(target/tools/bin/cargo-deny --version 2>/dev/null || true) == "cargo-deny $CARGO_DENY" ]]; then
    exit 0
fi

command -v cargo >/dev/null || {
    echo "install-lint-tools: cargo is missing; run scripts/install-tools.sh first" >&2
    exit 1
}
# Built unoptimized: it runs for a second or two, and link-time optimization would double the build.
cargo install --locked --debug --root target/tools "cargo-deny@$CARGO_DENY"
