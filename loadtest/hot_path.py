"""The marks of predictions: by an empty call, by the FastAPI service, through REST, and at fixed rates."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import agreement
import peers
from bench import EMPTY, PEER_PREDICT, PREDICT, REST_PREDICT, Bench
from generators import Load, Seen, in_flight, rate
from mark import Mark, at_least, below
from turns import Rounds, in_turns

# Where the ceiling is measured: enough to keep two cores busy with empty calls.
CEILING = in_flight(128)
LOAD = in_flight(64)
# ONNX Runtime runs the model where nothing else is said.
WALKED = "PredictByEntity, cached, runtime trees"
OPEN_LIMITS_MS = {1_000: 1.0, 5_000: 2.0}


def throughput(bench: Bench, *, with_peers: bool = True) -> tuple[list[Mark], list[Rounds]]:
    """All in turns, the servers side by side and idle while they are not asked."""
    requests, one = bench.requests, bench.call
    with ExitStack() as stack:
        cached = stack.enter_context(bench.server("postgres", cached=True))
        walked = stack.enter_context(bench.server("postgres", cached=True, runtime="trees"))
        bare = stack.enter_context(bench.server("postgres", cached=False))

        def predict(address: str, load: Load) -> Callable[[], Seen]:
            return lambda: one(address, PREDICT, requests.predict, load)

        def rest(address: str) -> Callable[[], Seen]:
            return lambda: one(address, REST_PREDICT, requests.predict_rest, LOAD)

        measures = {
            "empty call, 128 in flight": lambda: one(cached.grpc, EMPTY, requests.empty, CEILING),
            "PredictByEntity, cached, 128 in flight": predict(cached.grpc, CEILING),
            f"{WALKED}, 128 in flight": predict(walked.grpc, CEILING),
            "PredictByEntity, cached": predict(cached.grpc, LOAD),
            WALKED: predict(walked.grpc, LOAD),
            "PredictByEntity, cache off": predict(bare.grpc, LOAD),
            "REST, cached": rest(cached.http),
            "REST, cache off": rest(bare.http),
        }
        if with_peers:
            service = stack.enter_context(
                peers.fastapi(peers.install(), bench.new_folder(), bench.models, bench.postgres_url)
            )
            agreement.scores(bench, bare.http, service.address)
            measures["FastAPI service"] = lambda: one(
                service.address, PEER_PREDICT, requests.predict_peer, LOAD
            )
        found = in_turns(measures, bench.effort.rounds)
    return _marks(found), list(found.values())


def _marks(found: dict[str, Rounds]) -> list[Mark]:
    empty = found["empty call, 128 in flight"]
    marks = [
        at_least(
            f"{name} ÷ an empty call, 128 in flight",
            0.55,
            found[f"{name}, 128 in flight"].per(empty),
            found[f"{name}, 128 in flight"].failures,
        )
        for name in ("PredictByEntity, cached", WALKED)
    ]
    service = found.get("FastAPI service")
    if service is not None:
        wanted = {
            "PredictByEntity, cached": 20.0,
            WALKED: 20.0,
            "PredictByEntity, cache off": 8.0,
            "REST, cached": 8.0,
            "REST, cache off": 8.0,
        }
        marks += [
            at_least(f"{name} ÷ the FastAPI service", least, found[name].per(service), found[name].failures)
            for name, least in wanted.items()
        ]
    return marks


def open_loop(bench: Bench) -> tuple[list[Mark], list[Rounds]]:
    """Predictions that come at a fixed rate, from the cache."""
    with bench.server("postgres", cached=True) as served:

        def at(calls_per_second: int) -> Callable[[], Seen]:
            load = rate(calls_per_second)
            return lambda: bench.call(served.grpc, PREDICT, bench.requests.predict, load)

        measures = {f"PredictByEntity, cached, {each:,} a second": at(each) for each in OPEN_LIMITS_MS}
        found = list(in_turns(measures, bench.effort.rounds).values())
    limits = zip(found, OPEN_LIMITS_MS.values(), strict=True)
    return [
        below(f"{each.name}, p99", limit, each.p99s, "ms", each.failures) for each, limit in limits
    ], found
