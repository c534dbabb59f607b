"""The training set that `prepare` has made: three Parquet files, joined by the feature store."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ferrocast_training.contract import Contract
from ferrocast_training.dtypes import ARROW_TYPES, PANDAS_TYPES
from ferrocast_training.errors import DataError
from ferrocast_training.settings import UseCase
from ferrocast_training.split import PARTS, Parts
from ferrocast_training.views import EVENT_TIMESTAMP, join_keys

ROW = "row"  # the position of a row in the label file
SPLIT = "split"


@dataclass(frozen=True)
class Dataset:
    """Rows with their features and outcome, in the order of the label file.

    `ids` [rows], `times` [rows], `features` [rows, inputs] in the store's types, `labels` [rows] (1: positive
    class, 0: not), `parts` the row numbers of the three sets, `kept` [rows] the join keys and what
    `[label] keep` has kept beside the label.
    """

    ids: NDArray[np.object_]
    times: "pd.Series[pd.Timestamp]"
    features: pd.DataFrame
    labels: NDArray[np.int64]
    parts: Parts
    kept: pd.DataFrame = field(default_factory=pd.DataFrame)


def set_file(folder: Path, part: str) -> Path:
    """Return where the set of `part` lies in the folder of the prepare step."""
    return folder / f"{part}.parquet"


def write_sets(joined: Path, folder: Path) -> None:
    """Cut the joined rows into the three files."""
    table = pq.read_table(joined)
    for part in PARTS:
        chosen = table.filter(pa.compute.equal(table.column(SPLIT), part)).drop_columns([SPLIT])
        pq.write_table(chosen.replace_schema_metadata(None), set_file(folder, part), compression="zstd")


def load_dataset(use_case: UseCase, contract: Contract, folder: Path) -> Dataset:
    """Read the three sets in the folder of the prepare step."""
    tables = {part: _read(set_file(folder, part), use_case, contract) for part in PARTS}
    named = [
        table.append_column(SPLIT, pa.array([part] * len(table), pa.string()))
        for part, table in tables.items()
    ]
    frame = pa.concat_tables(named).to_pandas(types_mapper=_nullable)
    frame = frame.sort_values(ROW, ignore_index=True)
    keys = join_keys(contract)
    labels = (frame[use_case.label.column] == use_case.label.positive).to_numpy().astype(np.int64)
    return Dataset(
        ids=frame[use_case.rows.id_column].to_numpy(dtype=object),
        times=frame[EVENT_TIMESTAMP],
        features=frame[[each.name for each in contract.inputs]],
        labels=labels,
        parts=Parts.of_names(frame[SPLIT]),
        kept=frame[[*keys, *use_case.label.keep]].astype(
            {name: PANDAS_TYPES[kind] for name, kind in keys.items()}
        ),
    )


def _read(path: Path, use_case: UseCase, contract: Contract) -> pa.Table:
    if not path.is_file():
        raise DataError(f"{path}: no such file; run the prepare step")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    expected = {each.name: ARROW_TYPES[each.type] for each in contract.inputs}
    others = [*join_keys(contract), EVENT_TIMESTAMP, use_case.label.column, *use_case.label.keep, ROW]
    if missing := [name for name in (*others, *expected) if name not in table.column_names]:
        raise DataError(f"{path}: column {missing[0]} is missing; run the prepare step again")
    for name, kind in expected.items():
        found = table.schema.field(name).type
        if found != kind:
            raise DataError(f"{path}: column {name} is {found}, features.toml states {kind}")
    return table


def _nullable(kind: pa.DataType) -> object:
    names = {ARROW_TYPES[name]: dtype for name, dtype in PANDAS_TYPES.items()}
    return pd.api.types.pandas_dtype(names[kind]) if kind in names else None
