"""What was tried beside the chosen settings, measured on the validation part only."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ferrocast_training.contract import Contract
from ferrocast_training.evaluate import quality
from ferrocast_training.pipeline import Labels, Trained, train
from ferrocast_training.settings import Model
from ferrocast_training.tensors import MISSING_STRING

MASKED_SHARE = 0.1

Part = tuple[pd.DataFrame, Labels]


def compare(training: Part, validation: Part, contract: Contract, chosen: Model) -> list[dict[str, Any]]:
    """Train one model a variant; report the quality on the validation part, whole and with numbers masked."""
    masked = (mask_numbers(validation[0], contract, chosen.seed), validation[1])
    reports = [
        _report(name, train(*training, validation, contract, settings, scale=scale), validation, masked)
        for name, settings, scale in _variants(training[1], chosen)
    ]
    for each in contract.categorical:
        less, less_validation, less_masked = (
            _without(part, each.name) for part in (training, validation, masked)
        )
        trained = train(*less, less_validation, contract, chosen)
        reports.append(_report(f"without {each.name}", trained, less_validation, less_masked))
    return reports


def _variants(labels: Labels, chosen: Model) -> list[tuple[str, Model, bool]]:
    """Return name, settings and whether numbers are scaled; the chosen settings first."""
    reweighted = float((labels == 0).sum() / labels.sum())
    other_way = "native" if chosen.numeric_missing == "median" else "median"
    depths = [depth for depth in (2, 3, 4, 5, 6) if depth != chosen.params.get("max_depth")]
    return [
        ("chosen", chosen, False),
        (f"missing numbers: {other_way}", replace(chosen, numeric_missing=other_way), False),
        ("numbers scaled", chosen, True),
        *((f"max_depth {depth}", _with(chosen, max_depth=depth), False) for depth in depths),
        ("less regularised", _with(chosen, min_child_weight=1, reg_lambda=1.0), False),
        ("positives reweighted", _with(chosen, scale_pos_weight=reweighted), False),
    ]


def mask_numbers(frame: pd.DataFrame, contract: Contract, seed: int) -> pd.DataFrame:
    """Return a copy of `frame` in which a fixed random tenth of the numbers is missing."""
    k = len(contract.numeric)
    hidden = np.random.default_rng(seed).random((len(frame), k)) < MASKED_SHARE
    copy = frame.copy()
    for column in range(k):
        values = frame.iloc[:, column].to_numpy(copy=True)
        values[hidden[:, column]] = np.nan
        copy.isetitem(column, values)
    return copy


def _without(part: Part, name: str) -> Part:
    """Return the part with an empty text column, which says nothing to the model."""
    return part[0].assign(**{name: MISSING_STRING}).astype({name: object}), part[1]


def _with(settings: Model, **params: float) -> Model:
    return replace(settings, params=settings.params | params)


def _report(name: str, trained: Trained, validation: Part, masked: Part) -> dict[str, Any]:
    scores = trained.scores(validation[0])
    return {
        "variant": name,
        "trees": trained.best_iteration + 1,
        "validation": quality(validation[1], scores) | {"mean_score": round(float(scores.mean()), 6)},
        "validation_masked": quality(masked[1], trained.scores(masked[0])),
    }
