#!/usr/bin/env bash
# Brings grpcurl and ghz into .tools/bin.
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/go.sh"

go_install grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
go_install ghz github.com/bojand/ghz/cmd/ghz@v0.121.0
