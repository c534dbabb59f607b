#!/usr/bin/env bash
# Brings grpcurl and ghz into .tools/bin; with `loadtest` also k6, and Debian's h2load and perf.
source "$(dirname "$0")/lib.sh"

go_install grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
go_install ghz github.com/bojand/ghz/cmd/ghz@v0.121.0
if [ "${1:-}" = loadtest ]; then
    go_install k6 go.k6.io/k6@v1.8.1
    command -v h2load >/dev/null || apt_install nghttp2-client
    command -v perf >/dev/null || apt_install linux-perf
fi
