"""The server against itself: with other settings, or built in another way, in turns.

    make loadtest-compare ARGS="--with server.threads=1 --with server.threads=4"
    make loadtest-compare ARGS="--build fat=/somewhere/release/ferrocast --rounds 5"
    make loadtest-compare ARGS="--uncached --with database.connections_max=2"

Empty calls, features and predictions from the cache, by ONNX Runtime and by `runtime = "trees"`, on eight
connections and on one, and p99 at fixed rates. With `--uncached`, predictions and features that are read from
PostgreSQL by each call, of one view and of three.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import turns
from bench import EMPTY, FULL, PREDICT, READ, REST_PREDICT, Bench, bench
from generators import Load, Seen, in_flight, rate
from machine import commit
from servers import LoadTestError, Served
from turns import Rounds

HEADER = ["what", "of", "calls/s", "p50 ms", "p99 ms", "÷ as it is", "of the rounds", "failed"]
CEILING, BUSY, FULL_UP, CALM, SWIFT = in_flight(128), in_flight(64), in_flight(256), rate(5_000), rate(16_000)
LARGE = in_flight(8)
ALONE = Load(connections=1, streams=64)
UNCACHED = (in_flight(1), in_flight(8), in_flight(64), in_flight(256), rate(5_000))
AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Variant:
    """A server that differs from the others."""

    name: str
    settings: dict[str, str] = field(default_factory=dict)
    binary: Path | None = None


def measure(prepared: Bench, variants: list[Variant]) -> str:
    """Each load with all variants in turns, as a table."""
    rows = []
    for runtime in ("onnx", "trees"):
        with ExitStack() as stack:
            servers = {each.name: _start(stack, prepared, each, runtime) for each in variants}
            loads = {
                "PredictByEntity, cached": (PREDICT, prepared.requests.predict, BUSY),
                "PredictByEntity of 100, cached": (PREDICT, prepared.requests.predict_many, LARGE),
            }
            if runtime == "onnx":
                loads["REST, cached"] = (REST_PREDICT, prepared.requests.predict_rest, BUSY)
                loads["empty call"] = (EMPTY, prepared.requests.empty, CEILING)
                loads["GetOnlineFeatures 1 by 30, packed"] = (READ, prepared.requests.one_packed, BUSY)
                predict = prepared.requests.predict
                loads["PredictByEntity, 256 in flight"] = (PREDICT, predict, FULL_UP)
                loads["PredictByEntity, 64 in flight on one connection"] = (PREDICT, predict, ALONE)
                loads["PredictByEntity, 5,000 a second"] = (PREDICT, predict, CALM)
                loads["PredictByEntity, 16,000 a second"] = (PREDICT, predict, SWIFT)
            for what, (method, data, load) in loads.items():
                named = what if runtime == "onnx" else f"{what}, runtime trees"
                rows += _rows(prepared, named, servers, method, data, load)
    return turns.table(HEADER, rows)


def measure_uncached(prepared: Bench, variants: list[Variant]) -> str:
    """The same where each call reads from PostgreSQL."""
    rows = []
    for views, of in ((1, prepared), (3, prepared.in_views(3))):
        named = "one view" if views == 1 else f"{views} views"
        with ExitStack() as stack:
            servers = {each.name: _start(stack, of, each, "onnx", cached=False) for each in variants}
            requests = of.requests
            loads = {f"PredictByEntity, {each}": (PREDICT, requests.predict, each) for each in UNCACHED}
            loads["GetOnlineFeatures 100 by 30, packed"] = (READ, requests.many_packed, in_flight(32))
            loads["REST"] = (REST_PREDICT, requests.predict_rest, BUSY)
            for what, (method, data, load) in loads.items():
                rows += _rows(of, f"{what}, {named}", servers, method, data, load)
    return turns.table(HEADER, rows)


def _start(
    stack: ExitStack, prepared: Bench, variant: Variant, runtime: str, *, cached: bool = True
) -> Served:
    chosen = None if runtime == "onnx" else runtime
    server = prepared.server(
        "postgres", cached=cached, runtime=chosen, more=variant.settings, binary=variant.binary
    )
    return stack.enter_context(server)


def _rows(
    prepared: Bench, what: str, servers: dict[str, Served], method: str, data: Path, load: Load
) -> list[list[str]]:
    def calling(address: str) -> Callable[[], Seen]:
        return lambda: prepared.call(address, method, data, load)

    is_rest = method == REST_PREDICT
    addresses = {name: served.http if is_rest else served.grpc for name, served in servers.items()}
    measures = {name: calling(address) for name, address in addresses.items()}
    turns.say(what)
    found = turns.in_turns(measures, prepared.effort.rounds)
    base = found[AS_IT_IS]
    return [[what, *_cells(each, base)] for each in found.values()]


def _cells(taken: Rounds, base: Rounds) -> list[str]:
    ratios = taken.per(base)
    return [
        taken.name,
        f"{median(each.calls_per_second for each in taken.seen):,.0f}",
        f"{median(each.p50_ms for each in taken.seen):.2f}",
        f"{median(taken.p99s):.2f}",
        f"{median(ratios):.2f}",
        ", ".join(f"{each:.2f}" for each in ratios),
        f"{taken.failures:,}",
    ]


def _variants(settings: list[str], builds: list[str]) -> list[Variant]:
    found = [Variant(AS_IT_IS)]
    for text in settings:
        pairs = dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)
        if not pairs:
            raise LoadTestError(f'--with "{text}": give name=value, of several with commas between them')
        found.append(Variant(text, settings=pairs))
    for text in builds:
        name, _, path = text.partition("=")
        binary = Path(path).resolve()
        if not path or not binary.is_file():
            raise LoadTestError(f'--build "{text}": give a name and the path of a server, name=path')
        found.append(Variant(name, binary=binary))
    return found


def main() -> None:
    """Measures and prints."""
    raw = argparse.RawDescriptionHelpFormatter
    options = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    options.add_argument("--with", dest="settings", action="append", default=[], help="name=value[,…]")
    options.add_argument("--build", dest="builds", action="append", default=[], help="name=path")
    options.add_argument("--seconds", type=float, default=1.5, help="how long each is measured")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--uncached", action="store_true", help="by what is read from PostgreSQL")
    asked = options.parse_args()
    variants = _variants(asked.settings, asked.builds)
    with bench(replace(FULL, seconds=asked.seconds, rounds=asked.rounds)) as prepared:
        found = (measure_uncached if asked.uncached else measure)(prepared, variants)
    print(f"\nCommit {commit()}\n")
    print(found)


if __name__ == "__main__":
    turns.to_the_end(main)
