"""The joined sets are read back in the store's types; a file that does not fit is refused with its column."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ferrocast_training.errors import DataError
from ferrocast_training.steps.step import Context

from .conftest import Fitted


def edit(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def test_rows_come_in_the_order_of_the_labels_and_columns_in_that_of_the_model(fitted: Fitted) -> None:
    dataset = fitted.dataset
    assert list(dataset.features.columns[:3]) == ["funded_amnt", "term", "int_rate"]
    assert dataset.features.shape == (9857, 22)
    assert dataset.ids.tolist()[:2] == ["LC00001", "LC00002"]
    assert dataset.labels.sum() == 517
    assert dataset.features["emp_length"].isna().sum() == 645
    assert dataset.features["funded_amnt"].dtype == "Int64"


def test_the_sets_have_the_declared_shares(fitted: Fitted) -> None:
    assert [len(rows) for rows in vars(fitted.dataset.parts).values()] == [5914, 1971, 1972]


def test_a_missing_column_is_named(copied: Context) -> None:
    path = copied.result("prepare") / "test.parquet"
    edit(path, lambda table: table.drop_columns(["job"]))
    with pytest.raises(DataError, match=r"test\.parquet: column job is missing"):
        copied.dataset()


def test_a_column_of_another_type_is_named(copied: Context) -> None:
    def narrow(table: pa.Table) -> pa.Table:
        position = table.column_names.index("credit_amount")
        return table.set_column(position, "credit_amount", table.column("credit_amount").cast(pa.int32()))

    edit(copied.result("prepare") / "train.parquet", narrow)
    with pytest.raises(DataError, match=r"train\.parquet: column credit_amount is int32, .* states int64"):
        copied.dataset()


def test_a_file_that_is_no_parquet_is_named(copied: Context) -> None:
    (copied.result("prepare") / "validation.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match=r"validation\.parquet: not a Parquet file"):
        copied.dataset()


def test_an_absent_file_is_named(copied: Context) -> None:
    (copied.result("prepare") / "train.parquet").unlink()
    with pytest.raises(DataError, match=r"train\.parquet: no such file"):
        copied.dataset()
