#!/bin/sh
# Build the WebAssembly runtime of exported pages: src/limner/apps/export/runtime/*.c -> runtime.wasm (or the path given).
# Needs clang and wasm-ld (Debian: apt install clang lld). The result is committed: a machine that exports needs neither.
set -eu
here=$(cd "$(dirname "$0")/../src/limner/apps/export/runtime" && pwd)
out=${1:-$here/runtime.wasm}
cd "$here"
"${CLANG:-clang}" --target=wasm32 -std=c11 -O3 -msimd128 -mbulk-memory -nostdlib -ffreestanding -fno-math-errno -ffp-contract=off \
  -Wall -Wextra -Werror -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=262144 -o "$out" ./*.c
