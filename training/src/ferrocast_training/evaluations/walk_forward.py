"""Walk-forward evaluation: for each year, a model of all the years before it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from ferrocast_training.errors import DataError
from ferrocast_training.evaluations.intervals import auc, bootstrap_interval

Indices = NDArray[np.int64]
Labels = NDArray[np.int64]
Scores = NDArray[np.float64]
# Fits on the first rows, watches the second, and returns the scores of the third.
FitAndScore = Callable[[Indices, Indices, Indices], Scores]
DIGITS = 6


@dataclass(frozen=True)
class Fold:
    """Row numbers of one step: the test year, the year before it to stop at, and all that is older."""

    year: int
    train: Indices
    validation: Indices
    test: Indices


def yearly_folds(
    times: "pd.Series[pd.Timestamp]", known_at: "pd.Series[pd.Timestamp]", first_test_year: int
) -> Iterator[Fold]:
    """Yield a fold a year from `first_test_year` on, with an ever longer past.

    `times` [rows]: when a row is scored. `known_at` [rows]: when its label is known; a row whose label
    is known only after the first scoring of the next part is in neither part before it.
    """
    years = times.dt.year.to_numpy()
    tested = np.unique(years[years >= first_test_year])
    if not len(tested) or years.min() > first_test_year - 2:
        raise DataError(
            f"walk-forward from {first_test_year}: the rows are of {years.min()} to {years.max()}; "
            "two years before the first test year are needed"
        )
    for year in tested:
        test = np.flatnonzero(years == year)
        validation = _known_before(np.flatnonzero(years == year - 1), test, times, known_at)
        if not len(validation):
            raise DataError(f"walk-forward: no label of {year - 1} is known before {year} is scored")
        train = _known_before(np.flatnonzero(years < year - 1), validation, times, known_at)
        yield Fold(int(year), train, validation, test)


def _known_before(
    rows: Indices,
    following: Indices,
    times: "pd.Series[pd.Timestamp]",
    known_at: "pd.Series[pd.Timestamp]",
) -> Indices:
    return rows[(known_at.iloc[rows] <= times.iloc[following].min()).to_numpy()]


def walk_forward(
    folds: Iterator[Fold],
    labels: Labels,
    times: "pd.Series[pd.Timestamp]",
    fit_and_score: FitAndScore,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Report each fold and all of them together, with intervals over days.

    `labels` [rows]: 1 for the positive class. The scores of different folds are of different models, so
    that all together are ranked within their own year only: the mean of the years' ROC-AUC, by rows.
    """
    days = times.dt.floor("D").to_numpy()
    reports: list[dict[str, Any]] = []
    scored: list[tuple[Indices, Scores]] = []
    for fold in folds:
        scores = fit_and_score(fold.train, fold.validation, fold.test)
        scored.append((fold.test, scores))
        base_rate = float(labels[np.concatenate([fold.train, fold.validation])].mean())
        reports.append(
            {"year": fold.year, "trained_on": len(fold.train)}
            | _fold_report(labels[fold.test], scores, base_rate, days[fold.test], resamples, seed)
        )
    return {"folds": reports, "all": _together(reports, scored, labels, days, resamples, seed)}


def _fold_report(
    labels: Labels, scores: Scores, base_rate: float, days: NDArray[Any], resamples: int, seed: int
) -> dict[str, Any]:
    interval = bootstrap_interval(
        lambda rows: auc(labels[rows], scores[rows]), days, resamples=resamples, seed=seed
    )
    return {
        "rows": len(labels),
        "positive_rate": round(float(labels.mean()), DIGITS),
        "roc_auc": _rounded(auc(labels, scores)),
        "roc_auc_95": _rounded_pair(interval),
        "log_loss": _rounded(log_loss(labels, scores, labels=[0, 1])),
        "log_loss_constant_rate": _rounded(log_loss(labels, np.full(len(labels), base_rate), labels=[0, 1])),
    }


def _together(
    reports: list[dict[str, Any]],
    scored: list[tuple[Indices, Scores]],
    labels: Labels,
    days: NDArray[Any],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    tested = np.concatenate([rows for rows, _ in scored])
    scores = np.concatenate([of_fold for _, of_fold in scored])
    fold_of = np.repeat(np.arange(len(scored)), [len(rows) for rows, _ in scored])
    outcomes = labels[tested]

    def mean_auc(rows: Indices) -> float:
        return mean_auc_within(outcomes[rows], scores[rows], fold_of[rows])

    interval = bootstrap_interval(mean_auc, days[tested], resamples=resamples, seed=seed)
    return {
        "rows": len(tested),
        "mean_roc_auc": _rounded(mean_auc(np.arange(len(tested)))),
        "mean_roc_auc_95": _rounded_pair(interval),
        "years_above_half": sum(report["roc_auc"] > 0.5 for report in reports),
        "years": len(reports),
    }


def mean_auc_within(labels: Labels, scores: Scores, groups: NDArray[Any]) -> float:
    """Return the mean of the groups' ROC-AUC, weighted by their rows; groups of one class are left out."""
    parts = [(int((groups == name).sum()), groups == name) for name in np.unique(groups)]
    measured = [(count, auc(labels[rows], scores[rows])) for count, rows in parts]
    defined = [(count, value) for count, value in measured if np.isfinite(value)]
    if not defined:
        return float("nan")
    return sum(count * value for count, value in defined) / sum(count for count, _ in defined)


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)


def _rounded_pair(interval: tuple[float, float] | None) -> list[float] | None:
    return [_rounded(value) for value in interval] if interval else None
