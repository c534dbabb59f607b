"""Golden rows: inputs with the trained model's own scores, chosen where a server is likely to go wrong."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferrocast_training.contract import Contract, Input
from ferrocast_training.pipeline import Trained
from ferrocast_training.settings import Export
from ferrocast_training.tensors import frame_of_values

Row = list[Any]
UNSEEN = "never_seen_in_training"


def build_golden(
    features: pd.DataFrame, trained: Trained, contract: Contract, settings: Export
) -> dict[str, Any]:
    """Return the content of golden.json; `features` [rows, inputs] are the rows to draw from."""
    samples = plain_rows(features, spread(len(features), settings.golden_samples), contract)
    kinds = {
        "sample": samples,
        "missing": missing_rows(samples, contract),
        "unseen": unseen_rows(samples, contract),
        "threshold": threshold_rows(samples, trained, contract, settings),
    }
    rows = [row for group in kinds.values() for row in group]
    return {
        "inputs": [each.name for each in contract.inputs],
        "rows": rows,
        "scores": trained.scores(frame_of_values(rows, contract)).tolist(),
        "kinds": [kind for kind, group in kinds.items() for _ in group],
    }


def spread(rows: int, count: int) -> NDArray[np.int64]:
    """Return `count` different row numbers, evenly spread over `rows`, first and last included."""
    return np.unique(np.linspace(0, rows - 1, min(count, rows)).astype(np.int64))


def plain_rows(features: pd.DataFrame, numbers: NDArray[np.int64], contract: Contract) -> list[Row]:
    """Return rows of JSON values in the types of the store: whole numbers stay whole, missing is None."""
    names = [each.name for each in contract.inputs]
    chosen = features.iloc[numbers][names].astype(object)
    values: list[Row] = chosen.where(chosen.notna(), None).to_numpy().tolist()
    return values


def missing_rows(samples: list[Row], contract: Contract) -> list[Row]:
    """Each input missing alone (twice), then all numbers, all texts, and everything."""
    count = len(contract.inputs)
    single = [{position} for position in range(count)] * 2
    numbers = {position for position, each in enumerate(contract.inputs) if each.is_numeric}
    texts = set(range(count)) - numbers
    groups = [*single, numbers, texts, numbers | texts]
    return [
        [None if position in gone else value for position, value in enumerate(samples[index % len(samples)])]
        for index, gone in enumerate(groups)
    ]


def unseen_rows(samples: list[Row], contract: Contract) -> list[Row]:
    """Each text input with a category that training did not hold (four times), then all of them at once."""
    texts = [position for position, each in enumerate(contract.inputs) if not each.is_numeric]
    groups = [{position} for position in texts] * 4 + [set(texts)]
    return [
        [
            UNSEEN if position in strange else value
            for position, value in enumerate(samples[-1 - index % len(samples)])
        ]
        for index, strange in enumerate(groups)
    ]


def threshold_rows(samples: list[Row], trained: Trained, contract: Contract, settings: Export) -> list[Row]:
    """Rows with one number set on a split of the trees, where `<` and `<=` differ, and next to it.

    Of each split: the threshold itself; the next float32 on the other side; a double that only rounding to
    float32 takes onto the threshold. Whole-number inputs take the threshold and its neighbour. Only rows
    whose score hangs on the side that the number falls on are taken, so a server that errs there cannot pass.
    """
    library = trained.library
    splits = library.split_points(trained.estimator, len(contract.numeric))
    rows: list[Row] = []
    for turn, number in enumerate(np.random.default_rng(settings.seed).permutation(len(splits))):
        feature, threshold = splits[number]
        values = values_at(contract.numeric[feature], *library.values_at(threshold))
        position = contract.inputs.index(contract.numeric[feature])
        decided = _decided_by(samples, position, values, trained, contract, 10 * settings.tolerance)
        if decided:
            row = decided[turn % len(decided)]
            rows += [_with_value(row, position, value) for value in values]
        if len(rows) >= settings.golden_thresholds:
            break
    return rows


def _decided_by(
    samples: list[Row], position: int, values: list[Any], trained: Trained, contract: Contract, least: float
) -> list[Row]:
    """Return the samples whose score moves by more than `least` between the first two values."""
    if not values:
        return []
    at, below = (
        trained.scores(frame_of_values([_with_value(row, position, value) for row in samples], contract))
        for value in values[:2]
    )
    return [samples[number] for number in np.flatnonzero(np.abs(at - below) > least)]


def _with_value(row: Row, position: int, value: Any) -> Row:
    return [*row[:position], value, *row[position + 1 :]]


def values_at(each: Input, threshold: np.float32, beyond: np.float32) -> list[int | float]:
    """Return the values of the input's type that lie on a split threshold and on its other side.

    `beyond` is the next float32 on the other side.
    """
    side = -1 if beyond < threshold else 1
    if each.type.startswith("int"):
        return [int(threshold), int(threshold) + side] if float(threshold).is_integer() else []
    if each.type == "float":
        return [float(threshold), float(beyond)]
    return [float(threshold), float(beyond), float(np.nextafter(float(threshold), side * np.inf))]
