"""Raw data to the files that the feature store loads: one a view, and the labels."""

import hashlib
import pickle
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, distribution
from lzma import LZMAError
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ferrocast_training.contract import NUMERIC_TYPES, Contract, View
from ferrocast_training.errors import DataError
from ferrocast_training.settings import Label, Rows, Source, UseCase

PANDAS_TYPES = {
    "int32": "Int32",
    "int64": "Int64",
    "float": "Float32",
    "double": "Float64",
    "string": "string",
}
ARROW_TYPES = {
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"


def prepare(use_case: UseCase, contract: Contract) -> list[Path]:
    """Write the file of every view and the label file; return their paths."""
    raw = read_raw(use_case.source, raw_path(use_case.source))
    rows = typed_rows(raw, use_case, contract)
    paths = [write_view(rows, view) for view in contract.views.values()]
    return [*paths, write_labels(rows, use_case, contract.folder)]


def raw_path(source: Source) -> Path:
    """Find the raw file among the installed files, without importing the package around it."""
    try:
        return Path(str(distribution(source.package).locate_file(source.file)))
    except PackageNotFoundError as error:
        raise DataError(
            f"the package {source.package} is not installed: run `uv sync --group data`"
        ) from error


def read_raw(source: Source, path: Path) -> pd.DataFrame:
    """Read the xz-compressed pickle at `path`, but only if it is the very file that was reviewed."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != source.sha256:  # a pickle can run code, so an unknown one is not opened
        raise DataError(f"{path}: sha256 is {digest}, expected {source.sha256}")
    try:
        frame: pd.DataFrame = pd.read_pickle(path, compression="xz")
    except (pickle.UnpicklingError, LZMAError, EOFError, OSError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return frame.drop(columns=source.drop)


def typed_rows(raw: pd.DataFrame, use_case: UseCase, contract: Contract) -> pd.DataFrame:
    """Give every raw row an id and points in time, and every column the type that features.toml states."""
    rows = _identity(len(raw), use_case.rows, contract)
    for view in contract.views.values():
        for name, kind in view.features.items():
            rows[name] = _typed(_raw_column(raw, name), name, kind, use_case.source)
    rows[use_case.label.column] = _labels(raw, use_case.label)
    return rows


def _identity(count: int, settings: Rows, contract: Contract) -> pd.DataFrame:
    """Return ids by row order and evenly spaced event times, in the names that the views use."""
    numbers = pd.RangeIndex(1, count + 1)
    step = pd.Timedelta(seconds=settings.event_step_s)
    events = pd.Series(pd.Timestamp(settings.first_event_at) + step * pd.RangeIndex(count))
    columns: dict[str, object] = {
        settings.id_column: [f"{settings.id_prefix}{number:0{settings.id_digits}d}" for number in numbers]
    }
    for view in contract.views.values():
        columns[view.timestamp_field] = events
        if view.created_field:
            columns[view.created_field] = events + timedelta(seconds=settings.created_after_s)
    return pd.DataFrame(columns)


def _raw_column(raw: pd.DataFrame, name: str) -> "pd.Series[Any]":
    if name not in raw.columns:
        raise DataError(f"raw data: column {name} is missing; there are {', '.join(map(str, raw.columns))}")
    return raw[name]


def _typed(column: "pd.Series[Any]", name: str, kind: str, source: Source) -> "pd.Series[Any]":
    if name in source.missing_words:
        column = column.mask(column == source.missing_words[name])
    if kind == "string" and not column.dropna().map(lambda value: isinstance(value, str)).all():
        raise DataError(f"raw data: column {name} is stated as string and holds something else")
    if kind in NUMERIC_TYPES and not pd.api.types.is_numeric_dtype(column):
        raise DataError(f"raw data: column {name} is stated as {kind} and holds {column.dtype}")
    dtype: Any = PANDAS_TYPES[kind]
    try:
        return column.astype(dtype)
    except (TypeError, ValueError) as error:
        raise DataError(f"raw data: column {name} cannot be held as {kind}: {error}") from error


def _labels(raw: pd.DataFrame, label: Label) -> "pd.Series[Any]":
    column = _raw_column(raw, label.raw_column)
    if column.isna().any():
        raise DataError(
            f"raw data: column {label.raw_column} (the label) has {int(column.isna().sum())} empty rows"
        )
    if strange := sorted(set(column.unique()) - {label.negative, label.positive}):
        raise DataError(f"raw data: column {label.raw_column} (the label) holds {strange[0]!r}")
    return column.astype("string")


def write_view(rows: pd.DataFrame, view: View) -> Path:
    """Write the columns of `view` to its file, Parquet or CSV by the file's ending."""
    frame = rows[list(view.columns)]
    view.path.parent.mkdir(parents=True, exist_ok=True)
    if view.path.suffix == ".csv":
        _write_csv(frame, view.path)
    else:
        schema = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in view.columns.items()])
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        pq.write_table(table.replace_schema_metadata(None), view.path, compression="zstd")
    return view.path


def write_labels(rows: pd.DataFrame, use_case: UseCase, folder: Path) -> Path:
    """Write id, point in time and outcome: the spine of a point-in-time training set."""
    settings, label = use_case.rows, use_case.label
    step = pd.Timedelta(seconds=settings.event_step_s)
    first = pd.Timestamp(settings.first_event_at) + timedelta(seconds=settings.labelled_after_s)
    spine = pd.DataFrame(
        {
            settings.id_column: rows[settings.id_column],
            "event_timestamp": pd.Series(first + step * pd.RangeIndex(len(rows))),
            label.column: rows[label.column],
        }
    )
    path = folder / label.file
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_csv(spine, path)
    return path


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    """An empty cell is a missing value; points in time are RFC 3339 in UTC."""
    frame.to_csv(path, index=False, na_rep="", date_format=RFC_3339, lineterminator="\n", encoding="utf-8")
