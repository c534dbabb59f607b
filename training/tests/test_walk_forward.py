"""Walking forward: no fold sees its future, chance measures as chance, and a leak shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ferrocast_training.errors import DataError
from ferrocast_training.evaluations.intervals import auc
from ferrocast_training.evaluations.walk_forward import (
    Indices,
    Scores,
    mean_auc_within,
    walk_forward,
    yearly_folds,
)

DAYS = pd.Series(pd.date_range("2001-01-01T21:00Z", "2006-12-31T21:00Z", freq="B"))
KNOWN = DAYS.shift(-1).fillna(DAYS.iloc[-1] + pd.Timedelta(days=1))


def test_each_fold_is_trained_on_all_years_before() -> None:
    folds = list(yearly_folds(DAYS, KNOWN, 2003))
    assert [fold.year for fold in folds] == [2003, 2004, 2005, 2006]
    for fold in folds:
        assert set(DAYS.dt.year.iloc[fold.train]) == set(range(2001, fold.year - 1))
        assert set(DAYS.dt.year.iloc[fold.validation]) == {fold.year - 1}
        assert set(DAYS.dt.year.iloc[fold.test]) == {fold.year}


def test_a_label_known_only_later_is_not_learned_from() -> None:
    slow = DAYS + pd.Timedelta(days=30)
    for fold in yearly_folds(DAYS, slow, 2003):
        assert slow.iloc[fold.train].max() <= DAYS.iloc[fold.validation].min()
        assert slow.iloc[fold.validation].max() <= DAYS.iloc[fold.test].min()
        assert len(fold.validation) < 250


def test_too_short_a_past_is_refused() -> None:
    with pytest.raises(DataError, match=r"walk-forward from 2002: the rows are of 2001 to 2006"):
        list(yearly_folds(DAYS, KNOWN, 2002))


def test_a_year_without_rows_is_refused() -> None:
    gap = (DAYS.dt.year != 2004).to_numpy()
    with pytest.raises(DataError, match="no label of 2004 is known before 2005 is scored"):
        list(yearly_folds(DAYS[gap].reset_index(drop=True), KNOWN[gap].reset_index(drop=True), 2003))


def report(scores: Scores, labels: np.ndarray) -> dict[str, Any]:
    def fit_and_score(train: Indices, validation: Indices, test: Indices) -> Scores:
        return scores[test]

    folds = yearly_folds(DAYS, KNOWN, 2003)
    return walk_forward(folds, labels, DAYS, fit_and_score, resamples=200, seed=9)


def test_chance_is_a_half_and_its_interval_holds_the_half() -> None:
    chosen = np.random.default_rng(11)
    labels, scores = chosen.integers(0, 2, len(DAYS)), chosen.uniform(0.4, 0.6, len(DAYS))
    together = report(scores, labels)["all"]
    low, high = together["mean_roc_auc_95"]
    assert abs(together["mean_roc_auc"] - 0.5) < 0.04
    assert low < 0.5 < high
    assert high - low < 0.12


def test_a_leak_is_seen_in_every_fold() -> None:
    chosen = np.random.default_rng(12)
    labels = chosen.integers(0, 2, len(DAYS))
    made = report(0.3 + 0.4 * labels + chosen.normal(0, 0.05, len(DAYS)), labels)
    assert made["all"]["years_above_half"] == made["all"]["years"] == 4
    assert all(fold["roc_auc"] > 0.99 for fold in made["folds"])


def test_our_ranking_measure_is_that_of_scikit_learn() -> None:
    chosen = np.random.default_rng(13)
    for digits in (1, 6):  # with and without equal scores
        labels, scores = chosen.integers(0, 2, 500), chosen.random(500).round(digits)
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert np.isnan(auc(np.ones(3, dtype=np.int64), np.ones(3)))


def test_scores_of_different_models_are_not_ranked_against_each_other() -> None:
    labels = np.array([0, 1, 0, 1])
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    assert mean_auc_within(labels, scores, np.array([1, 1, 2, 2])) == 1.0
    assert mean_auc_within(labels, scores, np.array([1, 1, 1, 1])) == 0.75
