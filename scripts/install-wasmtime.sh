#!/usr/bin/env bash
# Puts `wasmtime` under target/tools/bin: the peer of the HTTP benchmark, of the same version as the library
# that the runner is built on. Quick when it is there already; the first build takes a quarter of an hour.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v cargo >/dev/null || {
    echo "install-wasmtime: cargo is missing; run scripts/install-tools.sh first" >&2
    exit 1
}
VERSION=$(cargo metadata --format-version 1 --locked |
    grep -o '"name":"wasmtime","version":"[^"]*"' | head -n 1 | cut -d '"' -f 8)
readonly VERSION

if [[ $(target/tools/bin/wasmtime --version 2>/dev/null || true) == "wasmtime $VERSION"* ]]; then
    exit 0
fi
# What `wasmtime serve` needs, and what makes it fast. The rest doubles the build.
cargo install --locked --root target/tools --target-dir target/tools/build --no-default-features \
    --features run,serve,wasi-http,cranelift,parallel-compilation,pooling-allocator,component-model-async,cache \
    "wasmtime-cli@$VERSION"
rm -rf target/tools/build
