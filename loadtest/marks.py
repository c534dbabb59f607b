"""The throughput and the latency of the hot path, in about two minutes: for whoever works on it.

    make loadtest-marks               # or: ARGS="--seconds 2 --rounds 5 --no-peers"

Prints the marks that predictions are judged by and the rounds that they come from. `make loadtest` measures
these and all others, and writes a report.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import hot_path
import mark
import turns
from bench import FULL, bench
from machine import commit
from turns import to_the_end


def main() -> None:
    """Measures and prints."""
    raw = argparse.RawDescriptionHelpFormatter
    options = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    options.add_argument("--seconds", type=float, default=2.0, help="how long each is measured")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--no-peers", action="store_true", help="leaves the FastAPI service out")
    asked = options.parse_args()
    effort = replace(FULL, seconds=asked.seconds, rounds=asked.rounds)
    with bench(effort) as prepared:
        marks, rounds = hot_path.throughput(prepared, with_peers=not asked.no_peers)
        more_marks, more_rounds = hot_path.open_loop(prepared)
    print(f"\nCommit {commit()}\n")
    print(mark.table_of(marks + more_marks))
    print(turns.table(turns.HEADER, [each.row() for each in rounds + more_rounds]))


if __name__ == "__main__":
    to_the_end(main)
