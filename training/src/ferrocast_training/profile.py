"""The profile of each input in the training rows, which a server holds what it is given against."""

from typing import Any

import numpy as np
import pandas as pd

from ferrocast_training.contract import Contract, Input

BINS = 10
TEXTS_MAX = 100


def profiles(features: pd.DataFrame, contract: Contract) -> dict[str, dict[str, Any]]:
    """Return the profile of every input, by name, as signature.json holds it.

    `features` [rows, inputs] are the rows that the model was trained on. A number has up to ten bins of
    about the same share, each with its upper end; a text has a bin for each of its commonest values and one
    for all others.
    """
    return {each.name: _profile(features[each.name], each) for each in contract.inputs}


def _profile(column: pd.Series, described: Input) -> dict[str, Any]:
    values = column.dropna()
    missing = {"missing_share": float(column.isna().mean())}
    if described.is_numeric:
        return missing | _numbers(values.to_numpy(dtype=np.float64))
    return missing | _texts(values)


def _numbers(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    if not len(values):
        return {"edges": [], "shares": [1.0]}
    inner = np.linspace(0.0, 1.0, BINS + 1)[1:-1]
    edges = np.unique(np.quantile(values, inner, method="lower"))
    # Of many equal values, the greatest may be an edge: nothing would be beyond it.
    edges = edges[edges < values.max()]
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "shares": (counts / len(values)).tolist()}


def _texts(values: pd.Series) -> dict[str, Any]:
    counts = values.astype(str).value_counts()
    # Equal counts in the order of the alphabet, so that the file is the same each time.
    known = counts.sort_index().sort_values(ascending=False, kind="stable").head(TEXTS_MAX)
    if not len(values):
        return {"texts": [], "shares": [1.0]}
    shares = (known / len(values)).tolist()
    others = float(1.0 - known.sum() / len(values))
    return {"texts": known.index.tolist(), "shares": [*shares, others]}
