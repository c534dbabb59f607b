"""What explains a score: the trees, and the library's own explanations of some golden rows."""

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferrocast_training.contract import Contract
from ferrocast_training.graph import MATRIX
from ferrocast_training.pipeline import Trained
from ferrocast_training.tensors import frame_of_values

TREES_FILE = "trees.json"
EXPLAINED_ROWS = 20


def explained_by(trees: bytes, contract: Contract, trained: Trained) -> dict[str, Any]:
    """Return the part of signature.json that says what explains a score."""
    return {
        "file": TREES_FILE,
        "sha256": hashlib.sha256(trees).hexdigest(),
        "matrix": MATRIX,
        "columns": input_of_columns(contract, trained),
    }


def input_of_columns(contract: Contract, trained: Trained) -> list[int]:
    """Return the position of the input that each column of the trees' matrix comes from."""
    names = [each.name for each in contract.inputs]
    columns = [names.index(each.name) for each in contract.numeric]
    known = trained.encoder.categories_ if trained.encoder is not None else []
    for each, words in zip(contract.categorical, known, strict=True):
        columns += [names.index(each.name)] * len(words)
    return columns


def contributions(
    frame: pd.DataFrame, contract: Contract, trained: Trained
) -> tuple[NDArray[np.float64], float]:
    """Return exact SHAP values of a model frame, [rows, inputs], and the base value, in log-odds."""
    by_column = trained.library.contributions(trained.estimator, trained.matrix(frame))
    inputs = np.asarray(input_of_columns(contract, trained))
    by_input = np.zeros((len(frame), len(contract.inputs)))
    for position in range(len(contract.inputs)):
        by_input[:, position] = by_column[:, :-1][:, inputs == position].sum(axis=1)
    return by_input, float(by_column[0, -1])


def explain_rows(rows: list[list[Any]], contract: Contract, trained: Trained) -> dict[str, Any]:
    """Return the explanations of the first golden rows, as golden.json holds them."""
    count = min(EXPLAINED_ROWS, len(rows))
    by_input, base = contributions(frame_of_values(rows[:count], contract), contract, trained)
    return {"rows": list(range(count)), "base_value": base, "contributions": by_input.tolist()}
