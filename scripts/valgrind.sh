#!/usr/bin/env bash
# Brings Debian's valgrind, which counts instructions.
source "$(dirname "$0")/lib.sh"

command -v valgrind >/dev/null || apt_install valgrind
