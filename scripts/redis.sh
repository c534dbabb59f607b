#!/usr/bin/env bash
# Makes sure that there is a Redis server program for the tests, which start their own throw-away servers.
source "$(dirname "$0")/lib.sh"

have_redis() { command -v redis-server >/dev/null; }

have_redis || apt_install redis-server
have_redis || die "Redis was installed, and its redis-server is still not there"
