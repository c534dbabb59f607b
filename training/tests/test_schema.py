"""Raw rows are held against the schema: sentinels become missing, invalid entries go as their column says."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ferrocast_training.errors import DataError
from ferrocast_training.schema import clean
from ferrocast_training.settings import Column, Label, UseCase

RAW = pd.DataFrame(
    {
        "age": ["30", "-1", "17", None, "old"],
        "limit": [100.5, 200.0, -3.0, np.nan, 400.0],
        "kind": ["a", "NA", "", None, "c"],
        "outcome": ["good", "bad", "good", "good", "bad"],
        "note": ["x"] * 5,
    }
)


def cleaned(use_case: UseCase, raw: pd.DataFrame = RAW, **columns: Column) -> tuple[pd.DataFrame, Any]:
    label = Label(column="outcome", negative="good", positive="bad")
    return clean(raw, replace(use_case, schema=columns, label=label))


def test_sentinels_become_missing_and_are_counted(use_case: UseCase) -> None:
    age = Column("int64", missing=[-1, "old"])
    rows, report = cleaned(use_case, age=age, limit=Column("double", missing_below=0.0))
    assert rows["age"].dtype == "Int64" and rows["limit"].dtype == "Float64"
    assert rows["age"].to_list() == [30, pd.NA, 17, pd.NA, pd.NA]
    assert rows["limit"].isna().to_list() == [False, False, True, True, False]
    assert (report.columns["age"].sentinels, report.columns["age"].missing_before) == (2, 1)
    assert report.columns["limit"].sentinels == 1
    assert 'age: 2 values for "not known" made missing' in list(report.lines())


def test_the_text_na_is_text_and_an_empty_text_too(use_case: UseCase) -> None:
    rows, _ = cleaned(use_case, kind=Column("string"))
    assert rows["kind"].to_list() == ["a", "NA", "", pd.NA, "c"]


def test_an_invalid_entry_is_refused_with_row_and_reason(use_case: UseCase) -> None:
    with pytest.raises(DataError, match=r"column age: 1 invalid entries, first row 5: 'old' is not a number"):
        cleaned(use_case, age=Column("int64"))


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        (Column("int64", missing=["old"], min=18), r"2 invalid entries, first row 2: '-1' is below 18"),
        (Column("int64", missing=["old"], max=20), r"1 invalid entries, first row 1: '30' is above 20"),
        (Column("int64", missing=["old"], required=True), r"first row 4: a missing value is required"),
        (Column("int32", missing=["old", "-1"], min=20), r"first row 3: '17' is below 20"),
    ],
)
def test_every_rule_is_named(use_case: UseCase, column: Column, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        cleaned(use_case, age=column)


def test_invalid_entries_can_be_made_missing(use_case: UseCase) -> None:
    age = Column("int64", min=18, on_invalid="missing")
    rows, report = cleaned(use_case, age=age)
    assert rows["age"].to_list() == [30, pd.NA, pd.NA, pd.NA, pd.NA]
    said = "age: 3 invalid entries made missing (row 2: '-1' is below 18)"
    assert said in list(report.lines())


def test_invalid_entries_can_take_their_rows_with_them(use_case: UseCase) -> None:
    kind = Column("string", categories=["a", "NA", ""], on_invalid="drop_row")
    rows, report = cleaned(use_case, kind=kind, limit=Column("double"))
    assert rows.index.to_list() == [0, 1, 2, 3]
    assert rows["outcome"].to_list() == ["good", "bad", "good", "good"]
    assert list(report.lines()) == [
        "5 rows read, 4 kept",
        "kind: 1 invalid entries dropped with their rows (row 5: 'c' is none of a, NA, )",
        "not in the schema, left out: age, note",
    ]


def test_columns_that_the_schema_does_not_name_are_left_out_and_named(use_case: UseCase) -> None:
    rows, report = cleaned(use_case, kind=Column("string"))
    assert list(rows.columns) == ["kind", "outcome"]
    assert report.ignored == ["age", "limit", "note"]


def test_a_column_can_have_another_name_in_the_source(use_case: UseCase) -> None:
    rows, _ = cleaned(use_case, letter=Column("string", source="kind"))
    assert list(rows.columns) == ["letter", "outcome"]


@pytest.mark.parametrize("value", [0.5, 2.0**60, np.inf, 2**40])
def test_what_is_no_int32_is_invalid(use_case: UseCase, value: float) -> None:
    with pytest.raises(DataError, match="column age: 1 invalid entries, first row 3"):
        cleaned(use_case, RAW.assign(age=[1.0, 2.0, value, 4.0, 5.0]), age=Column("int32"))


def test_large_whole_numbers_stay_exact(use_case: UseCase) -> None:
    large = 2**62 + 1
    rows, _ = cleaned(use_case, RAW.assign(age=[large] * 5), age=Column("int64"))
    assert rows["age"].iloc[0] == large


def test_numbers_in_a_text_column_are_invalid(use_case: UseCase) -> None:
    with pytest.raises(DataError, match="column kind: 5 invalid entries, first row 1: 36 is not text"):
        cleaned(use_case, RAW.assign(kind=36), kind=Column("string"))


def test_a_missing_column_is_named(use_case: UseCase) -> None:
    with pytest.raises(DataError, match="column height is missing; there are age, limit"):
        cleaned(use_case, height=Column("double"))


def test_no_row_left_is_refused(use_case: UseCase) -> None:
    with pytest.raises(DataError, match="no row is left"):
        cleaned(use_case, note=Column("string", categories=["y"], on_invalid="drop_row"))


@pytest.mark.parametrize(
    ("outcome", "complaint"),
    [
        (["good", None, "bad", "good", "good"], r"outcome \(the label\) is empty in 1 rows, first in row 2"),
        (["good", "bad", "ugly", "good", "good"], r"holds 'ugly' in row 3, not good or bad"),
    ],
)
def test_a_bad_label_is_refused(use_case: UseCase, outcome: list[str], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        cleaned(use_case, RAW.assign(outcome=outcome), kind=Column("string"))


def test_labels_can_be_given_words(use_case: UseCase) -> None:
    words = {"0": "good", "1": "bad"}
    label = Label(column="outcome", raw_column="flag", negative="good", positive="bad", words=words)
    raw = RAW.assign(flag=[0, 1, 0, 0, 1])
    rows, _ = clean(raw, replace(use_case, schema={"kind": Column("string")}, label=label))
    assert rows["outcome"].to_list() == ["good", "bad", "good", "good", "bad"]
    with pytest.raises(DataError, match=r"column flag \(the label\) holds '2' in row 1, not 0 or 1"):
        clean(raw.assign(flag=2), replace(use_case, schema={"kind": Column("string")}, label=label))
