"""All marks and scenarios, and the report of them.

    make loadtest                     # half an hour
    make loadtest-quick               # the same in minutes, with few users and single rounds: to try it

Starts what it needs on free loopback ports: PostgreSQL, Redis, the server's release build, the FastAPI
service and Feast's server. Writes target/loadtest/report/report.md with its plots.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import footprint
import hot_path
import loads
import machine
import others
import peers
import plots
import reads
import scenarios
import turns
from bench import FULL, QUICK, Bench, Effort, bench
from mark import Mark
from report import Report
from scenarios import Point
from turns import Rounds, say, table

METHOD = (
    "Server, store and load generator share the machine, so what counts is the ratio of what was measured "
    "in turns, round by round. loadgen sends another user with every request, counts as answered what has "
    "the gRPC status OK (or HTTP 200), and counts a latency at a fixed rate from when the request was "
    "due. Cached: all users are in the server's cache. No prediction is kept, by nobody "
    "(`ledger.enabled=false`). Both peers run on two workers; features stand in typed columns. “Others' "
    "use” is the share of all processors that went to programs that are none of the test's: a round with "
    "much of it tells little."
)


def main() -> None:
    """Measures everything and writes the report."""
    raw = argparse.RawDescriptionHelpFormatter
    options = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    options.add_argument("--quick", action="store_true", help="few users, single rounds")
    options.add_argument("--no-scenarios", action="store_true", help="the marks alone")
    asked = options.parse_args()
    effort = QUICK if asked.quick else FULL
    report = Report("report", "Load test")
    use = machine.OtherUse()
    with bench(effort) as prepared:
        marks, sections = _marks(prepared)
        checked = others.measure(prepared)
        points = [] if asked.no_scenarios else scenarios.measure(prepared)
    facts = machine.describe() | machine.tools() | peers.versions()
    report.facts(facts | {"Others' use of the processors": f"{use.share():.0%}"} | _effort(effort))
    report.marks(marks)
    report.section("How it is measured", METHOD)
    for title, text in sections:
        report.section(title, text)
    report.section("By other load generators", _checked(checked))
    if points:
        _scenarios(report, points)
    say(f"\n{report.write()}")


def _marks(prepared: Bench) -> tuple[list[Mark], list[tuple[str, str]]]:
    """All marks, and the tables that they come from."""
    feast = peers.Feast(peers.install(), prepared.new_folder(), prepared.models, prepared.postgres_url)
    feast.apply()
    predicted, predictions = hot_path.throughput(prepared)
    on_time, open_predictions = hot_path.open_loop(prepared)
    read_on_time, open_reads = reads.open_loop(prepared)
    loaded, load_rows = loads.measure(prepared, feast)
    read, feast_reads = reads.against_feast(prepared, feast)
    small = footprint.start(prepared) + footprint.memory(prepared)
    peer_rows = footprint.of_peers(prepared, feast)
    sections = [
        ("Predictions", _rounds([*predictions, *open_predictions])),
        ("Reading features", _rounds([*open_reads, *feast_reads])),
        ("Loading", table(loads.HEADER, load_rows)),
        ("The peers at rest", table(footprint.PEERS_HEADER, peer_rows)),
    ]
    return [*predicted, *on_time, *read_on_time, *read, *loaded, *small], sections


def _effort(effort: Effort) -> dict[str, str]:
    text = f"{effort.users:,} users, {effort.rounds} rounds of {effort.seconds:g} s"
    return {"Measured": text}


def _rounds(rounds: Sequence[Rounds]) -> str:
    return table(turns.HEADER, [each.row() for each in rounds])


def _checked(rounds: list[Rounds]) -> str:
    header = ["what", "calls/s", "p50 ms", "p99 ms", "failed", "generator's µs a call"]
    rows = []
    for each in rounds:
        seen = each.middle
        micros = 1e6 * seen.generator_cpu_seconds / max(seen.calls, 1)
        numbers = [f"{seen.calls_per_second:,.0f}", f"{seen.p50_ms:.2f}", f"{seen.p99_ms:.2f}"]
        rows.append([each.name, *numbers, f"{each.failures:,}", f"{micros:.1f}"])
    return (
        table(header, rows)
        + "\nh2load tells the mean in place of p50, and sends one body; its warm-up is in its own time.\n"
    )


def _scenarios(report: Report, points: list[Point]) -> None:
    rate_plot = report.plot(
        "latency_over_rate", "Latency over the rate", lambda path: plots.latency_over_rate(points, path)
    )
    flight_plot = report.plot(
        "latency_over_in_flight",
        "Latency over the requests in flight",
        lambda path: plots.latency_over_in_flight(points, path),
    )
    throughput = report.plot("throughput", "Throughput", lambda path: plots.throughput(points, path))
    report.section("Latency over load", rate_plot, flight_plot, throughput)
    cold = "Cold: the first seconds of a server that has just become ready, with nothing in its cache."
    report.section("All scenarios", cold, table(scenarios.HEADER, [point.row() for point in points]))


if __name__ == "__main__":
    main()
