"""How fast features are read: 100 entities by 30 features in one call, and one entity by 30.

    make loadtest-features            # or: python3 loadtest/features.py --store postgres --seconds 10

Starts a throw-away PostgreSQL (or an embedded store, or a Redis over PostgreSQL), loads 100,000 entities of
30 doubles, serves them by the release build, calls GetOnlineFeatures by ghz: closed loop at 1, 8 and 32 in
flight, and open loop at 200 calls a second, in the JSON-like and in the packed form. Prints a Markdown table.
Server, database and ghz share the machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from servers import ROOT, ferrocast, ghz, postgres, redis, run_ferrocast, scratch

ENTITIES = 100_000
FEATURES = 30
REQUESTS_PREPARED = 500
NAMES = [f"f{index}" for index in range(FEATURES)]
CALL = "ferrocast.v1.FeatureService.GetOnlineFeatures"


def write_use_case(models: Path, entities: int) -> None:
    """A view of 30 doubles with as many rows as asked for."""
    folder = models / "wide"
    folder.mkdir(parents=True)
    features = ", ".join(f'{{ name = "{name}", type = "double" }}' for name in NAMES)
    (folder / "features.toml").write_text(
        f"""project = "wide"
[[entities]]
name = "user"
join_keys = [{{ name = "user_id", type = "string" }}]
[[feature_views]]
name = "wide"
entity = "user"
source = {{ path = "wide.csv" }}
features = [{features}]
[[feature_services]]
name = "wide"
features = [{", ".join(f'"wide:{name}"' for name in NAMES)}]
"""
    )
    chosen = random.Random(1)
    with (folder / "wide.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "event_timestamp", *NAMES])
        for index in range(entities):
            values = [f"{chosen.random():.6f}" for _ in NAMES]
            rows.writerow([user(index), "2026-01-01T00:00:00Z", *values])


def user(index: int) -> str:
    """The join key of an entity."""
    return f"user-{index:07d}"


def requests(path: Path, per_call: int, entities: int, is_packed: bool) -> None:
    """Prepared requests for entities at random, which ghz sends one after the other."""
    chosen = random.Random(2)
    calls = []
    for _ in range(REQUESTS_PREPARED):
        asked = [user(chosen.randrange(entities)) for _ in range(per_call)]
        if is_packed:
            keys = [{"name": "user_id", "strings": asked}]
            calls.append({"feature_service": "wide", "format": "PACKED", "entity_columns": keys})
        else:
            calls.append({"feature_service": "wide", "entities": [{"user_id": one} for one in asked]})
    path.write_text(json.dumps(calls))


def line(label: str, load: str, report: dict[str, Any]) -> str:
    """A row of the table."""
    latencies = {entry["percentage"]: entry["latency"] / 1e6 for entry in report["latencyDistribution"] or []}
    failed = sum(count for code, count in report["statusCodeDistribution"].items() if code != "OK")
    return (
        f"| {label} | {load} | {report['rps']:,.0f} | {latencies.get(50, 0):.2f} "
        f"| {latencies.get(99, 0):.2f} | {report['count']:,} | {failed} |"
    )


def measure(address: str, folder: Path, seconds: int, entities: int) -> list[str]:
    """Every combination, a row each."""
    lines = []
    data = folder / "requests.json"
    loads = {
        "1 in flight": ["-c", "1"],
        "8 in flight": ["-c", "8", "--connections", "8"],
        "32 in flight": ["-c", "32", "--connections", "8"],
        "200 a second": ["-c", "32", "--connections", "8", "--rps", "200", "--async"],
    }
    for per_call in (1, 100):
        for is_packed in (False, True):
            requests(data, per_call, entities, is_packed)
            ghz(address, CALL, data, 2, loads["8 in flight"])
            label = f"{per_call} by {FEATURES}, {'packed' if is_packed else 'columns of values'}"
            for name, load in loads.items():
                lines.append(line(label, name, ghz(address, CALL, data, seconds, load)))
                print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Starts what is needed, measures, prints."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--store", choices=["postgres", "sqlite", "redis"], default="postgres")
    options.add_argument("--seconds", type=int, default=10, help="how long each combination is measured")
    options.add_argument("--entities", type=int, default=ENTITIES)
    asked = options.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        models = folder / "models"
        write_use_case(models, asked.entities)
        settings = {"telemetry.log_filter": "warn"}
        if asked.store == "sqlite":
            settings["database.url"] = f"sqlite:{folder / 'store.db'}"
        else:
            settings["database.url"] = stack.enter_context(postgres(folder))
        if asked.store == "redis":
            settings["online.redis_urls"] = stack.enter_context(redis(folder))
        flags = [flag for name, value in settings.items() for flag in ("--set", f"{name}={value}")]
        for command in ("apply", "materialize"):
            run_ferrocast(command, "--models", models, *flags, cwd=folder)
        address = stack.enter_context(ferrocast(folder, models, settings))
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        )
        print(
            f"GetOnlineFeatures on {asked.store}, {asked.entities:,} entities, "
            f"commit {commit.stdout.strip()}, "
            f"{os.cpu_count()} cores ({platform.machine()}) shared by server, store and ghz, "
            f"{asked.seconds} s each\n"
        )
        print("| entities by features, form | load | calls/s | p50 ms | p99 ms | calls | failed |")
        print("|---|---|---|---|---|---|---|", flush=True)
        measure(address, folder, asked.seconds, asked.entities)


if __name__ == "__main__":
    main()
