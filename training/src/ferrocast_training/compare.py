"""What was tried beside the chosen settings, measured on the validation part only."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ferrocast_training.contract import Contract
from ferrocast_training.evaluate import quality
from ferrocast_training.pipeline import Part, Trained, train
from ferrocast_training.settings import Train
from ferrocast_training.tensors import MISSING_STRING

MASKED_SHARE = 0.1


def compare(
    training: Part, validation: Part, contract: Contract, chosen: Train, told: Callable[[int, str], None]
) -> list[dict[str, Any]]:
    """Train one model a variant; report the quality on the validation part, whole and with numbers masked.

    `told` hears of each variant before it is trained.
    """
    masked = (mask_numbers(validation[0], contract, chosen.seed), validation[1])
    reports: list[dict[str, Any]] = []
    for name, settings, scale in variants(chosen):
        told(len(reports), name)
        trained = train(training, validation, contract, settings, scale=scale)
        reports.append(_report(name, trained, validation, masked))
    for each in contract.categorical:
        told(len(reports), f"without {each.name}")
        less, less_validation, less_masked = (
            _without(part, each.name) for part in (training, validation, masked)
        )
        trained = train(less, less_validation, contract, chosen)
        reports.append(_report(f"without {each.name}", trained, less_validation, less_masked))
    return reports


def variants(chosen: Train) -> list[tuple[str, Train, bool]]:
    """Return name, settings and whether numbers are scaled; the chosen settings first."""
    other_weights: Any = {"none": "weighted", "weighted": "none"}[chosen.imbalance]
    every: list[tuple[str, Train, bool]] = [("chosen", chosen, False)]
    if chosen.library != "logistic_regression":
        other_way: Any = "native" if chosen.numeric_missing == "median" else "median"
        every += [
            (f"missing numbers: {other_way}", replace(chosen, numeric_missing=other_way), False),
            ("numbers scaled", chosen, True),
        ]
    if chosen.library == "xgboost":
        depths = [depth for depth in (2, 3, 4, 5, 6) if depth != chosen.params.get("max_depth")]
        every += [(f"max_depth {depth}", _with(chosen, max_depth=depth), False) for depth in depths]
        every.append(("less regularised", _with(chosen, min_child_weight=1, reg_lambda=1.0), False))
    every.append((f"imbalance: {other_weights}", replace(chosen, imbalance=other_weights), False))
    return every


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


def _with(settings: Train, **params: float) -> Train:
    return replace(settings, params=settings.params | params)


def _report(name: str, trained: Trained, validation: Part, masked: Part) -> dict[str, Any]:
    scores = trained.scores(validation[0])
    return {
        "variant": name,
        trained.library.rounds_called: trained.rounds,
        "validation": quality(validation[1], scores) | {"mean_score": round(float(scores.mean()), 6)},
        "validation_masked": quality(masked[1], trained.scores(masked[0])),
    }
