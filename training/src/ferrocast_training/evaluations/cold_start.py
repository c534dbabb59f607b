"""The evaluation `cold_start`: test rows of entities without a positive row in training, apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from ferrocast_training.errors import SettingsError
from ferrocast_training.evaluations.evaluation import Evaluated, Extra, params_of
from ferrocast_training.evaluations.intervals import auc, bootstrap_interval

DIGITS = 6


@dataclass(frozen=True)
class Params:
    """`key`: the column that names the entity."""

    key: str
    resamples: int = 500
    seed: int = 0


def evaluate_cold_start(evaluated: Evaluated, params: Mapping[str, Any]) -> Extra:
    """Measure the model on both kinds of entity."""
    settings, dataset = params_of(Params, "cold_start", params), evaluated.dataset
    if settings.key not in dataset.kept:
        raise SettingsError(f"[evaluate.extra.cold_start] key: the label file has no column {settings.key}")
    entities, test = dataset.kept[settings.key], dataset.parts.test
    known = set(entities.iloc[dataset.parts.train[dataset.labels[dataset.parts.train] == 1]])
    warm = entities.iloc[test].isin(known).to_numpy()
    metrics = {
        name: _report(evaluated, test[chosen], entities, settings)
        for name, chosen in (("cold", ~warm), ("warm", warm))
    }
    return Extra(metrics, _card(metrics, settings.key, evaluated.use_case.label.positive))


def _report(
    evaluated: Evaluated, rows: NDArray[np.int64], entities: "pd.Series[Any]", settings: Params
) -> dict[str, Any]:
    labels, scores = evaluated.dataset.labels[rows], evaluated.scores[rows]
    of_rows = entities.iloc[rows]
    if not len(rows):
        return {"entities": 0, "rows": 0, "positives": 0}
    interval = bootstrap_interval(
        lambda taken: auc(labels[taken], scores[taken]),
        np.arange(len(rows)),
        resamples=settings.resamples,
        seed=settings.seed,
    )
    ranked = auc(labels, scores)
    return {
        "entities": int(of_rows.nunique()),
        "rows": len(rows),
        "positives": int(labels.sum()),
        "positive_rate": round(float(labels.mean()), DIGITS),
        "mean_score": round(float(scores.mean()), DIGITS),
        "log_loss": round(float(log_loss(labels, scores, labels=[0, 1])), DIGITS),
        "roc_auc": round(ranked, DIGITS) if np.isfinite(ranked) else None,
        "roc_auc_95": [round(bound, DIGITS) for bound in interval] if interval else None,
    }


def _card(metrics: dict[str, Any], key: str, positive: str) -> str:
    lines = [f'Cold: test rows whose `{key}` has no "{positive}" in the training part.', ""]
    lines += ["| | entities | rows | positive | rate | mean score | log-loss | ROC-AUC | 95 % |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for name, found in metrics.items():
        if not found["rows"]:
            lines.append(f"| {name} | 0 | 0 | 0 | | | | | |")
            continue
        ranked = f"{found['roc_auc']:.3f}" if found["roc_auc"] is not None else "not defined"
        ends = found["roc_auc_95"]
        between = f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "not known"
        lines.append(
            f"| {name} | {found['entities']:,} | {found['rows']:,} | {found['positives']:,} "
            f"| {found['positive_rate']:.4f} | {found['mean_score']:.4f} | {found['log_loss']:.5f} "
            f"| {ranked} | {between} |"
        )
    return "\n".join(lines)
