"""All marks and scenarios, and the report of them.

    make loadtest                     # half an hour
    make loadtest-quick               # the same in minutes, with few users and single rounds: to try it

Starts what it needs on free loopback ports: PostgreSQL, Redis, the server's release build, the FastAPI
service and Feast's server. Writes target/loadtest/report/report.md with its plots.
"""

from __future__ import annotations

import argparse
import math
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import footprint
import hot_path
import loads
import machine
import mark
import others
import peers
import plots
import profiles
import reads
import scenarios
import turns
from bench import FULL, QUICK, Bench, Effort, bench
from mark import Mark
from report import Report
from scenarios import Point
from servers import LoadTestError
from turns import Rounds, say, table, to_the_end

METHOD = (
    "Server, store and load generator share the machine, so what counts is the ratio of what was measured "
    "in turns, round by round. loadgen sends another user with every request, counts as answered what has "
    "the gRPC status OK (or HTTP 200), and counts a latency at a fixed rate from when the request was "
    "due. Cached: all users are in the server's cache. No prediction is kept, by nobody "
    "(`ledger.enabled=false`). Both peers run on two workers; features stand in typed columns. “Others' "
    "use” is the share of all processors that went to programs that are none of the test's: a round with "
    "much of it tells little."
)


# What a step gives: marks, and the text of its section.
Found = tuple[list[Mark], str]


def main() -> None:
    """Measures everything and writes the report, with what could not be measured where that is so."""
    raw = argparse.RawDescriptionHelpFormatter
    options = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    options.add_argument("--quick", action="store_true", help="few users, single rounds")
    options.add_argument("--no-scenarios", action="store_true", help="the marks alone")
    asked = options.parse_args()
    effort = QUICK if asked.quick else FULL
    report = Report("report", "Load test")
    use = machine.OtherUse()
    marks: list[Mark] = []
    sections, faults = [], []
    with bench(effort) as prepared:
        facts = machine.describe() | machine.tools() | peers.versions()
        for title, step in _steps(prepared, report, with_scenarios=not asked.no_scenarios):
            try:
                found, text = step()
            except (LoadTestError, subprocess.SubprocessError) as fault:
                faults.append(f"{title}: {fault}")
                found, text = [], f"Could not be measured: {fault}"
                say(faults[-1])
            marks += found
            sections.append((title, text))
    report.facts(facts | {"Others' use of the processors": f"{use.share():.0%}"} | _effort(effort))
    report.marks(marks)
    report.section("How it is measured", METHOD)
    for title, text in sections:
        report.section(title, text)
    say(f"\n{mark.table_of(marks)}\n{report.write()}")
    if faults:
        raise LoadTestError("not all was measured: " + "; ".join(faults))


def _steps(prepared: Bench, report: Report, *, with_scenarios: bool) -> list[tuple[str, Callable[[], Found]]]:
    """What is measured, in this order."""
    feast = peers.Feast(peers.install(), prepared.new_folder(), prepared.models, prepared.postgres_url)
    steps: list[tuple[str, Callable[[], Found]]] = [
        ("Predictions", lambda: _rounds(hot_path.throughput(prepared))),
        ("Predictions at a fixed rate", lambda: _rounds(hot_path.open_loop(prepared))),
        ("Reading features at a fixed rate", lambda: _rounds(reads.open_loop(prepared))),
        ("Loading", lambda: loads.measure(prepared, feast)),
        ("Reading features, and Feast", lambda: _rounds(reads.against_feast(prepared, feast))),
        ("Start and memory", lambda: footprint.measure(prepared, feast)),
        ("What the time goes to", lambda: ([], profiles.measure(prepared))),
        ("By other load generators", lambda: ([], _checked(others.measure(prepared)))),
    ]
    if with_scenarios:
        steps.append(("Scenarios", lambda: ([], _scenarios(report, scenarios.measure(prepared)))))
    return steps


def _effort(effort: Effort) -> dict[str, str]:
    text = f"{effort.users:,} users, {effort.seconds:g} s each, in {effort.rounds} rounds"
    return {"Measured": text}


def _rounds(measured: tuple[list[Mark], Sequence[Rounds]]) -> Found:
    marks, rounds = measured
    return marks, table(turns.HEADER, [each.row() for each in rounds])


def _checked(rounds: list[Rounds]) -> str:
    header = ["what", "calls/s", "p50 ms", "p99 ms", "failed", "generator's µs a call"]
    rows = []
    for each in rounds:
        seen = each.middle
        micros = 1e6 * seen.generator_cpu_seconds / max(seen.calls, 1)
        p99 = "" if math.isnan(seen.p99_ms) else f"{seen.p99_ms:.2f}"
        numbers = [f"{seen.calls_per_second:,.0f}", f"{seen.p50_ms:.2f}", p99]
        rows.append([each.name, *numbers, f"{each.failures:,}", f"{micros:.1f}"])
    return (
        table(header, rows)
        + "\nh2load tells the mean in place of p50, and sends one body; its warm-up is in its own time.\n"
    )


def _scenarios(report: Report, points: list[Point]) -> str:
    drawn: list[tuple[str, str, Callable[[Sequence[Point], Path], None]]] = [
        ("latency_over_rate", "Latency over the rate", plots.latency_over_rate),
        ("latency_over_in_flight", "Latency over the requests in flight", plots.latency_over_in_flight),
        ("throughput", "Throughput over the requests in flight", plots.throughput),
    ]
    shown = [report.plot(name, text, partial(draw, points)) for name, text, draw in drawn]
    cold = "Cold: the first seconds of a server that has just become ready, with nothing in its cache.\n"
    return "\n".join([*shown, cold, table(scenarios.HEADER, [point.row() for point in points])])


if __name__ == "__main__":
    to_the_end(main)
