#!/usr/bin/env bash
# Builds the server by a profile of itself under load: target/guided/ferrocast. FEATURES is as for `make build`.
source "$(dirname "$0")/lib.sh"

cd "$root"
# It would go before the flags that are given here.
unset CARGO_ENCODED_RUSTFLAGS
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$target/guided"
guided=$(cd "$target/guided" && pwd)
profiles=$guided/profiles
merged=$guided/ferrocast.profdata

# Prints where llvm-profdata is: it has to be of the LLVM that rustc has.
profdata() {
    local program
    for program in "$(rustc --print target-libdir)/../bin/llvm-profdata" "/usr/lib/llvm-$llvm/bin/llvm-profdata"; do
        [ -x "$program" ] && printf '%s' "$program" && return
    done
    command -v "llvm-profdata-$llvm"
}

# build FLAGS: everything of this machine's kind with these flags; what runs while it is built is left as it is.
build() {
    RUSTFLAGS="${RUSTFLAGS:-} $1" "${CARGO:-cargo}" build --release --locked -p ferrocast --bin ferrocast \
        --target "$host" --target-dir "$guided" ${FEATURES:+--features "ferrocast/$FEATURES"}
}

profdata >/dev/null || (apt_install "llvm-$llvm") || true
program=$(profdata) || die "llvm-profdata of LLVM $llvm is needed: rustup component add llvm-tools"

say "1 of 3: a build that counts"
rm -rf "$profiles"
build "-Cprofile-generate=$profiles"
install -D "$guided/$host/release/ferrocast" "$guided/counting/release/ferrocast"

say "2 of 3: its counts, under load"
uv=$("$root/scripts/uv.sh")
(cd "$root/training" && CARGO_TARGET_DIR="$guided/counting" PYTHONPATH=. "$uv" run --locked python ../loadtest/guide.py)
"$program" merge -o "$merged" "$profiles"

say "3 of 3: the build by these counts"
# Cargo does not see that a profile of the same name is another one.
rm -rf "${guided:?}/$host"
# Much of the program is not called by the load, and has no counts.
build "-Cprofile-use=$merged -Cllvm-args=-pgo-warn-missing-function=false"
install "$guided/$host/release/ferrocast" "$guided/ferrocast"
say "built $guided/ferrocast"
