"""Bootstrap intervals cover what they should, and know of rows that belong together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ferrocast_training.evaluations.intervals import bootstrap_interval

RESAMPLES = 400
Floats = NDArray[np.float64]


def mean_interval(values: Floats, groups: NDArray[np.int64], seed: int) -> tuple[float, float]:
    interval = bootstrap_interval(
        lambda rows: float(values[rows].mean()), groups, resamples=RESAMPLES, seed=seed
    )
    assert interval is not None
    return interval


def width(values: Floats, groups: NDArray[np.int64]) -> float:
    low, high = mean_interval(values, groups, 3)
    return high - low


def test_the_interval_of_a_mean_is_the_textbooks() -> None:
    values = np.random.default_rng(1).normal(size=900)
    expected = 2 * 1.96 * values.std() / 30
    assert abs(width(values, np.arange(900)) / expected - 1) < 0.15


def test_intervals_cover_the_truth_in_about_95_of_100() -> None:
    chosen, covered = np.random.default_rng(2), 0
    for seed in range(200):
        low, high = mean_interval(chosen.normal(loc=1.0, size=80), np.arange(80), seed)
        covered += low <= 1.0 <= high
    assert 178 <= covered <= 198


def test_rows_that_are_copies_are_no_further_witnesses() -> None:
    values = np.random.default_rng(4).normal(size=200)
    copies = np.repeat(values, 5)
    assert abs(width(copies, np.repeat(np.arange(200), 5)) / width(values, np.arange(200)) - 1) < 0.2
    assert width(copies, np.arange(1000)) < 0.6 * width(values, np.arange(200))


def test_what_is_seldom_defined_has_no_interval() -> None:
    assert bootstrap_interval(lambda rows: float("nan"), np.arange(9), resamples=50, seed=1) is None
