"""Plots of a run, as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from generators import Seen
from matplotlib.axes import Axes
from scenarios import Point

PERCENTILES: list[tuple[str, Callable[[Seen], float]]] = [
    ("p50", lambda seen: seen.p50_ms),
    ("p90", lambda seen: seen.p90_ms),
    ("p99", lambda seen: seen.p99_ms),
    ("p99.9", lambda seen: seen.p999_ms),
]
WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 5.0, 3.6, 110


def latency_over_rate(points: Sequence[Point], path: Path) -> None:
    """Open loop: percentiles over the rate that requests come at, a server each."""
    kept = [point for point in points if point.what == "PredictByEntity" and point.load.rate]
    _grid(kept, path, "requests a second", lambda point: point.load.rate)


def latency_over_in_flight(points: Sequence[Point], path: Path) -> None:
    """Closed loop: percentiles over the requests in flight, a server each."""
    kept = [p for p in points if p.what == "PredictByEntity" and not p.load.rate and not p.is_cold]
    _grid(kept, path, "requests in flight", lambda point: point.load.in_flight)


def _grid(points: list[Point], path: Path, label: str, x_of: Callable[[Point], float]) -> None:
    servers = list(dict.fromkeys(point.server for point in points))
    columns = 2
    rows = -(-len(servers) // columns)
    size = (columns * WIDTH_INCHES, rows * HEIGHT_INCHES)
    figure, grid = plt.subplots(rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for axes, server in zip(grid.flat, servers, strict=False):
        own = sorted((point for point in points if point.server == server), key=x_of)
        for name, value_of in PERCENTILES:
            axes.plot([x_of(p) for p in own], [value_of(p.seen) for p in own], marker="o", label=name)
        _label(axes, f"PredictByEntity, {server}", label, "latency, ms")
    figure.tight_layout()
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)


def throughput(points: Sequence[Point], path: Path) -> None:
    """Closed loop: calls a second over the requests in flight, all servers in one."""
    kept = [p for p in points if p.what == "PredictByEntity" and not p.load.rate and not p.is_cold]
    figure, axes = plt.subplots(figsize=(2 * WIDTH_INCHES, HEIGHT_INCHES))
    for server in dict.fromkeys(point.server for point in kept):
        own = [point for point in kept if point.server == server]
        rates = [point.seen.calls_per_second for point in own]
        axes.plot([point.load.in_flight for point in own], rates, marker="o", label=server)
    _label(axes, "PredictByEntity", "requests in flight", "calls a second")
    figure.tight_layout()
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)


def over_time(series: Sequence[tuple[str, Sequence[float], Sequence[float]]], path: Path, title: str) -> None:
    """Some quantities over the minutes of a run, one below the other."""
    size = (2 * WIDTH_INCHES, len(series) * HEIGHT_INCHES / 1.5)
    figure, grid = plt.subplots(len(series), 1, figsize=size, sharex=True, squeeze=False)
    for axes, (name, minutes, values) in zip(grid.flat, series, strict=True):
        axes.plot(minutes, values)
        axes.set_ylim(bottom=0)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    grid.flat[0].set_title(title)
    grid.flat[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(which="both", alpha=0.3)
    axes.legend(fontsize="small")
