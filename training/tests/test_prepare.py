"""Raw rows become typed files with ids and points in time; bad ones are refused by name."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ferrocast_training.prepare import raw_path, read_raw, typed_rows, write_labels, write_view

from ferrocast_training.contract import Contract, load_contract
from ferrocast_training.errors import DataError
from ferrocast_training.settings import UseCase

from .conftest import COMMITTED, copy_definitions


def test_ids_and_points_in_time_follow_the_row_order(
    raw: pd.DataFrame, use_case: UseCase, contract: Contract
) -> None:
    rows = typed_rows(raw, use_case, contract)
    assert rows["loan_id"].tolist()[:2] == ["LC00001", "LC00002"]
    assert rows["event_timestamp"].iloc[0] == pd.Timestamp("2016-01-04T00:00:00Z")
    assert rows["event_timestamp"].iloc[1] == pd.Timestamp("2016-01-04T00:12:50Z")
    assert ((rows["created_at"] - rows["event_timestamp"]) == pd.Timedelta(seconds=60)).all()


def test_the_word_for_unknown_becomes_missing_and_the_text_na_does_not(
    raw: pd.DataFrame, use_case: UseCase, contract: Contract
) -> None:
    rows = typed_rows(raw, use_case, contract)
    assert rows["emp_length"].isna().tolist() == [False, True] + [False] * 38
    assert rows["addr_state"].iloc[1] == "NA"


def test_parquet_has_the_stated_types(raw: pd.DataFrame, use_case: UseCase, tmp_path: Path) -> None:
    contract = load_contract(copy_definitions(tmp_path))
    schema = pq.read_schema(write_view(typed_rows(raw, use_case, contract), contract.views["applicant"]))
    assert schema.field("event_timestamp").type == pa.timestamp("us", tz="UTC")
    assert schema.field("annual_inc").type == pa.float64()
    assert schema.field("delinq_2yrs").type == pa.int64()
    assert schema.field("emp_length").type == pa.string()


def test_csv_has_rfc_3339_times_and_empty_cells(raw: pd.DataFrame, use_case: UseCase, tmp_path: Path) -> None:
    contract = load_contract(copy_definitions(tmp_path))
    rows = typed_rows(raw, use_case, contract)
    rows.loc[0, "sub_grade"] = pd.NA
    lines = write_view(rows, contract.views["loan_terms"]).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "loan_id,event_timestamp,created_at,funded_amnt,term,int_rate,sub_grade"
    assert lines[1] == "LC00001,2016-01-04T00:00:00Z,2016-01-04T00:01:00Z,0,term_36,0.5,"


def test_labels_come_after_their_features_are_known(
    raw: pd.DataFrame, use_case: UseCase, contract: Contract, tmp_path: Path
) -> None:
    rows = typed_rows(raw, use_case, contract)
    spine = pd.read_csv(write_labels(rows, use_case, tmp_path))
    assert (pd.to_datetime(spine["event_timestamp"]) > rows["created_at"]).all()
    assert spine["outcome"].value_counts().to_dict() == {"good": 36, "bad": 4}


def test_the_committed_data_is_all_of_the_raw_data(use_case: UseCase) -> None:
    whole = read_raw(use_case.source, raw_path(use_case.source))
    labels = pd.read_csv(COMMITTED / "data" / "labels.csv")
    assert len(labels) == len(whole) == 9857
    assert (labels["outcome"] == "bad").sum() == 517


def test_a_missing_column_is_named(raw: pd.DataFrame, use_case: UseCase, contract: Contract) -> None:
    with pytest.raises(DataError, match="column int_rate is missing"):
        typed_rows(raw.drop(columns="int_rate"), use_case, contract)


def test_text_in_a_number_column_is_refused(raw: pd.DataFrame, use_case: UseCase, contract: Contract) -> None:
    with pytest.raises(DataError, match="column int_rate is stated as double"):
        typed_rows(raw.assign(int_rate="12 %"), use_case, contract)


def test_fractions_in_a_whole_number_column_are_refused(
    raw: pd.DataFrame, use_case: UseCase, contract: Contract
) -> None:
    with pytest.raises(DataError, match="column inq_fi cannot be held as int64"):
        typed_rows(raw.assign(inq_fi=0.5), use_case, contract)


def test_numbers_in_a_text_column_are_refused(
    raw: pd.DataFrame, use_case: UseCase, contract: Contract
) -> None:
    with pytest.raises(DataError, match="column term is stated as string"):
        typed_rows(raw.assign(term=36), use_case, contract)


def test_an_empty_label_is_refused(raw: pd.DataFrame, use_case: UseCase, contract: Contract) -> None:
    raw.loc[3, "Class"] = None
    with pytest.raises(DataError, match=r"column Class \(the label\) has 1 empty"):
        typed_rows(raw, use_case, contract)


def test_an_unknown_label_is_refused(raw: pd.DataFrame, use_case: UseCase, contract: Contract) -> None:
    raw.loc[3, "Class"] = "ugly"
    with pytest.raises(DataError, match="holds 'ugly'"):
        typed_rows(raw, use_case, contract)


def test_an_unreviewed_pickle_is_not_opened(use_case: UseCase, tmp_path: Path) -> None:
    path = tmp_path / "raw.pkl"
    path.write_bytes(b"anything")
    with pytest.raises(DataError, match=r"raw\.pkl: sha256 is"):
        read_raw(use_case.source, path)


def test_a_reviewed_file_that_is_no_pickle_is_refused(use_case: UseCase, tmp_path: Path) -> None:
    path = tmp_path / "raw.pkl"
    path.write_bytes(b"anything")
    source = replace(use_case.source, sha256=hashlib.sha256(b"anything").hexdigest())
    with pytest.raises(DataError, match=r"raw\.pkl: cannot be read"):
        read_raw(source, path)


def test_a_package_that_is_not_installed_is_named(use_case: UseCase) -> None:
    with pytest.raises(DataError, match="no-such-package is not installed"):
        raw_path(replace(use_case.source, package="no-such-package"))
