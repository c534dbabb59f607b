"""The throughput that the hot path is judged by, in about two minutes.

    make loadtest-marks               # or: ARGS="--seconds 3 --rounds 3 --streams 16"

An empty call, PredictByEntity from the cache and from PostgreSQL, and the FastAPI service, in turns. Prints a
Markdown table of the best round of each. Servers, database and generator share the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import generators
import peers
from generators import Load, Seen, call
from servers import Served, postgres, run_ferrocast, scratch, serve
from usecase import Requests, use_case

EMPTY = "ferrocast.v1.PredictionService/GetLedgerStatus"
PREDICT = "ferrocast.v1.PredictionService/PredictByEntity"
READ = "ferrocast.v1.FeatureService/GetOnlineFeatures"
REST = "/v1/models/wide:predictByEntity"
CACHE = {"cache.bytes_max": str(1 << 30), "cache.age_ms_max": str(86_400_000)}
# The peers keep no predictions either.
SETTINGS = {"telemetry.log_filter": "warn", "ledger.enabled": "false"}


def fill_cache(served: Served, requests: Requests) -> None:
    """Reads all users once."""
    call(served.grpc, READ, requests.everyone, Load(1, 1), seconds=2, warm_seconds=0)


def main() -> None:
    """Starts what is needed, measures, prints."""
    raw = argparse.RawDescriptionHelpFormatter
    options = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--streams", type=int, default=16, help="on each of 8 connections")
    options.add_argument("--no-peers", action="store_true", help="leaves the FastAPI service out")
    asked = options.parse_args()
    generators.build()
    load = Load(streams=asked.streams)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        models, requests = use_case(), Requests(folder)
        url = stack.enter_context(postgres(folder))
        settings = SETTINGS | {"database.url": url}
        flags = [flag for name, value in settings.items() for flag in ("--set", f"{name}={value}")]
        for command in ("apply", "materialize"):
            run_ferrocast(command, "--models", models, *flags, cwd=folder)
        cached = stack.enter_context(serve(scratch_in(folder, "cached"), models, settings | CACHE))
        bare = stack.enter_context(serve(scratch_in(folder, "bare"), models, settings))
        measured: dict[str, Callable[[], Seen]] = {
            "empty call": lambda: call(cached.grpc, EMPTY, requests.empty, load, asked.seconds),
            "PredictByEntity, cached": lambda: call(
                cached.grpc, PREDICT, requests.predict, load, asked.seconds
            ),
            "PredictByEntity, cache off": lambda: call(
                bare.grpc, PREDICT, requests.predict, load, asked.seconds
            ),
            "REST, cached": lambda: call(
                cached.http, REST, requests.predict_rest, Load(32, 1), asked.seconds
            ),
            "REST, cache off": lambda: call(bare.http, REST, requests.predict_rest, Load(32, 1), asked.seconds),
        }
        if not asked.no_peers:
            programs = peers.install()
            address, _ = stack.enter_context(peers.fastapi(programs, folder, models, url))
            measured["FastAPI service"] = lambda: call(
                address, "/predict", requests.predict_peer, Load(32, 1), asked.seconds
            )
        fill_cache(cached, requests)
        found: dict[str, list[Seen]] = {name: [] for name in measured}
        for _ in range(asked.rounds):
            for name, measure in measured.items():
                found[name].append(measure())
                print(name, found[name][-1], flush=True)


def scratch_in(folder: Path, name: str) -> Path:
    """A folder of its own."""
    made = folder / name
    made.mkdir()
    return made


if __name__ == "__main__":
    main()
