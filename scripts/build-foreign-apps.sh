#!/usr/bin/env bash
# Builds apps that others wrote, or that others' toolchains make, to target/foreign/, for the end-to-end
# tests:
#
#   python.wasm  javascript.wasm  fetch-event.wasm    sources in tests/foreign/, made by componentize-py
#                                                     (PyPI) and componentize-js (npm)
#   cpp.wasm                                          source in tests/foreign/, made by clang (Debian)
#   wasip2.wasm  wasip3.wasm  wstd.wasm               examples of these crates, unchanged
#   wstd-axum.wasm                                    likewise
#
# Each is built once and again when its sources or this script change. Versions are pinned in tests/foreign/.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

readonly SOURCES="$PWD/tests/foreign" OUT="$PWD/target/foreign" TOOLS="$PWD/target/tools"
readonly TARGET=wasm32-wasip2

is_new() { # <output> <source>…
    local output=$1 source
    [[ -s $output ]] || return
    shift
    for source in "$@" scripts/build-foreign-apps.sh; do
        [[ $output -nt $source ]] || return
    done
}

# Where cargo keeps the source of a package that tests/foreign/Cargo.toml names.
package() { # <name>
    local manifest version
    version=$(sed -n "s/^$1 = \"=\(.*\)\"/\1/p" "$SOURCES/Cargo.toml")
    manifest=$(cargo metadata --locked --format-version 1 --manifest-path "$SOURCES/Cargo.toml" |
        grep -o "\"manifest_path\":\"[^\"]*/$1-${version:?}[^\"/]*/Cargo.toml\"" | head -n 1 | cut -d '"' -f 4)
    [[ -n $manifest ]] || fail "cargo does not know the package $1: is it in $SOURCES/Cargo.toml?"
    dirname "$manifest"
}

example() { # <package> <example> <features>: an example of a package, as it was published
    local output="$OUT/$1.wasm"
    if is_new "$output" "$SOURCES/Cargo.lock"; then return; fi
    echo "build-foreign-apps: $1"
    # A copy, because cargo writes beside a manifest, and what it has downloaded is to stay as it is.
    rm -rf "$OUT/source/$1"
    mkdir -p "$OUT/source"
    cp -r "$(package "$1")" "$OUT/source/$1"
    cargo build --quiet --locked --release --target "$TARGET" --target-dir "$OUT/target" \
        --manifest-path "$OUT/source/$1/Cargo.toml" --example "$2" --features "$3"
    cp "$OUT/target/$TARGET/release/examples/${2//-/_}.wasm" "$output"
}

# The world that Python and JavaScript apps are made for, in the words of the crate that the runner offers it
# with. <version>: what the toolchain knows; patch versions of WASI 0.2 differ in their numbers.
wit() { # <version>
    local crate
    crate=$(cargo metadata --locked --format-version 1 |
        grep -o '"manifest_path":"[^"]*/wasmtime-wasi-http-[0-9][^"/]*/Cargo.toml"' | head -n 1 | cut -d '"' -f 4)
    rm -rf "$OUT/wit"
    mkdir -p "$OUT/wit"
    cp -r "$(dirname "$crate")/wit/deps" "$SOURCES/world.wit" "$OUT/wit/"
    find "$OUT/wit" -name '*.wit' -exec sed -i "s/0\.2\.[0-9][0-9]*/$1/g" {} +
}

python_app() {
    local app=$SOURCES/python/app.py requirements=$SOURCES/python/requirements.txt
    if is_new "$OUT/python.wasm" "$app" "$requirements" "$SOURCES/world.wit" Cargo.lock; then return; fi
    echo "build-foreign-apps: python"
    command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    if ! is_new "$TOOLS/python/ready" "$requirements"; then
        rm -rf "$TOOLS/python"
        python3 -m venv "$TOOLS/python"
        "$TOOLS/python/bin/pip" --quiet --disable-pip-version-check install --requirement "$requirements"
        date >"$TOOLS/python/ready"
    fi
    wit 0.2.12
    PYTHONDONTWRITEBYTECODE=1 "$TOOLS/python/bin/componentize-py" --quiet --wit-path "$OUT/wit" --world proxy \
        componentize --python-path "$SOURCES/python" app --output "$OUT/new.wasm"
    mv "$OUT/new.wasm" "$OUT/python.wasm"
}

javascript_app() { # <name>
    local app=$SOURCES/javascript/$1.js package=$SOURCES/javascript/package-lock.json
    local sources=("$app" "$SOURCES/javascript/build.mjs" "$package" "$SOURCES/world.wit" Cargo.lock)
    if is_new "$OUT/$1.wasm" "${sources[@]}"; then return; fi
    echo "build-foreign-apps: $1"
    command -v npm >/dev/null || apt_install nodejs npm
    local major
    major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
    ((major >= 20)) || fail "Node.js $(node --version) is too old for componentize-js: it needs 20 or later." \
        "Install a newer one, from https://nodejs.org or Debian 13, then run this again."
    if ! is_new "$TOOLS/javascript/ready" "$package"; then
        rm -rf "$TOOLS/javascript"
        mkdir -p "$TOOLS/javascript"
        cp "$SOURCES"/javascript/{package.json,package-lock.json,.npmrc} "$TOOLS/javascript/"
        (cd "$TOOLS/javascript" && npm ci --silent)
        date >"$TOOLS/javascript/ready"
    fi
    wit 0.2.10
    # Beside its packages, where Node looks for them.
    cp "$SOURCES"/javascript/build.mjs "$app" "$TOOLS/javascript/"
    (cd "$TOOLS/javascript" && node build.mjs "$1.js" "$OUT/wit" proxy "$OUT/new.wasm")
    mv "$OUT/new.wasm" "$OUT/$1.wasm"
}

cpp_app() {
    local source=$SOURCES/cpp/leaks.cpp headers=/usr/lib/llvm-16/include/wasm32-wasi/c++/v1
    if is_new "$OUT/cpp.wasm" "$source"; then return; fi
    echo "build-foreign-apps: cpp"
    if ! command -v clang++-16 wasm-ld-16 >/dev/null || [[ ! -d $headers || ! -d /usr/include/wasm32-wasi ]]; then
        apt_install clang-16 lld-16 libc++-16-dev-wasm32 libclang-rt-16-dev-wasm32 wasi-libc
    fi
    clang++-16 --target=wasm32-wasi -isystem "$headers" -isystem /usr/include/wasm32-wasi -O1 -fno-exceptions \
        -o "$OUT/new.wasm" "$source"
    mv "$OUT/new.wasm" "$OUT/cpp.wasm"
}

mkdir -p "$OUT" "$TOOLS"
example wasip2 http-proxy std
example wasip3 http-proxy async-spawn
example wstd http_server json
example wstd-axum hello_world ""
cpp_app
python_app
javascript_app javascript
javascript_app fetch-event
