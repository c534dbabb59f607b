"""The files that the feature store loads: one a view, and the labels."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ferrocast_training.contract import Contract, View
from ferrocast_training.dtypes import ARROW_TYPES, PANDAS_TYPES
from ferrocast_training.errors import DataError, SettingsError
from ferrocast_training.files import replaced_file
from ferrocast_training.identity import created_at, labelled_at
from ferrocast_training.settings import UseCase

RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"
RFC_3339_MICROSECONDS = "%Y-%m-%dT%H:%M:%S.%fZ"
EVENT_TIMESTAMP = "event_timestamp"


def check_schema(use_case: UseCase, contract: Contract) -> None:
    """Refuse a schema that says something else than features.toml does."""
    path, keys = contract.folder / "features.toml", join_keys(contract)
    if use_case.rows.id_column not in keys:
        raise SettingsError(
            f"{path}: no entity has the join key {use_case.rows.id_column} ([rows] id_column)"
        )
    stated = {name: kind for view in contract.views.values() for name, kind in view.features.items()}
    stated |= {name: kind for name, kind in keys.items() if name != use_case.rows.id_column}
    for name, kind in stated.items():
        if name not in use_case.schema:
            raise SettingsError(f"{path}: {name} is not in [schema]")
        if use_case.schema[name].type != kind:
            declared = use_case.schema[name].type
            raise SettingsError(f"{path}: {name} is {kind}, [schema] declares {declared}")


def join_keys(contract: Contract) -> dict[str, str]:
    """Return the join keys of all views, with their types."""
    return {name: kind for view in contract.views.values() for name, kind in view.keys.items()}


def write_view(rows: pd.DataFrame, view: View, use_case: UseCase) -> Path:
    """Write the columns of `view` to its file, Parquet or CSV by the file's ending.

    Rows that are alike in everything are written once: several rows may be of one entity of another kind.
    """
    events = rows["event_at"]
    times = {view.timestamp_field: events}
    if view.created_field:
        times[view.created_field] = created_at(events, use_case.rows)
    frame = rows.assign(**times)[list(view.columns)].drop_duplicates(ignore_index=True)
    for name, kind in view.keys.items():
        frame[name] = frame[name].astype(PANDAS_TYPES[kind])  # type: ignore[call-overload]
    return write_own_view(frame, view)


def write_own_view(frame: pd.DataFrame, view: View) -> Path:
    """Write the rows of `view`, which have all of its columns, to its file."""
    repeated = frame.duplicated([*view.keys, view.timestamp_field])
    if repeated.any():
        first = dict(frame[repeated][[*view.keys, view.timestamp_field]].iloc[0].astype(str))
        raise DataError(
            f"{view.path.name}: {int(repeated.sum()):,} rows have the key and time of others, {first} first"
        )
    with replaced_file(view.path) as path:
        _write(frame, view, path)
    return view.path


def _write(frame: pd.DataFrame, view: View, path: Path) -> None:
    if view.path.suffix == ".csv":
        write_csv(frame, path)
    elif view.path.suffix == ".parquet":
        schema = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in view.columns.items()])
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")
    else:
        raise SettingsError(f"{view.path}: the file of view {view.name} has to be .parquet or .csv")


def label_rows(rows: pd.DataFrame, use_case: UseCase, contract: Contract) -> pd.DataFrame:
    """Return keys, point in time and outcome of every row: the spine of a point-in-time training set."""
    keys = {
        name: rows[name].astype(PANDAS_TYPES[kind])  # type: ignore[call-overload]
        for name, kind in join_keys(contract).items()
    }
    times = {EVENT_TIMESTAMP: labelled_at(rows["event_at"], use_case.rows)}
    beside = {name: rows[name] for name in (use_case.label.column, *use_case.label.keep)}
    spine = pd.DataFrame(keys | times | beside)
    repeated = spine.duplicated([*keys, EVENT_TIMESTAMP])
    if repeated.any():
        first = dict(spine[repeated][[*keys, EVENT_TIMESTAMP]].iloc[0].astype(str))
        raise DataError(
            f"labels: {int(repeated.sum()):,} rows have the key and time of others, {first} first"
        )
    return spine.reset_index(drop=True)


def write_labels(spine: pd.DataFrame, use_case: UseCase, contract: Contract) -> Path:
    """Write the label file of the model repository."""
    path = contract.folder / use_case.label.file
    if path.suffix not in (".csv", ".parquet"):
        raise SettingsError(f"{path}: [label] file has to be .parquet or .csv")
    with replaced_file(path) as unfinished:
        if path.suffix == ".csv":
            write_csv(spine, unfinished)
        else:
            write_parquet(spine, unfinished)
    return path


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Points in time are microseconds, as the store keeps them; nothing of pandas' own is in the file."""
    times = frame.select_dtypes("datetimetz").astype("datetime64[us, UTC]")
    table = pa.Table.from_pandas(frame.assign(**times), preserve_index=False)
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """An empty cell is a missing value; times are RFC 3339 in UTC, in seconds where nothing is lost by it."""
    times = frame.select_dtypes("datetimetz")
    is_whole = all((column == column.dt.floor("s")).all() for _, column in times.items())
    shown = RFC_3339 if is_whole else RFC_3339_MICROSECONDS
    frame.to_csv(path, index=False, na_rep="", date_format=shown, lineterminator="\n", encoding="utf-8")
