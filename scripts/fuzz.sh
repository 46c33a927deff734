#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET…]: fuzzes each target for so long, or all of them, one after another. Stops at the first input that
# is not taken as it must be, and says where it lies. What it learns is kept in target/fuzz/corpus for the next time.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

source ../scripts/lib.sh

[[ ${1:-} =~ ^[1-9][0-9]*$ ]] || fail "usage: $0 SECONDS [TARGET…], got: $*"
seconds=$1
shift
targets=("$@")
if [[ ${#targets[@]} == 0 ]]; then
    for target in targets/*.rs; do targets+=("$(basename "$target" .rs)"); done
fi

for target in "${targets[@]}"; do
    learned=../target/fuzz/corpus/$target
    mkdir -p "$learned"
    # An input takes microseconds. A minute, because on a loaded machine the fuzzer itself may have to wait for seconds.
    options=(-max_total_time="$seconds" -timeout=60 -rss_limit_mb=1024 -malloc_limit_mb=256 -print_final_stats=1)
    if [[ -e dictionaries/$target.dict ]]; then options+=(-dict="dictionaries/$target.dict"); fi
    echo "fuzz: $target, for $seconds s"
    # Without a sanitizer the pinned stable toolchain will do. There is no unsafe code here for one to watch.
    ../target/tools/bin/cargo-fuzz run --fuzz-dir . --target-dir ../target/fuzz --sanitizer none "$target" \
        "$learned" "corpus/$target" -- "${options[@]}"
done
