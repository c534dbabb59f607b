#!/usr/bin/env bash
# Brings grpcurl and ghz into .tools/bin, by `go install` at pinned versions; with `loadtest` also k6, and Debian's h2load.
source "$(dirname "$0")/lib.sh"

grpcurl=github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
ghz=github.com/bojand/ghz/cmd/ghz@v0.121.0
k6=go.k6.io/k6@v1.8.1

install() {
    local name=$1 module=$2
    local stamp="$tools/bin/.$name.version"
    [ -x "$tools/bin/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$module" ] && return
    say "$module"
    local go
    go=$("$root/scripts/go.sh")
    GOBIN="$tools/bin" GOFLAGS=-mod=mod "$go" install "$module"
    printf '%s' "$module" >"$stamp"
}

install grpcurl "$grpcurl"
install ghz "$ghz"
if [ "${1:-}" = loadtest ]; then
    install k6 "$k6"
    command -v h2load >/dev/null || apt_install nghttp2-client
fi
