"""Files that do not fit features.toml are refused with the file and the column."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ferrocast_training.contract import load_contract
from ferrocast_training.dataset import Dataset, load_dataset
from ferrocast_training.errors import DataError
from ferrocast_training.settings import UseCase

from .conftest import Fitted


def load(folder: Path, use_case: UseCase) -> Dataset:
    return load_dataset(use_case, load_contract(folder))


def edit_csv(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(frame).to_csv(path, index=False)


def edit_parquet(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def test_features_come_in_the_order_of_the_model(fitted: Fitted) -> None:
    assert list(fitted.dataset.features.columns[:3]) == ["funded_amnt", "term", "int_rate"]
    assert fitted.dataset.features.shape == (9857, 22)
    assert fitted.dataset.labels.sum() == 517
    assert fitted.dataset.features["emp_length"].isna().sum() == 645


def test_the_text_na_stays_text(folder: Path, use_case: UseCase) -> None:
    edit_csv(folder / "data/loan_terms.csv", lambda frame: frame.assign(sub_grade="NA"))
    assert (load(folder, use_case).features["sub_grade"] == "NA").all()


def test_a_missing_whole_number_stays_missing(folder: Path, use_case: UseCase) -> None:
    edit_csv(folder / "data/loan_terms.csv", lambda frame: frame.assign(funded_amnt=""))
    features = load(folder, use_case).features
    assert features["funded_amnt"].isna().all()
    assert features["funded_amnt"].dtype == "Int64"


def test_a_missing_csv_column_is_named(folder: Path, use_case: UseCase) -> None:
    edit_csv(folder / "data/loan_terms.csv", lambda frame: frame.drop(columns="term"))
    with pytest.raises(DataError, match=r"loan_terms\.csv: column term is missing"):
        load(folder, use_case)


def test_a_csv_value_of_the_wrong_type_is_named(folder: Path, use_case: UseCase) -> None:
    def spoil(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[5, "int_rate"] = "high"
        return frame

    edit_csv(folder / "data/loan_terms.csv", spoil)
    with pytest.raises(DataError, match=r"loan_terms\.csv: column int_rate is not of type double"):
        load(folder, use_case)


def test_a_bad_point_in_time_is_named(folder: Path, use_case: UseCase) -> None:
    edit_csv(folder / "data/loan_terms.csv", lambda frame: frame.assign(created_at="yesterday?"))
    with pytest.raises(DataError, match=r"loan_terms\.csv: column created_at is not of type timestamp"):
        load(folder, use_case)


def test_a_missing_parquet_column_is_named(folder: Path, use_case: UseCase) -> None:
    edit_parquet(folder / "data/applicant.parquet", lambda table: table.drop_columns(["annual_inc"]))
    with pytest.raises(DataError, match=r"applicant\.parquet: column annual_inc is missing"):
        load(folder, use_case)


def test_a_parquet_column_of_another_type_is_named(folder: Path, use_case: UseCase) -> None:
    def narrow(table: pa.Table) -> pa.Table:
        position = table.column_names.index("annual_inc")
        return table.set_column(position, "annual_inc", table.column("annual_inc").cast(pa.float32()))

    edit_parquet(folder / "data/applicant.parquet", narrow)
    with pytest.raises(DataError, match=r"applicant\.parquet: column annual_inc is float, .* states double"):
        load(folder, use_case)


def test_a_file_that_is_no_parquet_is_named(folder: Path, use_case: UseCase) -> None:
    (folder / "data/applicant.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match=r"applicant\.parquet: not a Parquet file"):
        load(folder, use_case)


def test_an_absent_file_is_named(folder: Path, use_case: UseCase) -> None:
    (folder / "data/applicant.parquet").unlink()
    with pytest.raises(DataError, match=r"applicant\.parquet: no such file"):
        load(folder, use_case)


def test_an_empty_label_is_named_with_its_line(folder: Path, use_case: UseCase) -> None:
    def spoil(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[5, "outcome"] = ""
        return frame

    edit_csv(folder / "data/labels.csv", spoil)
    with pytest.raises(DataError, match=r"labels\.csv: column outcome \(the label\) is empty in line 7"):
        load(folder, use_case)


def test_an_unknown_label_is_named(folder: Path, use_case: UseCase) -> None:
    edit_csv(folder / "data/labels.csv", lambda frame: frame.assign(outcome="ugly"))
    with pytest.raises(DataError, match="column outcome holds 'ugly'"):
        load(folder, use_case)


def test_a_repeated_id_is_refused(folder: Path, use_case: UseCase) -> None:
    edit_csv(folder / "data/loan_terms.csv", lambda frame: pd.concat([frame, frame.head(1)]))
    with pytest.raises(DataError, match=r"loan_terms\.csv: column loan_id has empty or repeated"):
        load(folder, use_case)


def test_a_label_without_features_is_refused(folder: Path, use_case: UseCase) -> None:
    edit_csv(folder / "data/loan_terms.csv", lambda frame: frame.drop(index=[0]))
    with pytest.raises(DataError, match=r"loan_terms\.csv: 1 labelled rows are not there, LC00001 first"):
        load(folder, use_case)
