"""What a build by profile is guided by: the calls of the hot path, on each store, cached and not.

    make build-guided

Runs the build of CARGO_TARGET_DIR, which counts what it does and writes that down at its end.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import turns
from bench import EMPTY, FULL, PREDICT, READ, REST_PREDICT, STORES, Bench, bench
from generators import in_flight
from servers import LoadTestError, Served

SECONDS = 2.0
LOAD = in_flight(64)


def drive(prepared: Bench, served: Served) -> None:
    """Each call for some seconds."""
    requests = prepared.requests
    calls: list[tuple[str, str, Path]] = [
        (served.grpc, EMPTY, requests.empty),
        (served.grpc, PREDICT, requests.predict),
        (served.http, REST_PREDICT, requests.predict_rest),
        (served.grpc, READ, requests.one),
        (served.grpc, READ, requests.one_packed),
        (served.grpc, READ, requests.many_packed),
    ]
    for address, what, data in calls:
        seen = prepared.call(address, what, data, LOAD)
        if seen.failures:
            raise LoadTestError(f"{what} failed: {seen.failed}")


def main() -> None:
    """Drives a server of each kind."""
    with bench(replace(FULL, seconds=SECONDS, rounds=1)) as prepared:
        for store in STORES:
            for cached in (True, False):
                for runtime in (None, "trees"):
                    turns.say(f"{store}, {'cached' if cached else 'cache off'}, {runtime or 'onnx'}")
                    with prepared.server(store, cached=cached, runtime=runtime) as served:
                        drive(prepared, served)


if __name__ == "__main__":
    turns.to_the_end(main)
