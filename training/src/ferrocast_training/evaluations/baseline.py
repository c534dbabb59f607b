"""The evaluation `baseline`: another [train] on the same parts, to hold the model against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrocast_training.errors import SettingsError
from ferrocast_training.evaluate import DIGITS, quality
from ferrocast_training.evaluations.evaluation import Evaluated, Extra, params_of
from ferrocast_training.evaluations.intervals import Labels, Rows, Scores, auc, bootstrap_interval
from ferrocast_training.pipeline import Trained, train
from ferrocast_training.settings import Train

NAME = "baseline"


@dataclass(frozen=True)
class Params:
    """`train` as in [train]; rows of one `together`, a kept column or "day", are drawn as one."""

    train: dict[str, Any] = field(default_factory=dict)
    together: str = ""
    resamples: int = 500
    seed: int = 0


def evaluate_baseline(evaluated: Evaluated, params: Mapping[str, Any]) -> Extra:
    """Train the baseline and measure it on every part, beside the model; the test part with intervals."""
    settings, dataset = params_of(Params, NAME, params), evaluated.dataset
    baseline = train_baseline(evaluated, settings)
    scores = {"model": evaluated.scores, "baseline": baseline.scores(evaluated.frame)}
    names = {"model": evaluated.trained.library_name, "baseline": baseline.library_name}
    metrics = {
        name: {"library": names[name]}
        | {part: quality(dataset.labels[rows], of_all[rows]) for part, rows in vars(dataset.parts).items()}
        for name, of_all in scores.items()
    }
    metrics["test_95"] = _intervals(evaluated, scores, settings)
    return Extra(metrics, _card(metrics))


def train_baseline(evaluated: Evaluated, settings: Params) -> Trained:
    """Train what the settings say; the seed is the model's where they name none."""
    chosen = params_of(Train, f"{NAME}.train", {"seed": evaluated.use_case.train.seed} | settings.train)
    training, validation = (
        (evaluated.frame.iloc[rows], evaluated.dataset.labels[rows])
        for rows in (evaluated.dataset.parts.train, evaluated.dataset.parts.validation)
    )
    return train(training, validation, evaluated.contract, chosen)


def _intervals(evaluated: Evaluated, scores: dict[str, Scores], settings: Params) -> dict[str, Any]:
    """Return by measure the interval of the model, of the baseline, and of the model less the baseline."""
    dataset, test = evaluated.dataset, evaluated.dataset.parts.test
    labels = dataset.labels[test]
    model, baseline = (scores[name][test] for name in ("model", "baseline"))
    groups = _groups(evaluated, settings)[test]
    measures = {"roc_auc": auc, "log_loss": log_loss}
    return {
        name: {
            kind: _rounded(bootstrap_interval(by, groups, resamples=settings.resamples, seed=settings.seed))
            for kind, by in _kinds(measure, labels, model, baseline).items()
        }
        for name, measure in measures.items()
    }


def _kinds(
    measure: Callable[[Labels, Scores], float], labels: Labels, model: Scores, baseline: Scores
) -> dict[str, Callable[[Rows], float]]:
    return {
        "model": lambda rows: measure(labels[rows], model[rows]),
        "baseline": lambda rows: measure(labels[rows], baseline[rows]),
        "difference": lambda rows: measure(labels[rows], model[rows]) - measure(labels[rows], baseline[rows]),
    }


def log_loss(labels: Labels, scores: Scores) -> float:
    """Return the mean negative logarithm of the probability that was given to what happened."""
    return float(-np.log(np.where(labels == 1, scores, 1 - scores)).mean())


def _groups(evaluated: Evaluated, settings: Params) -> NDArray[Any]:
    dataset = evaluated.dataset
    if not settings.together:
        return np.arange(len(dataset.labels))
    if settings.together == "day":
        return dataset.times.dt.floor("D").to_numpy()
    if settings.together not in dataset.kept:
        raise SettingsError(f"[evaluate.extra.{NAME}] together: the label file has no {settings.together}")
    return np.asarray(dataset.kept[settings.together])


def _rounded(interval: tuple[float, float] | None) -> list[float] | None:
    return [round(end, DIGITS) for end in interval] if interval else None


def _card(metrics: dict[str, Any]) -> str:
    lines = ["| | part | ROC-AUC | PR-AUC | log-loss | Brier |", "|---|---|---|---|---|---|"]
    for name in ("model", "baseline"):
        library = metrics[name]["library"]
        for part, found in metrics[name].items():
            if part != "library":
                lines.append(
                    f"| {name}, {library} | {part} | {found['roc_auc']:.4f} | {found['pr_auc']:.4f} "
                    f"| {found['log_loss']:.5f} | {found['brier']:.5f} |"
                )
    lines += ["", "On the test part, 95 %, bootstrap:", "", "| | ROC-AUC | log-loss |", "|---|---|---|"]
    for kind, said in (("model", "model"), ("baseline", "baseline"), ("difference", "model less baseline")):
        ranked, lost = (metrics["test_95"][measure][kind] for measure in ("roc_auc", "log_loss"))
        lines.append(f"| {said} | {_between(ranked, 4)} | {_between(lost, 5)} |")
    return "\n".join(lines)


def _between(interval: list[float] | None, digits: int) -> str:
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}" if interval else "not known"
