"""What the ledger costs whoever asks for predictions.

    make loadtest-ledger              # or: python3 loadtest/ledger.py --store sqlite --seconds 5 --rounds 3

Serves models/credit_risk by the release build over a throw-away PostgreSQL (or an embedded store), two
servers one after the other in each round: one that keeps no predictions, one that keeps all. ghz calls
Predict with one row and with 100, and PredictByEntity with one loan. Prints a Markdown table of the best round
of each, and how many predictions were kept and lost. Server, database and ghz share the machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from servers import ROOT, ferrocast, ghz, grpcurl, postgres, run_ferrocast, scratch

SERVICE = "ferrocast.v1.PredictionService"
MODEL = "credit_risk"
REQUESTS_PREPARED = 500
LOADS = {"1 in flight": ["-c", "1"], "32 in flight": ["-c", "32", "--connections", "8"]}
DRAIN_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Measure:
    """One call under one load."""

    rps: float
    p50_ms: float
    p99_ms: float
    failed: int


def write_requests(folder: Path) -> dict[str, tuple[str, Path]]:
    """Prepared requests by what they are: the rpc and the file."""
    chosen = random.Random(1)
    with (ROOT / "models" / MODEL / "data" / "expected_scores.csv").open(newline="") as file:
        loans = [row["loan_id"] for row in csv.DictReader(file)]

    def row() -> dict[str, object]:
        return {
            "annual_inc": chosen.randrange(10_000, 200_000),
            "term": chosen.choice(["term_36", "term_60"]),
        }

    calls: dict[str, tuple[str, list[dict[str, object]]]] = {
        "Predict, 1 row": (
            "Predict",
            [{"model": MODEL, "rows": [row()]} for _ in range(REQUESTS_PREPARED)],
        ),
        "Predict, 100 rows": (
            "Predict",
            [{"model": MODEL, "rows": [row() for _ in range(100)]} for _ in range(20)],
        ),
        "PredictByEntity, 1 loan": (
            "PredictByEntity",
            [
                {"model": MODEL, "entities": [{"loan_id": chosen.choice(loans)}]}
                for _ in range(REQUESTS_PREPARED)
            ],
        ),
    }
    written = {}
    for number, (label, (rpc, requests)) in enumerate(calls.items()):
        path = folder / f"requests{number}.json"
        path.write_text(json.dumps(requests))
        written[label] = (f"{SERVICE}.{rpc}", path)
    return written


def measure(address: str, call: str, data: Path, seconds: int, load: list[str]) -> Measure:
    """Calls for some seconds."""
    report = ghz(address, call, data, seconds, load)
    latencies = {entry["percentage"]: entry["latency"] / 1e6 for entry in report["latencyDistribution"] or []}
    failed = sum(count for code, count in report["statusCodeDistribution"].items() if code != "OK")
    return Measure(report["rps"], latencies.get(50, 0.0), latencies.get(99, 0.0), failed)


def drained(address: str) -> dict[str, int]:
    """The ledger's counters, once nothing waits any more."""
    give_up_at = time.monotonic() + DRAIN_SECONDS_MAX
    while True:
        answer = grpcurl(address, f"{SERVICE}/GetLedgerStatus")
        counts = {name: int(value) for name, value in answer.items() if not isinstance(value, bool)}
        if counts.get("queued", 0) == 0 or time.monotonic() > give_up_at:
            return counts
        time.sleep(0.1)


def main() -> None:
    """Starts what is needed, measures, prints."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--store", choices=["postgres", "sqlite"], default="postgres")
    options.add_argument("--seconds", type=int, default=5, help="how long each combination is measured")
    options.add_argument("--rounds", type=int, default=3, help="of which the best counts")
    asked = options.parse_args()
    best: dict[tuple[str, str, bool], Measure] = {}
    kept: dict[str, int] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        models = ROOT / "models"
        url = (
            f"sqlite:{folder / 'store.db'}"
            if asked.store == "sqlite"
            else stack.enter_context(postgres(folder))
        )
        settings = {"telemetry.log_filter": "warn", "database.url": url}
        flags = [flag for name, value in settings.items() for flag in ("--set", f"{name}={value}")]
        for command in ("apply", "materialize"):
            run_ferrocast(command, "--models", models, *flags, cwd=folder)
        requests = write_requests(folder)
        for _ in range(asked.rounds):
            for is_kept in (False, True):
                enabled = {"ledger.enabled": "true" if is_kept else "false"}
                with ferrocast(folder, models, settings | enabled) as address:
                    for label, (call, data) in requests.items():
                        measure(address, call, data, 1, LOADS["32 in flight"])
                        for name, load in LOADS.items():
                            done = measure(address, call, data, asked.seconds, load)
                            key = (label, name, is_kept)
                            if key not in best or done.rps > best[key].rps:
                                best[key] = done
                    for name, count in drained(address).items() if is_kept else ():
                        kept[name] = kept.get(name, 0) + count
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    print(
        f"{MODEL} on {asked.store}, commit {commit}, {os.cpu_count()} cores ({platform.machine()}) shared by "
        f"server, store and ghz, the best of {asked.rounds} rounds of {asked.seconds} s each\n"
    )
    print("| call | load | calls/s without | with | ratio | p50 ms without | with | p99 ms without | with |")
    print("|---|---|---|---|---|---|---|---|---|")
    for label in requests:
        for name in LOADS:
            without, beside = best[label, name, False], best[label, name, True]
            assert without.failed == beside.failed == 0, (without, beside)
            ratio = beside.rps / without.rps
            print(
                f"| {label} | {name} | {without.rps:,.0f} | {beside.rps:,.0f} | {ratio:.3f} "
                f"| {without.p50_ms:.2f} | {beside.p50_ms:.2f} | {without.p99_ms:.2f} | {beside.p99_ms:.2f} |"
            )
    print("\nPredictions:", ", ".join(f"{name} {count:,}" for name, count in sorted(kept.items())))


if __name__ == "__main__":
    main()
