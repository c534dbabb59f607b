"""The evaluation `walk_forward`: the use case's own model, trained anew for each year on all years before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ferrocast_training.errors import SettingsError
from ferrocast_training.evaluations.evaluation import Evaluated, Extra, params_of
from ferrocast_training.evaluations.walk_forward import Indices, Scores, walk_forward, yearly_folds
from ferrocast_training.pipeline import train
from ferrocast_training.plots import BLUE, GREY, figure


@dataclass(frozen=True)
class Params:
    """`first_test_year` on; `known_at` is the column of the label file that says when a label is known."""

    first_test_year: int
    known_at: str
    resamples: int = 500
    seed: int = 0


def evaluate_by_year(evaluated: Evaluated, params: Mapping[str, Any]) -> Extra:
    """Train and score a fold a year, and report each with its interval."""
    settings, dataset = params_of(Params, "walk_forward", params), evaluated.dataset
    if settings.known_at not in dataset.kept:
        raise SettingsError(
            f"[evaluate.extra.walk_forward] known_at: [label] keep has no {settings.known_at}"
        )
    frame, labels = evaluated.frame, dataset.labels

    def fit_and_score(training: Indices, validation: Indices, test: Indices) -> Scores:
        learned, watched = ((frame.iloc[rows], labels[rows]) for rows in (training, validation))
        trained = train(learned, watched, evaluated.contract, evaluated.use_case.train)
        return trained.scores(frame.iloc[test])

    metrics = walk_forward(
        yearly_folds(dataset.times, dataset.kept[settings.known_at], settings.first_test_year),
        labels,
        dataset.times,
        fit_and_score,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return Extra(metrics, _card(metrics), {"walk_forward": _plot(metrics)})


def _card(metrics: dict[str, Any]) -> str:
    rows = [
        f"| {fold['year']} | {fold['trained_on']:,} | {fold['rows']:,} | {fold['positive_rate']:.3f} "
        f"| {fold['roc_auc']:.3f} | {_between(fold['roc_auc_95'])} "
        f"| {fold['log_loss']:.4f} | {fold['log_loss_constant_rate']:.4f} |"
        for fold in metrics["folds"]
    ]
    together = metrics["all"]
    return "\n".join(
        [
            "Each year is scored by a model of all years before it, the last of which it stops at. "
            "Intervals: 95 %, bootstrap over days.",
            "",
            "| year | trained on | rows | positive | ROC-AUC | 95 % | log-loss | constant rate |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"All years: mean ROC-AUC {together['mean_roc_auc']:.4f} "
            f"({_between(together['mean_roc_auc_95'], 4)}) over {together['rows']:,} rows; "
            f"above 0.5 in {together['years_above_half']} of {together['years']} years.",
        ]
    )


def _between(interval: list[float] | None, digits: int = 3) -> str:
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}" if interval else "not known"


def _plot(metrics: dict[str, Any]) -> Figure:
    folds = metrics["folds"]
    years = [fold["year"] for fold in folds]
    middle = np.array([fold["roc_auc"] for fold in folds])
    ends = np.array([fold["roc_auc_95"] or [fold["roc_auc"]] * 2 for fold in folds]).T
    made, axes = figure("Walk-forward: each year by a model of all before", "test year", "ROC-AUC (95 %)")
    axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1)
    axes.errorbar(years, middle, yerr=np.abs(ends - middle), fmt="o", capsize=3, color=BLUE)
    axes.set_xticks(years)
    return made
