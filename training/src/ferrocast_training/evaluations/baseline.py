"""The evaluation `baseline`: another [train] on the same parts, to hold the model against."""

from collections.abc import Mapping
from typing import Any

from ferrocast_training.evaluate import quality
from ferrocast_training.evaluations.evaluation import Evaluated, Extra, params_of
from ferrocast_training.pipeline import Trained, train
from ferrocast_training.settings import Train

NAME = "baseline"


def evaluate_baseline(evaluated: Evaluated, params: Mapping[str, Any]) -> Extra:
    """Train the baseline and measure it on every part, beside the model."""
    baseline, dataset = train_baseline(evaluated, params), evaluated.dataset
    scores = {
        evaluated.trained.library_name: evaluated.scores,
        f"baseline: {baseline.library_name}": baseline.scores(evaluated.frame),
    }
    metrics = {
        name: {
            part: quality(dataset.labels[rows], of_all[rows]) for part, rows in vars(dataset.parts).items()
        }
        for name, of_all in scores.items()
    }
    return Extra(metrics, _card(metrics))


def train_baseline(evaluated: Evaluated, params: Mapping[str, Any]) -> Trained:
    """Train what `params`, a [train], says."""
    settings = params_of(Train, NAME, {"seed": evaluated.use_case.train.seed} | dict(params))
    training, validation = (
        (evaluated.frame.iloc[rows], evaluated.dataset.labels[rows])
        for rows in (evaluated.dataset.parts.train, evaluated.dataset.parts.validation)
    )
    return train(training, validation, evaluated.contract, settings)


def _card(metrics: dict[str, Any]) -> str:
    rows = [
        f"| {name} | {part} | {measured['roc_auc']:.4f} | {measured['pr_auc']:.4f} "
        f"| {measured['log_loss']:.5f} | {measured['brier']:.5f} |"
        for name, parts in metrics.items()
        for part, measured in parts.items()
    ]
    return "\n".join(
        ["| model | part | ROC-AUC | PR-AUC | log-loss | Brier |", "|---|---|---|---|---|---|", *rows]
    )
