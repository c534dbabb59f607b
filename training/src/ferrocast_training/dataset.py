"""The files of a use case, read back as the store would read them, checked and joined to rows with labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ferrocast_training.contract import NUMERIC_TYPES, Contract, View
from ferrocast_training.errors import DataError
from ferrocast_training.prepare import ARROW_TYPES, PANDAS_TYPES
from ferrocast_training.settings import UseCase


@dataclass(frozen=True)
class Dataset:
    """Entities with their features and outcome.

    `ids` [rows], `features` [rows, inputs] in the store's types, `labels` [rows] (1: positive class, 0: not).
    """

    ids: NDArray[np.object_]
    features: pd.DataFrame
    labels: NDArray[np.int64]


def load_dataset(use_case: UseCase, contract: Contract) -> Dataset:
    """Join the label file with every view on the entity's id."""
    key = use_case.rows.id_column
    spine = read_labels(use_case, contract.folder)
    rows = spine
    for view in contract.views.values():
        frame = read_view(view)[[key, *view.features]]
        rows = rows.merge(frame, on=key, how="left", validate="one_to_one", indicator="found")
        if absent := rows.loc[rows.pop("found") == "left_only", key].tolist():
            raise DataError(f"{view.path}: {len(absent)} labelled rows are not there, {absent[0]} first")
    features = rows[[each.name for each in contract.inputs]]
    labels = (rows[use_case.label.column] == use_case.label.positive).to_numpy().astype(np.int64)
    return Dataset(rows[key].to_numpy(dtype=object), features, labels)


def read_labels(use_case: UseCase, folder: Path) -> pd.DataFrame:
    """Read id and outcome, refusing rows without an outcome."""
    path, label = folder / use_case.label.file, use_case.label
    frame = _read_csv(path, [use_case.rows.id_column, label.column])
    outcome = frame[label.column]
    if outcome.isna().any():
        row = int(outcome.isna().to_numpy().argmax()) + 2
        raise DataError(f"{path}: column {label.column} (the label) is empty in line {row}")
    if strange := sorted(set(outcome) - {label.negative, label.positive}):
        raise DataError(
            f"{path}: column {label.column} holds {strange[0]!r}, not {label.negative} or {label.positive}"
        )
    return frame[[use_case.rows.id_column, label.column]]


def read_view(view: View) -> pd.DataFrame:
    """Read the file of `view` in the types that features.toml states."""
    frame = _read_csv(view.path, list(view.columns)) if view.path.suffix == ".csv" else _read_parquet(view)
    for key in view.keys:
        if frame[key].isna().any() or frame[key].duplicated().any():
            raise DataError(f"{view.path}: column {key} has empty or repeated values")
    typed = {name: _typed(frame[name], kind, view.path) for name, kind in view.columns.items()}
    return pd.DataFrame(typed)


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read every cell as text; an empty cell is a missing value, the text NA is not."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; run the prepare step")
    frame = pd.read_csv(path, dtype="string", keep_default_na=False, na_values=[""])
    _require(columns, list(frame.columns), path)
    return frame


def _read_parquet(view: View) -> pd.DataFrame:
    if not view.path.is_file():
        raise DataError(f"{view.path}: no such file; run the prepare step")
    try:
        table = pq.read_table(view.path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{view.path}: not a Parquet file: {error}") from error
    _require(list(view.columns), table.column_names, view.path)
    for name, kind in view.columns.items():
        found = table.schema.field(name).type
        if found != ARROW_TYPES[kind]:
            raise DataError(f"{view.path}: column {name} is {found}, features.toml states {kind}")
    # Nullable types: an int64 column with a missing value must not turn into floats on the way.
    frame: pd.DataFrame = table.to_pandas(types_mapper=_nullable)
    return frame


def _nullable(kind: pa.DataType) -> object:
    names = {ARROW_TYPES[name]: dtype for name, dtype in PANDAS_TYPES.items()}
    return pd.api.types.pandas_dtype(names[kind]) if kind in names else None


def _require(expected: list[str], found: list[str], path: Path) -> None:
    if missing := [name for name in expected if name not in found]:
        raise DataError(f"{path}: column {missing[0]} is missing; there are {', '.join(found)}")


def _typed(column: "pd.Series[Any]", kind: str, path: Path) -> "pd.Series[Any]":
    dtype: Any = PANDAS_TYPES.get(kind)
    try:
        if kind == "timestamp":
            return pd.to_datetime(column, utc=True)
        if kind in NUMERIC_TYPES:
            column = pd.to_numeric(column)
        return column.astype(dtype)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: column {column.name} is not of type {kind}: {error}") from error
