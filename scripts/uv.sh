#!/usr/bin/env bash
# Brings uv into .tools/, from PyPI by the machine's own Python, checked by hash, and prints its path.
source "$(dirname "$0")/lib.sh"

version=0.13.8
requirements="$root/scripts/uv.txt"
uv="$tools/uv/bin/uv"

with_pip() {
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --requirement "$requirements" --target "$tools/uv" >&2
}
with_venv() {
    python3 -m venv "$tools/uv" >/dev/null 2>&1 &&
        "$tools/uv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --require-hashes --requirement "$requirements" >&2
}

if ! "$uv" --version 2>/dev/null | grep -q "^uv $version"; then
    command -v python3 >/dev/null || apt_install python3 python3-venv
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed; this is $(python3 --version)"
    say "uv $version"
    rm -rf "$tools/uv"
    # Debian's python3 comes without pip, and without what a virtual environment needs.
    if python3 -m pip --version >/dev/null 2>&1; then
        with_pip
    elif ! with_venv; then
        apt_install python3-venv
        rm -rf "$tools/uv"
        with_venv
    fi
    "$uv" --version >/dev/null || die "uv was installed, and $uv does not run"
fi
printf '%s\n' "$uv"
