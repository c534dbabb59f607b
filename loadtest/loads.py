"""The mark of loading: all users into PostgreSQL by `ferrocast materialize`, and by `feast materialize`."""

from __future__ import annotations

import time

import peers
from bench import SETTINGS, Bench
from mark import Mark, at_least
from turns import say, table

LEAST = 80.0
OWN_ROUNDS = 3


def measure(bench: Bench, feast: peers.Feast) -> tuple[list[Mark], str]:
    """Each into an empty view; the start of the programs is within the time of both.

    Feast takes minutes, so it loads once; ferrocast some times before it and after it.
    """
    feast.apply()
    own = [_materialize(bench) for _ in range(OWN_ROUNDS)]
    theirs = feast.materialize()
    say(f"feast materialize: {theirs:.1f} s")
    own += [_materialize(bench) for _ in range(OWN_ROUNDS)]
    users = bench.effort.users
    rows = [
        ["`ferrocast materialize`", _rates(users, own), _spread(own)],
        ["`feast materialize`", _rates(users, [theirs]), _spread([theirs])],
    ]
    what = f"materialization of {users:,} by 30 into PostgreSQL ÷ Feast's"
    return [at_least(what, LEAST, [theirs / each for each in own])], table(HEADER, rows)


HEADER = ["what", "rows/s", "seconds"]


def _materialize(bench: Bench) -> float:
    """Seconds of one load into a view that was just made, beside the one that is read."""
    settings = SETTINGS | {"database.url": bench.new_database()}
    bench.run("apply", settings)
    begun = time.monotonic()
    bench.run("materialize", settings)
    seconds = time.monotonic() - begun
    say(f"ferrocast materialize: {seconds:.2f} s")
    return seconds


def _rates(users: int, seconds: list[float]) -> str:
    return f"{users / min(seconds):,.0f}"


def _spread(seconds: list[float]) -> str:
    return ", ".join(f"{each:.2f}" for each in seconds)
