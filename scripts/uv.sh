#!/usr/bin/env bash
# Brings uv into .tools/, from PyPI by the machine's own Python, and prints its path.
source "$(dirname "$0")/lib.sh"

version=0.13.8
uv="$tools/uv/bin/uv"
if ! "$uv" --version 2>/dev/null | grep -q "^uv $version"; then
    command -v python3 >/dev/null || apt_install python3 python3-venv
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed; this is $(python3 --version)"
    say "uv $version"
    rm -rf "$tools/uv"
    python3 -m venv "$tools/uv" >/dev/null 2>&1 || {
        apt_install python3-venv
        rm -rf "$tools/uv"
        python3 -m venv "$tools/uv"
    }
    "$tools/uv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$version" >&2
fi
printf '%s\n' "$uv"
