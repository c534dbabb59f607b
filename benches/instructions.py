#!/usr/bin/env python3
"""Instructions a run of each benchmark: the same on every machine that runs the same build; times are not.

    make instructions                 # or: ARGS="trees laid_out": those whose names have one of these in them

Each benchmark runs twice under callgrind, with few rounds and with more; the difference by the rounds between
is what one takes, without its preparation. Standard library only. ONNX Runtime chooses its code by the
processor: under valgrind that is one with AVX2.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FEW, MORE = 20, 60
COLLECTED = re.compile(r"Collected : (\d+)")
SECONDS_MAX = 600


def main() -> None:
    """Counts, and prints a table."""
    if shutil.which("valgrind") is None:
        sys.exit("error: there is no valgrind; Debian has it")
    print("| benchmark | instructions a run |\n|---|---|", flush=True)
    for program in programs():
        for name in names(program):
            if sys.argv[1:] and not any(asked in name for asked in sys.argv[1:]):
                continue
            each = (collected(program, name, MORE) - collected(program, name, FEW)) / (MORE - FEW)
            print(f"| {name} | {each:,.0f} |", flush=True)


def programs() -> list[str]:
    """The built benchmarks."""
    command = [os.environ.get("CARGO", "cargo"), "bench", "--locked", "--no-run", "--message-format=json"]
    built = subprocess.run(
        [*command, "-p", "ferrocast", "--bench", "*"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    messages = (json.loads(line) for line in built.stdout.splitlines())
    found = [each["executable"] for each in messages if "bench" in each.get("target", {}).get("kind", [])]
    return sorted(each for each in found if each)


def names(program: str) -> list[str]:
    """Those of a program, with their arguments: `runtime::onnx::64`."""
    said = subprocess.run([program, "--test"], cwd=ROOT, capture_output=True, text=True, check=True)
    found: list[str] = []
    parents: list[str] = []
    for line in said.stdout.splitlines():
        mark = re.search(r"[├╰]─ ", line)
        depth = 0 if mark is None else 1 + mark.start() // 3
        words = line[mark.end() if mark else 0 :].split()
        if not words:
            continue
        parents[depth:] = words[:1]
        # It is a group where something is in it.
        if found and found[-1] == "::".join(parents[:-1]):
            found.pop()
        found.append("::".join(parents))
    return found


def collected(program: str, name: str, rounds: int) -> int:
    """Instructions of a whole run of one benchmark."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    rounds_of_one = ["--sample-count", str(rounds), "--sample-size", "1"]
    done = subprocess.run(
        [*valgrind, program, "--bench", "--exact", name, *rounds_of_one],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    found = COLLECTED.search(done.stderr)
    if done.returncode != 0 or found is None:
        sys.exit(f"error: {name} does not run under valgrind:\n{done.stderr[-2000:]}")
    return int(found[1])


if __name__ == "__main__":
    main()
