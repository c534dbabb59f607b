# What the other scripts share: where things go, and how to say what is missing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools="$root/.tools"
mkdir -p "$tools/bin"

say() { printf '==> %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Installs Debian packages where we may, and says which are needed where we may not.
apt_install() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        die "these packages are needed, and only root can install them: $*  (apt-get install $*)"
    fi
    say "installing $*"
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# Brings a Go program into .tools/bin, by `go install` of a module at a pinned version.
go_install() {
    local name=$1 module=$2
    local stamp="$tools/bin/.$name.version"
    [ -x "$tools/bin/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$module" ] && return
    say "$module"
    local go
    go=$("$root/scripts/go.sh")
    GOBIN="$tools/bin" GOFLAGS=-mod=mod "$go" install "$module"
    printf '%s' "$module" >"$stamp"
}
