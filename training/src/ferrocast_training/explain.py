"""What explains a score: the trees as XGBoost writes them, and its own explanations of some golden rows."""

import hashlib
import json
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from ferrocast_training.contract import Contract
from ferrocast_training.graph import MATRIX
from ferrocast_training.pipeline import Trained
from ferrocast_training.tensors import frame_of_values

TREES_FILE = "trees.json"
EXPLAINED_ROWS = 20


def trees_of(trained: Trained) -> bytes:
    """Return the trees as XGBoost's own JSON."""
    document = json.loads(trained.trees.get_booster().save_raw("json"))
    return (json.dumps(document, separators=(",", ":"), sort_keys=True) + "\n").encode()


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


def explain_rows(rows: list[list[Any]], contract: Contract, trained: Trained) -> dict[str, Any]:
    """Return XGBoost's own SHAP values of the first golden rows, by input, as golden.json holds them."""
    count = min(EXPLAINED_ROWS, len(rows))
    matrix = trained.pipeline.named_steps["prepare"].transform(frame_of_values(rows[:count], contract))
    by_column: NDArray[np.float32] = trained.trees.get_booster().predict(
        xgboost.DMatrix(matrix), pred_contribs=True
    )
    inputs = np.asarray(input_of_columns(contract, trained))
    by_input = np.zeros((count, len(contract.inputs)))
    for position in range(len(contract.inputs)):
        by_input[:, position] = by_column[:, :-1][:, inputs == position].sum(axis=1, dtype=np.float64)
    return {
        "rows": list(range(count)),
        "base_value": float(by_column[0, -1]),
        "contributions": by_input.tolist(),
    }
