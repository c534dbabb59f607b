"""What a shadow costs the answers: predictions beside which a second version scores, and without, in turns.

    make loadtest-shadows             # or: ARGS="--seconds 2 --rounds 12"

Both versions are the same model. In a closed loop the processors are all taken, and next to no shadow
should run; at a fixed rate there is room, and each should. Without a shadow is measured twice a round: what
lies between those two is chance.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import turns
from agreement import get, post
from bench import FULL, PREDICT, Bench, bench
from generators import Load, Seen, in_flight, rate
from machine import commit
from servers import Served
from turns import Rounds
from usecase import NAME, two_versions

LOADS = (in_flight(8), in_flight(64), rate(500), rate(2_000))
TURNS: dict[str, list[str]] = {"without a shadow": [], "with one": ["2"], "without, again": []}
HEADER = [
    "what",
    "calls/s",
    "p50 ms",
    "of the rounds",
    "p99 ms",
    "calls ÷ without",
    "p50 ÷ without",
    "shadows that ran",
]


def shadow(served: Served, versions: list[str]) -> None:
    """Lets versions score beside the answers."""
    post(f"http://{served.http}/v1/models/{NAME}/traffic", {"traffic": {"shadow": versions}}, "PUT")


def counted(served: Served) -> tuple[int, int]:
    """How many shadows ran, and how many were left out, since the start."""
    second = get(f"http://{served.http}/v1/models/{NAME}")["versions"][1]
    return int(second["shadowPredictions"]), int(second["shadowsDropped"])


def row(taken: Rounds, bare: Rounds) -> list[str]:
    """Medians over the rounds; the ratios are those within a round."""
    p50s = sorted(each.p50_ms for each in taken.seen)
    pairs = list(zip(taken.seen, bare.seen, strict=True))
    return [
        taken.name,
        f"{median(each.calls_per_second for each in taken.seen):,.0f}",
        f"{median(p50s):.2f}",
        f"{p50s[0]:.2f} to {p50s[-1]:.2f}",
        f"{median(taken.p99s):.2f}",
        f"{median(taken.per(bare)):.2f}",
        f"{median(mine.p50_ms / its.p50_ms for mine, its in pairs):.2f}",
    ]


def measure(prepared: Bench) -> str:
    """All loads, as a table."""
    rows = []
    with prepared.server("postgres", cached=True) as served:

        def predict(load: Load, versions: list[str]) -> Callable[[], Seen]:
            def once() -> Seen:
                shadow(served, versions)
                return prepared.call(served.grpc, PREDICT, prepared.requests.predict, load)

            return once

        for load in LOADS:
            ran, dropped = counted(served)
            measures = {f"{load}, {name}": predict(load, versions) for name, versions in TURNS.items()}
            found = list(turns.in_turns(measures, prepared.effort.rounds).values())
            later_ran, later_dropped = counted(served)
            turns.say(f"{load}: {later_ran - ran:,} shadows ran, {later_dropped - dropped:,} were left out")
            for taken, versions in zip(found, TURNS.values(), strict=True):
                rows.append([*row(taken, found[0]), f"{later_ran - ran:,}" if versions else ""])
    return turns.table(HEADER, rows)


def main() -> None:
    """Measures and prints."""
    raw = argparse.RawDescriptionHelpFormatter
    options = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    options.add_argument("--seconds", type=float, default=1.5, help="how long each is measured")
    options.add_argument("--rounds", type=int, default=7)
    asked = options.parse_args()
    with bench(replace(FULL, seconds=asked.seconds, rounds=asked.rounds)) as prepared:
        prepared = replace(prepared, models=two_versions(prepared.models, prepared.folder / "models"))
        found = measure(prepared)
    print(f"\nCommit {commit()}\n")
    print(found)


if __name__ == "__main__":
    turns.to_the_end(main)
