"""Each store, cache on and off, warm and cold, in closed loops and at fixed rates, for tables and plots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import PREDICT, READ, STORES, Bench
from generators import Load, Seen, in_flight, rate
from turns import say, told

CLOSED = [in_flight(calls) for calls in (1, 8, 64, 256)]
RATES = [rate(calls) for calls in (250, 500, 1_000, 2_000, 5_000, 10_000)]
READS = [in_flight(1), in_flight(8), in_flight(64), rate(200)]
# A rate that a server does not follow by far is not doubled again.
FOLLOWED = 0.95


@dataclass(frozen=True)
class Point:
    """One load on one server."""

    store: str
    is_cached: bool
    what: str
    load: Load
    seen: Seen
    is_cold: bool = False

    @property
    def server(self) -> str:
        """As a table and a plot name it."""
        return f"{self.store}, {'cached' if self.is_cached else 'cache off'}"

    def row(self) -> list[str]:
        """As a line of a table, below HEADER."""
        seen = self.seen
        return [
            self.server,
            self.what,
            f"{self.load}, cold" if self.is_cold else str(self.load),
            f"{seen.calls_per_second:,.0f}",
            *(f"{value:.2f}" for value in (seen.p50_ms, seen.p90_ms, seen.p99_ms, seen.p999_ms)),
            f"{seen.failures:,}",
        ]


HEADER = ["server", "call", "load", "calls/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "failed"]


def measure(bench: Bench) -> list[Point]:
    """All stores, one server at a time."""
    points = []
    for store in STORES:
        for is_cached in (False, True):
            points += _cold(bench, store, is_cached)
            with bench.server(store, cached=is_cached) as served:
                points += _warm(bench, store, is_cached, served.grpc)
    return points


def _cold(bench: Bench, store: str, is_cached: bool) -> list[Point]:
    """The first moments of a server that has just become ready: no row in the cache, no connection used."""
    requests, load = bench.requests, in_flight(64)
    with bench.server(store, cached=is_cached, filled=False) as served:
        seen = bench.call(served.grpc, PREDICT, requests.predict, load, warm_seconds=0)
    return [_told(Point(store, is_cached, "PredictByEntity", load, seen, is_cold=True))]


def _warm(bench: Bench, store: str, is_cached: bool, address: str) -> list[Point]:
    requests, points = bench.requests, []

    def take(what: str, rpc: str, data: Path, load: Load) -> Seen:
        seen = bench.call(address, rpc, data, load)
        points.append(_told(Point(store, is_cached, what, load, seen)))
        return seen

    for load in _some(bench, CLOSED):
        take("PredictByEntity", PREDICT, requests.predict, load)
    for load in _some(bench, RATES):
        seen = take("PredictByEntity", PREDICT, requests.predict, load)
        if seen.calls_per_second < FOLLOWED * load.rate:
            break
    for what, data in (
        ("GetOnlineFeatures 1 by 30, packed", requests.one_packed),
        ("GetOnlineFeatures 100 by 30, packed", requests.many_packed),
        ("GetOnlineFeatures 100 by 30, columns", requests.many),
    ):
        for load in _some(bench, READS):
            take(what, READ, data, load)
    return points


def _some(bench: Bench, loads: list[Load]) -> list[Load]:
    """All loads, or every other one where it is to be quick."""
    return loads if bench.effort.is_full else loads[1::2]


def _told(point: Point) -> Point:
    cold = ", cold" if point.is_cold else ""
    say(f"{point.server}: {point.what}, {point.load}{cold}: {told(point.seen)}")
    return point
