"""Load doubled until it breaks, and what broke.

    make loadtest-stress              # or: ARGS="--seconds 5"

PredictByEntity on PostgreSQL, from the cache and without it: first at a fixed rate that is doubled, then
with a number of requests in flight that is doubled. It is broken where more than one call in a hundred
fails, where the p99 is beyond a second, or where a server answers less than 90 % of what comes. After it,
one more light load tells whether the server has recovered. Writes target/loadtest/stress/report.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import machine
from bench import FULL, PREDICT, QUICK, Bench, bench
from generators import Load, Seen, in_flight, rate
from machine import OtherUse, resident_bytes
from report import Report
from servers import Served
from turns import failures, say, table, to_the_end

FIRST_RATE = 1_000
FIRST_IN_FLIGHT = 64
DOUBLINGS_MAX = 9
FAILED_SHARE_MAX = 0.01
P99_MS_MAX = 1_000.0
ANSWERED_SHARE_MIN = 0.9
RECOVERY = rate(200)
MB = 1_000_000


@dataclass(frozen=True)
class Step:
    """One load, and how the server stood it."""

    load: Load
    seen: Seen
    resident_mb: float
    # The share of the processors that others used meanwhile.
    others: float

    @property
    def broke(self) -> str:
        """What broke, or nothing."""
        seen, reasons = self.seen, []
        calls = seen.calls + seen.failures
        if seen.failures > FAILED_SHARE_MAX * calls:
            reasons.append(failures(seen))
        if seen.p99_ms > P99_MS_MAX:
            reasons.append(f"p99 {seen.p99_ms:,.0f} ms")
        if self.load.rate and seen.calls_per_second < ANSWERED_SHARE_MIN * self.load.rate:
            reasons.append(f"{seen.calls_per_second / self.load.rate:.0%} answered")
        return "; ".join(reasons)

    def row(self) -> list[str]:
        """As a line of a table, below HEADER."""
        seen = self.seen
        latencies = [f"{value:.2f}" for value in (seen.p50_ms, seen.p99_ms, seen.max_ms)]
        rates = f"{seen.calls_per_second:,.0f}"
        state = [f"{self.resident_mb:.0f}", f"{self.others:.0%}", self.broke or failures(seen)]
        return [str(self.load), rates, *latencies, *state]


HEADER = ["load", "answered/s", "p50 ms", "p99 ms", "max ms", "resident MB", "others' use", "what broke"]


def rates() -> Iterator[Load]:
    """Fixed rates, doubled."""
    return (rate(FIRST_RATE * 2**doubling) for doubling in range(DOUBLINGS_MAX))


def calls_in_flight() -> Iterator[Load]:
    """Closed loops, doubled."""
    return (in_flight(FIRST_IN_FLIGHT * 2**doubling) for doubling in range(DOUBLINGS_MAX))


def until_broken(bench: Bench, served: Served, loads: Iterator[Load]) -> list[Step]:
    """Load after load, to the first that breaks it, and one more."""
    steps: list[Step] = []
    for load in loads:
        was_broken = bool(steps and steps[-1].broke)
        steps.append(_step(bench, served, load))
        if was_broken:
            break
    return steps


def _step(bench: Bench, served: Served, load: Load) -> Step:
    others = OtherUse()
    seen = bench.call(served.grpc, PREDICT, bench.requests.predict, load)
    step = Step(load, seen, resident_bytes(served.pid) / MB, others.share())
    say(
        f"{load}: {seen.calls_per_second:,.0f} answered/s, p99 {seen.p99_ms:.1f} ms; {step.broke or 'stands'}"
    )
    return step


def _section(bench: Bench, *, cached: bool, loads: Callable[[], Iterator[Load]]) -> str:
    with bench.server("postgres", cached=cached) as served:
        steps = until_broken(bench, served, loads())
        after = _step(bench, served, RECOVERY)
    limit = next((step for step in steps if step.broke), None)
    verdict = f"Breaks at {limit.load}: {limit.broke}." if limit else "Does not break within the doublings."
    recovered = "It has not recovered" if after.broke else "It recovers"
    tail = f"{recovered}: {after.load} afterwards, p99 {after.seen.p99_ms:.2f} ms, {failures(after.seen)}."
    return f"{verdict} {tail}\n\n{table(HEADER, [step.row() for step in [*steps, after]])}"


def main() -> None:
    """Doubles, and writes the report."""
    raw = argparse.RawDescriptionHelpFormatter
    options = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    options.add_argument("--seconds", type=float, default=5.0, help="how long each load lasts")
    options.add_argument("--quick", action="store_true", help="with few users")
    asked = options.parse_args()
    effort = replace(QUICK if asked.quick else FULL, seconds=asked.seconds)
    report = Report("stress", "Stress test")
    with bench(effort) as prepared:
        sections = [
            (f"{how}, {'cached' if cached else 'cache off'}", _section(prepared, cached=cached, loads=loads))
            for cached in (True, False)
            for how, loads in (("At a fixed rate", rates), ("So many in flight", calls_in_flight))
        ]
    report.facts(machine.describe())
    for title, text in sections:
        report.section(title, text)
    say(f"\n{report.write()}")


if __name__ == "__main__":
    to_the_end(main)
