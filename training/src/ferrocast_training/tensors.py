"""From the store's values to what the graph is fed: the one place where numbers become float32."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferrocast_training.contract import Contract

NUMERIC_TENSOR = "numeric"
CATEGORICAL_TENSOR = "categorical"
MISSING_STRING = ""


def model_frame(features: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return [rows, inputs]: float32 columns (missing: NaN) first, then text columns (missing: empty).

    The columns come in the order of the tensors, so the pipeline may address them by position.
    """
    columns: dict[str, NDArray[Any]] = {
        each.name: features[each.name]
        .astype("Float64")
        .to_numpy(dtype=np.float64, na_value=np.nan)
        .astype(np.float32)
        for each in contract.numeric
    }
    for each in contract.categorical:
        columns[each.name] = (
            features[each.name].astype(object).where(features[each.name].notna(), MISSING_STRING).to_numpy()
        )
    return pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})


def tensors(frame: pd.DataFrame, contract: Contract) -> dict[str, NDArray[Any]]:
    """Return the two matrices that the graph takes: float32 [rows, k] and text [rows, m]."""
    k = len(contract.numeric)
    feed: dict[str, NDArray[Any]] = {}
    if contract.numeric:
        feed[NUMERIC_TENSOR] = frame.iloc[:, :k].to_numpy(dtype=np.float32)
    if contract.categorical:
        feed[CATEGORICAL_TENSOR] = frame.iloc[:, k:].to_numpy(dtype=object)
    return feed


def frame_of_values(rows: list[list[Any]], contract: Contract) -> pd.DataFrame:
    """Make a model frame of plain values (JSON's: number, text, null) in the order of the inputs."""
    names = [each.name for each in contract.inputs]
    values = pd.DataFrame(rows, columns=pd.Index(names), dtype=object)
    return model_frame(values, contract)
