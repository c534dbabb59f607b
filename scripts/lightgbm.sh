#!/usr/bin/env bash
# Brings what LightGBM's library is built with: CMake into .tools/cmake, out of its PyPI wheel, checked by hash; libclang from
# Debian. Prints CMake's path, which `CMAKE` tells to cargo.
source "$(dirname "$0")/lib.sh"

version=4.4.4
cmake="$tools/cmake/bin/cmake"

if [ "$("$cmake" --version 2>/dev/null | sed -n '1s/^cmake version //p')" != "$version" ]; then
    uv=$("$root/scripts/uv.sh")
    say "CMake $version"
    "$uv" venv --quiet --clear --python "$(command -v python3)" "$tools/cmake"
    "$uv" pip install --quiet --only-binary :all: --require-hashes --python "$tools/cmake/bin/python" \
        --requirements "$root/scripts/cmake.txt"
    "$cmake" --version >/dev/null || die "CMake was installed, and $cmake does not run"
fi

# The library that reads C++ headers, and the compiler's own headers beside it.
have_libclang() {
    compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null &&
        compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null
}

command -v c++ >/dev/null || apt_install g++
have_libclang || apt_install libclang-dev
have_libclang || die "libclang-dev was installed, and libclang is still not there"
printf '%s\n' "$cmake"
