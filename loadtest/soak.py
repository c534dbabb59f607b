"""Predictions for a long time, while versions are swapped and features written: nothing fails, memory stays.

    make loadtest-soak                # 20 minutes; ARGS="--minutes 2" to try it

PredictByEntity at a fixed rate on PostgreSQL with the cache and the ledger on. All the while one thread
writes batches of rows of the same users by REST, another swaps two versions of the model: the alias
moves, the version that it left is unloaded and loaded again. Memory is sampled each second. Writes
target/loadtest/soak/report.md with a plot.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median

import machine
import plots
from agreement import post
from bench import FULL, PREDICT, Bench, bench
from generators import Seen, call, rate
from machine import resident_bytes
from report import Report
from servers import LoadTestError, Served
from turns import failures, say, table, to_the_end
from usecase import NAME, NAMES, two_versions, user

SLICE_SECONDS = 10.0
WRITE_EVERY_SECONDS = 0.2
ROWS_A_WRITE = 100
SWAP_EVERY_SECONDS = 5.0
SAMPLE_EVERY_SECONDS = 1.0
# The last quarter of the run against the second one: by then all caches and queues are as full as they get.
GROWTH_MAX = 0.05
MB = 1_000_000


@dataclass
class Counts:
    """What went on beside the predictions."""

    writes: int = 0
    rows: int = 0
    swaps: int = 0
    faults: list[str] = field(default_factory=list)
    minutes: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)


@contextmanager
def every(seconds: float, work: Callable[[], None], counts: Counts) -> Iterator[None]:
    """Does something again and again beside the block; what goes wrong is counted, and it goes on."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            try:
                work()
            except LoadTestError as fault:
                counts.faults.append(str(fault))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Writer:
    """Writes rows of users that are asked for meanwhile."""

    def __init__(self, served: Served, users: int, counts: Counts) -> None:
        """Writes nothing yet."""
        self.url, self.users, self.counts = (
            f"http://{served.http}/v1/featureViews/{NAME}:write",
            users,
            counts,
        )
        self.chosen = random.Random(4)

    def write(self) -> None:
        """One batch."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        users = self.chosen.sample(range(self.users), ROWS_A_WRITE)
        rows = [
            {"user_id": user(one), "eventTimestamp": now}
            | {name: round(self.chosen.gauss(0, 1), 6) for name in NAMES}
            for one in users
        ]
        post(self.url, {"rows": rows})
        self.counts.writes += 1
        self.counts.rows += len(rows)


class Swapper:
    """Lets the alias mean the other version, and loads the one that it left anew."""

    def __init__(self, served: Served, counts: Counts) -> None:
        """Swaps nothing yet."""
        self.url, self.counts = f"http://{served.http}/v1/models/{NAME}", counts

    def swap(self) -> None:
        """Once."""
        on, off = ("2", "1") if self.counts.swaps % 2 == 0 else ("1", "2")
        post(f"{self.url}/aliases/champion", {"version": on}, "PUT")
        post(f"{self.url}:unload", {"version": off})
        post(f"{self.url}:load", {"version": off})
        self.counts.swaps += 1


def soak(bench: Bench, minutes: float, calls_per_second: float) -> tuple[list[Seen], Counts]:
    """All of it together, in slices of ten seconds."""
    counts, slices = Counts(), []
    slice_seconds = min(SLICE_SECONDS, minutes * 60)
    with bench.server("postgres", cached=True, more={"ledger.enabled": "true"}) as served:
        begun = time.monotonic()

        def sample() -> None:
            counts.minutes.append((time.monotonic() - begun) / 60)
            counts.resident_mb.append(resident_bytes(served.pid) / MB)

        writer, swapper = Writer(served, bench.effort.users, counts), Swapper(served, counts)
        with (
            every(SAMPLE_EVERY_SECONDS, sample, counts),
            every(WRITE_EVERY_SECONDS, writer.write, counts),
            every(SWAP_EVERY_SECONDS, swapper.swap, counts),
        ):
            while time.monotonic() - begun < minutes * 60:
                load = rate(calls_per_second)
                try:
                    seen = call(served.grpc, PREDICT, bench.requests.predict, load, slice_seconds, 0)
                except LoadTestError as fault:
                    # What was seen until then is reported.
                    counts.faults.append(str(fault))
                    break
                slices.append(seen)
                say(
                    f"{(time.monotonic() - begun) / 60:.1f} min: {seen.calls_per_second:,.0f} calls/s, "
                    f"p99 {seen.p99_ms:.2f} ms, {failures(seen)}; {counts.rows:,} rows written, "
                    f"{counts.swaps} swaps, {counts.resident_mb[-1]:.0f} MB"
                )
    return slices, counts


def growth(resident_mb: list[float]) -> float:
    """How much more memory the last quarter has than the second."""
    quarter = max(len(resident_mb) // 4, 1)
    return median(resident_mb[-quarter:]) / median(resident_mb[quarter : 2 * quarter]) - 1


def main() -> None:
    """Soaks, writes the report, and fails where a request failed or memory grew."""
    raw = argparse.RawDescriptionHelpFormatter
    options = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    options.add_argument("--minutes", type=float, default=20.0)
    options.add_argument("--rate", type=float, default=500.0, help="predictions a second")
    asked = options.parse_args()
    report = Report("soak", "Soak test")
    with bench(FULL) as prepared:
        prepared = replace(prepared, models=two_versions(prepared.models, prepared.folder / "models"))
        slices, counts = soak(prepared, asked.minutes, asked.rate)
    failed, grown = sum(seen.failures for seen in slices), growth(counts.resident_mb)
    report.facts(machine.describe())
    report.section("What was seen", _summary(slices, counts, failed, grown), _plot(report, slices, counts))
    say(f"\n{report.write()}")
    if failed or counts.faults or grown > GROWTH_MAX:
        faults = f"{len(counts.faults)} writes or swaps failed {counts.faults[:3]}"
        sys.exit(f"not passed: {failed} predictions failed, {faults}, memory grew by {grown:.1%}")


def _summary(slices: list[Seen], counts: Counts, failed: int, grown: float) -> str:
    p99s = [seen.p99_ms for seen in slices]
    rows = [
        ["predictions", f"{sum(seen.calls for seen in slices):,}"],
        ["predictions failed", f"{failed:,}"],
        ["p99 of ten seconds, median and worst", f"{median(p99s):.2f} ms, {max(p99s):.2f} ms"],
        ["rows written, in batches", f"{counts.rows:,} in {counts.writes:,}"],
        ["swaps of the version", f"{counts.swaps:,}"],
        ["other failures", f"{len(counts.faults):,} {counts.faults[:3] or ''}"],
        ["resident memory, first, highest, last", _span(counts.resident_mb)],
        ["last quarter against the second", f"{grown:+.1%}, up to {GROWTH_MAX:.0%} counts as flat"],
    ]
    return table(["what", ""], rows)


def _span(values: list[float]) -> str:
    return f"{values[0]:.0f}, {max(values):.0f}, {values[-1]:.0f} MB"


def _plot(report: Report, slices: list[Seen], counts: Counts) -> str:
    ends = [counts.minutes[-1] * (at + 1) / len(slices) for at in range(len(slices))]
    series = [
        ("resident, MB", counts.minutes, counts.resident_mb),
        ("p99, ms", ends, [seen.p99_ms for seen in slices]),
        ("failed", ends, [float(seen.failures) for seen in slices]),
    ]
    title = "PredictByEntity with writes and swaps going on"
    return report.plot(
        "soak", "Memory and latency over time", lambda path: plots.over_time(series, path, title)
    )


if __name__ == "__main__":
    to_the_end(main)
