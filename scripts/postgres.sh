#!/usr/bin/env bash
# Makes sure that there are PostgreSQL server programs for the tests, which start their own throw-away server.
source "$(dirname "$0")/lib.sh"

have_postgres() {
    command -v initdb >/dev/null && command -v postgres >/dev/null && return
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

have_postgres || apt_install postgresql
have_postgres || die "PostgreSQL was installed, and its initdb is still not there"
