"""The marks of reading features: at a fixed rate, and by Feast's own server on the same PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import agreement
import peers
from bench import FEAST_READ, READ, Bench
from generators import Load, Seen, in_flight, rate
from mark import Mark, at_least, below
from servers import Served
from turns import Rounds, in_turns

RATE = rate(200)
# As many as Feast's server was measured with elsewhere.
LOAD = in_flight(32)
CACHED = {True: "cached", False: "cache off"}
P99_LIMITS_MS = {True: 2.0, False: 8.0}
FEAST_RATIOS = {True: 80.0, False: 30.0}
PER_CALL = {1: "1 by 30", 100: "100 by 30"}


@contextmanager
def _servers(bench: Bench) -> Iterator[dict[bool, Served]]:
    """One with the cache and one without."""
    with bench.server("postgres", cached=True) as cached, bench.server("postgres", cached=False) as bare:
        yield {True: cached, False: bare}


def _read(bench: Bench, served: Served, per_call: int, form: str, load: Load) -> Callable[[], Seen]:
    requests = bench.requests
    data = {
        (1, "columns"): requests.one,
        (1, "packed"): requests.one_packed,
        (100, "columns"): requests.many,
        (100, "packed"): requests.many_packed,
    }[per_call, form]
    return lambda: bench.call(served.grpc, READ, data, load)


def open_loop(bench: Bench) -> tuple[list[Mark], list[Rounds]]:
    """100 entities a call, 200 calls a second."""
    with _servers(bench) as servers:
        measures, limits = {}, {}
        for is_cached, served in servers.items():
            for form in ("packed", "columns"):
                name = f"GetOnlineFeatures 100 by 30, {form}, {CACHED[is_cached]}, {RATE}"
                measures[name] = _read(bench, served, 100, form, RATE)
                limits[name] = P99_LIMITS_MS[is_cached]
        found = in_turns(measures, bench.effort.rounds)
    marks = [
        below(f"{name}, p99", limits[name], each.p99s, "ms", each.failures) for name, each in found.items()
    ]
    return marks, list(found.values())


def against_feast(bench: Bench, feast: peers.Feast) -> tuple[list[Mark], list[Rounds]]:
    """The same features of the same entities, in turns with Feast's server."""
    with ExitStack() as stack:
        servers = stack.enter_context(_servers(bench))
        peer = stack.enter_context(feast.serve())
        agreement.features(bench, servers[False].http, peer.address)
        asked = {1: bench.requests.one_feast, 100: bench.requests.many_feast}

        def by_feast(per_call: int) -> Callable[[], Seen]:
            return lambda: bench.call_slow(peer.address, FEAST_READ, asked[per_call], LOAD)

        measures: dict[str, Callable[[], Seen]] = {}
        for per_call, name in PER_CALL.items():
            measures[f"Feast, {name}"] = by_feast(per_call)
            for is_cached, served in servers.items():
                for form in ("packed", "columns"):
                    measures[_name(name, form, is_cached)] = _read(bench, served, per_call, form, LOAD)
        found = in_turns(measures, bench.effort.rounds)
    marks = [
        at_least(
            f"{_name(name, form, is_cached)} ÷ Feast",
            FEAST_RATIOS[is_cached],
            found[_name(name, form, is_cached)].per(found[f"Feast, {name}"]),
            found[_name(name, form, is_cached)].failures,
        )
        for name in PER_CALL.values()
        for is_cached in CACHED
        for form in ("packed", "columns")
    ]
    return marks, list(found.values())


def _name(size: str, form: str, is_cached: bool) -> str:
    return f"GetOnlineFeatures {size}, {form}, {CACHED[is_cached]}"
