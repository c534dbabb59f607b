"""Raw files are read as they are, and only if they are the stated ones."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from ferrocast_training.derivations import derive
from ferrocast_training.errors import DataError, SettingsError
from ferrocast_training.settings import Derive, RawFile, Source, UseCase
from ferrocast_training.source import Raw, raw_paths, read_raw, read_source

from .conftest import COMMITTED


def in_folder(use_case: UseCase, folder: Path, source: Source) -> UseCase:
    return replace(use_case, folder=folder, source=source)


def test_cells_of_a_csv_are_text_and_empty_ones_missing(tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("a,b\n01,\n,NA\n")
    raw = read_raw(tmp_path / "raw.csv", "")
    assert raw["a"].iloc[0] == "01" and pd.isna(raw["a"].iloc[1])
    assert pd.isna(raw["b"].iloc[0]) and raw["b"].iloc[1] == "NA"


def test_whole_numbers_of_a_parquet_file_stay_whole(tmp_path: Path) -> None:
    pd.DataFrame({"n": pd.array([1, None], dtype="Int64")}).to_parquet(tmp_path / "raw.parquet")
    assert read_raw(tmp_path / "raw.parquet", "")["n"].dtype == "Int64"


def test_further_files_come_by_their_names(use_case: UseCase, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    (tmp_path / "items.csv.gz").write_bytes(b"")
    pd.DataFrame({"item": ["x"]}).to_csv(tmp_path / "items.csv.gz", index=False)
    digest = hashlib.sha256((tmp_path / "items.csv.gz").read_bytes()).hexdigest()
    source = Source("rows.csv", more={"items": RawFile("items.csv.gz", digest)})
    raw = read_source(in_folder(use_case, tmp_path, source))
    assert raw.rows["a"].to_list() == ["1"]
    assert raw.more["items"]["item"].to_list() == ["x"]


def test_another_file_than_the_stated_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"raw\.csv: sha256 is [0-9a-f]{64}, \[source\] states 00"):
        read_raw(tmp_path / "raw.csv", "00")


def test_a_pickle_that_nobody_reviewed_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "raw.pkl.compress"
    path.write_bytes(b"anything")
    with pytest.raises(DataError, match=r"raw data is \.csv, \.csv\.gz or \.parquet"):
        read_raw(path, "")


@pytest.mark.parametrize("name", ["raw.pkl.compress", "raw.parquet", "raw.csv.gz", "raw.csv"])
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xff\xfeanything")
    with pytest.raises(DataError, match=rf"{name}: cannot be read: "):
        read_raw(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_an_absent_file_is_named(use_case: UseCase, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        read_source(in_folder(use_case, tmp_path, Source("nowhere.csv")))


def test_a_package_that_is_not_installed_is_named(use_case: UseCase) -> None:
    source = replace(use_case.source, package="no-such-package")
    with pytest.raises(DataError, match="no-such-package is not installed"):
        raw_paths(replace(use_case, source=source))


def test_a_derivation_that_does_not_exist_is_named() -> None:
    with pytest.raises(SettingsError, match=r"\[derive\] function: there is no magic; there are "):
        derive(Raw(pd.DataFrame()), Derive("magic"))


def test_the_committed_data_is_all_of_the_raw_data(use_case: UseCase) -> None:
    labels = pd.read_csv(COMMITTED / "data" / "labels.csv")
    assert len(labels) == len(read_source(use_case).rows) == 9857
    assert (labels["outcome"] == "bad").sum() == 517
