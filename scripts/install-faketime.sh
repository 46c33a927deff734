#!/usr/bin/env bash
# Puts libfaketime under target/tools/faketime/: tests run programs whose clock steps. Debian's package is only unpacked.
# Quick and without network when it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

readonly PLACE="$PWD/target/tools/faketime"
has() { compgen -G "$PLACE/usr/lib/*/faketime/libfaketime.so.1" >/dev/null; }

if has; then exit 0; fi
rm -rf "$PLACE"
mkdir -p "$PLACE"
echo "install-faketime: fetching libfaketime from Debian bookworm"
debian_unpack bookworm "$PLACE" libfaketime
has || fail "Debian's package libfaketime has no libfaketime.so.1 where it is expected, below $PLACE/usr/lib"
