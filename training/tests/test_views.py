"""Rows get ids and points in time, and become typed files that the store loads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ferrocast_training.contract import Contract, load_contract
from ferrocast_training.errors import DataError
from ferrocast_training.identity import identify
from ferrocast_training.schema import clean
from ferrocast_training.settings import Rows, UseCase
from ferrocast_training.views import label_rows, write_labels, write_view

from .conftest import copy_definitions

COUNT = 40


@pytest.fixture
def raw() -> pd.DataFrame:
    """Forty rows as the raw file has them; every tenth is bad, the second has no known employment."""
    numbers = {
        name: np.arange(1, COUNT + 1)
        for name in (
            *("funded_amnt", "total_bal_il", "total_il_high_credit_limit", "delinq_amnt", "all_util"),
            *("delinq_2yrs", "acc_now_delinq", "inq_last_6mths", "inq_last_12m", "inq_fi"),
            *("open_il_6m", "open_il_12m", "open_il_24m", "num_il_tl"),
        )
    }
    money = {name: np.linspace(0.5, 99.5, COUNT) for name in ("annual_inc", "int_rate", "revol_util")}
    words = {
        "term": ["term_36", "term_60"] * 20,
        "sub_grade": ["A1", "B2"] * 20,
        "addr_state": ["NE", "NA"] * 20,
        "verification_status": ["Verified"] * COUNT,
        "emp_length": ["emp_1", "emp_unk"] + ["emp_5"] * 38,
        "Class": (["bad"] + ["good"] * 9) * 4,
    }
    return pd.DataFrame(numbers | money | words)


def rows_of(raw: pd.DataFrame, use_case: UseCase) -> pd.DataFrame:
    kept, _ = clean(raw, use_case)
    return identify(raw, use_case.rows).loc[kept.index].join(kept)


def test_ids_and_points_in_time_follow_the_row_order(raw: pd.DataFrame, use_case: UseCase) -> None:
    rows = rows_of(raw, use_case)
    assert rows["loan_id"].tolist()[:2] == ["LC00001", "LC00002"]
    assert rows["event_at"].iloc[0] == pd.Timestamp("2016-01-04T00:00:00Z")
    assert rows["event_at"].iloc[1] == pd.Timestamp("2016-01-04T00:12:50Z")


def test_a_dropped_row_keeps_its_number(raw: pd.DataFrame, use_case: UseCase) -> None:
    rate = replace(use_case.schema["int_rate"], max=90, on_invalid="drop_row")
    dropping = replace(use_case, schema=use_case.schema | {"int_rate": rate})
    rows = rows_of(raw.iloc[::-1].reset_index(drop=True), dropping)
    assert rows["loan_id"].iloc[0] == "LC00005"


def test_points_in_time_can_be_the_sources(raw: pd.DataFrame) -> None:
    raw["day"] = "2020-02-03T04:05:06+01:00"
    found = identify(raw, Rows("loan_id", "X", 2, event_column="day"))
    assert (found["event_at"] == pd.Timestamp("2020-02-03T03:05:06Z")).all()


def test_points_in_time_can_be_months(raw: pd.DataFrame) -> None:
    raw["month"] = ["0", "13"] * 20
    first = pd.Timestamp("2021-01-01T00:00:00Z").to_pydatetime()
    rows = Rows("loan_id", "X", 2, event_column="month", event_unit="month", first_event_at=first)
    found = identify(raw, rows)["event_at"]
    assert found.iloc[0] == pd.Timestamp("2021-01-01T00:00:00Z")
    assert found.iloc[1] == pd.Timestamp("2022-02-01T00:00:00Z")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (Rows("loan_id", event_column="day"), r"column loan_id \(\[rows\] id_column\) is missing"),
        (Rows("sub_grade", event_column="term"), r"column term \(\[rows\] event_column\): "),
        (Rows("sub_grade", event_column="gap"), r"column gap \(\[rows\] event_column\) is empty in row 3"),
    ],
)
def test_bad_ids_and_points_in_time_are_named(raw: pd.DataFrame, rows: Rows, complaint: str) -> None:
    raw["gap"] = ["2020-01-01", "2020-01-01", None, "2020-01-01"] * 10
    with pytest.raises(DataError, match=complaint):
        identify(raw, rows)


def test_parquet_has_the_stated_types(raw: pd.DataFrame, use_case: UseCase, tmp_path: Path) -> None:
    contract = load_contract(copy_definitions(tmp_path))
    path = write_view(rows_of(raw, use_case), contract.views["applicant"], use_case)
    schema = pq.read_schema(path)
    assert schema.field("event_timestamp").type == pa.timestamp("us", tz="UTC")
    assert schema.field("annual_inc").type == pa.float64()
    assert schema.field("delinq_2yrs").type == pa.int64()
    assert schema.field("emp_length").type == pa.string()
    assert pq.read_table(path)["emp_length"].to_pylist()[:2] == ["emp_1", None]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_csv_has_rfc_3339_times_and_empty_cells(raw: pd.DataFrame, use_case: UseCase, tmp_path: Path) -> None:
    contract = load_contract(copy_definitions(tmp_path))
    rows = rows_of(raw, use_case)
    rows.loc[0, "sub_grade"] = pd.NA
    path = write_view(rows, contract.views["loan_terms"], use_case)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "loan_id,event_timestamp,created_at,funded_amnt,term,int_rate,sub_grade"
    assert lines[1] == "LC00001,2016-01-04T00:00:00Z,2016-01-04T00:01:00Z,1,term_36,0.5,"


def test_labels_come_after_their_features_are_known(
    raw: pd.DataFrame, use_case: UseCase, tmp_path: Path
) -> None:
    contract = load_contract(copy_definitions(tmp_path))
    rows = rows_of(raw, use_case)
    spine = pd.read_csv(write_labels(label_rows(rows, use_case, contract), use_case, contract))
    assert list(spine.columns) == ["loan_id", "event_timestamp", "outcome"]
    late = pd.to_datetime(spine["event_timestamp"]) - rows["event_at"].reset_index(drop=True)
    assert (late == pd.Timedelta(hours=1)).all()
    assert spine["outcome"].value_counts().to_dict() == {"good": 36, "bad": 4}


def test_rows_that_are_alike_are_written_once_and_others_refused(
    raw: pd.DataFrame, use_case: UseCase, tmp_path: Path
) -> None:
    contract = load_contract(copy_definitions(tmp_path))
    rows = rows_of(raw, use_case)
    twice = pd.concat([rows, rows.head(3)])
    path = write_view(twice, contract.views["loan_terms"], use_case)
    assert len(pd.read_csv(path)) == COUNT
    before = path.read_bytes()
    other = pd.concat([rows, rows.head(2).assign(int_rate=1.0)])
    with pytest.raises(DataError, match=r"loan_terms\.csv: 2 rows have the key and time of others"):
        write_view(other, contract.views["loan_terms"], use_case)
    assert path.read_bytes() == before


def test_two_labels_of_one_moment_are_refused(
    raw: pd.DataFrame, use_case: UseCase, contract: Contract
) -> None:
    rows = rows_of(raw, use_case)
    with pytest.raises(DataError, match=r"labels: 1 rows have the key and time of others, .*LC00001"):
        label_rows(pd.concat([rows, rows.head(1)]), use_case, contract)
