"""What a shadow costs the answers: predictions beside which a second version scores, and without, in turns.

    make loadtest-shadows             # or: ARGS="--seconds 2 --rounds 5"

Both versions are the same model. In a closed loop the processors are all taken, and next to no shadow
should run; at a fixed rate there is room, and each should.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import turns
from agreement import get, post
from bench import FULL, PREDICT, Bench, bench
from generators import Load, Seen, in_flight, rate
from machine import commit
from servers import Served
from usecase import NAME, two_versions

LOADS = (in_flight(8), in_flight(64), rate(500))
WITHOUT, WITH = "without a shadow", "with one"


def shadow(served: Served, versions: list[str]) -> None:
    """Lets versions score beside the answers."""
    post(f"http://{served.http}/v1/models/{NAME}/traffic", {"traffic": {"shadow": versions}}, "PUT")


def counted(served: Served) -> tuple[int, int]:
    """How many shadows ran, and how many were left out, since the start."""
    second = get(f"http://{served.http}/v1/models/{NAME}")["versions"][1]
    return int(second["shadowPredictions"]), int(second["shadowsDropped"])


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
            measures = {f"{load}, {WITHOUT}": predict(load, []), f"{load}, {WITH}": predict(load, ["2"])}
            bare, beside = turns.in_turns(measures, prepared.effort.rounds).values()
            later_ran, later_dropped = counted(served)
            ratios = ", ".join(f"{each:.2f}" for each in beside.per(bare))
            rows += [[*bare.row(), "", ""], [*beside.row(), ratios, f"{later_ran - ran:,}"]]
            turns.say(f"{load}: {later_ran - ran:,} shadows ran, {later_dropped - dropped:,} were left out")
    return turns.table([*turns.HEADER, "÷ without", "shadows that ran"], rows)


def main() -> None:
    """Measures and prints."""
    raw = argparse.RawDescriptionHelpFormatter
    options = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    options.add_argument("--seconds", type=float, default=4.0, help="how long each is measured")
    options.add_argument("--rounds", type=int, default=3)
    asked = options.parse_args()
    with bench(replace(FULL, seconds=asked.seconds, rounds=asked.rounds)) as prepared:
        prepared = replace(prepared, models=two_versions(prepared.models, prepared.folder / "models"))
        found = measure(prepared)
    print(f"\nCommit {commit()}\n")
    print(found)


if __name__ == "__main__":
    turns.to_the_end(main)
