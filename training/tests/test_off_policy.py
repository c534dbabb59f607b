"""Off-policy estimates against a shop whose true click rates are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ferrocast_training.errors import DataError
from ferrocast_training.evaluations.off_policy import click_rate, effective_rows, weights

ITEMS = 5
TRUE_RATES = np.array([0.02, 0.05, 0.1, 0.2, 0.4])


def logged(seed: int, rows: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Items shown by a policy that likes the bad ones, with propensities and clicks."""
    chosen = np.random.default_rng(seed)
    probable = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    shown = chosen.choice(ITEMS, size=rows, p=probable)
    return shown, probable[shown], (chosen.random(rows) < TRUE_RATES[shown]).astype(np.int64)


@pytest.mark.parametrize("item", range(ITEMS))
def test_the_estimates_find_what_always_showing_an_item_would_have_earned(item: int) -> None:
    shown, propensities, clicks = logged(21, 20_000)
    report = click_rate(clicks, propensities, shown == item, resamples=300, seed=5)
    for name in ("ipw", "self_normalised"):
        low, high = report[f"{name}_95"]
        assert low <= TRUE_RATES[item] <= high, name
        assert high - low < 0.08
    # The log's own rate is another one.
    assert abs(clicks.mean() - TRUE_RATES[4]) > 0.25


def test_intervals_cover_the_truth_in_about_95_of_100() -> None:
    covered = 0
    for seed in range(100):
        shown, propensities, clicks = logged(seed, 1_500)
        low, high = click_rate(clicks, propensities, shown == 2, resamples=200, seed=seed)["ipw_95"]
        covered += low <= TRUE_RATES[2] <= high
    assert 86 <= covered <= 99


def test_the_logging_policy_itself_earns_what_was_clicked() -> None:
    clicks = np.array([1, 0, 0, 1, 0])
    report = click_rate(clicks, np.ones(5), np.ones(5, dtype=bool), resamples=100, seed=1)
    assert report["ipw"] == report["self_normalised"] == 0.4
    assert report["effective_rows"] == 5.0
    assert (report["rows_shared"], report["clicks_shared"]) == (5, 2)


def test_a_few_heavy_rows_are_worth_few() -> None:
    assert effective_rows(np.array([1.0, 1.0, 1.0, 1.0])) == 4.0
    assert effective_rows(np.array([1000.0, 1.0, 1.0, 1.0])) < 1.01


def test_nothing_in_common_gives_no_self_normalised_rate() -> None:
    report = click_rate(
        np.array([1, 0]), np.array([0.5, 0.5]), np.array([False, False]), resamples=50, seed=1
    )
    assert report["ipw"] == 0.0
    assert report["self_normalised"] is None
    assert report["ipw_95"] is report["self_normalised_95"] is None


def test_no_click_is_no_proof_of_none() -> None:
    shared = np.arange(400) % 4 == 0
    report = click_rate(np.zeros(400, dtype=np.int64), np.full(400, 0.25), shared, resamples=50, seed=1)
    assert report["ipw"] == report["self_normalised"] == 0.0
    assert report["ipw_95"] == report["self_normalised_95"] == [0.0, 0.03]


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.5, float("nan")])
def test_a_propensity_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(DataError, match="row 1: a propensity of"):
        weights(np.array([True, True]), np.array([0.5, wrong]))
