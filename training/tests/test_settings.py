"""Settings and definitions that contradict each other are refused, and the command says so."""

from pathlib import Path

import pytest

from ferrocast_training.cli import main
from ferrocast_training.contract import load_contract
from ferrocast_training.errors import SettingsError
from ferrocast_training.settings import load_use_case

from .conftest import SETTINGS, copy_definitions


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = SETTINGS.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path = tmp_path / "credit_risk.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("trees_max = 200", "tree_max = 200", r"\[train\]: unknown key tree_max"),
        ("trees_max = 200", "", r"\[train\]: missing key trees_max"),
        ("validation = 0.2", "validation = 0.4", r"\[split\] .* leave a share for the test part"),
        ('numeric_missing = "median"', 'numeric_missing = "mean"', "numeric_missing has to be"),
        ("subsample = 0.8", "subsample = 0.8, colsample_bytree = 0.5", "colsample_bytree"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        load_use_case(changed(tmp_path, old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("model.toml", "loan_terms:term", "loan_terms:length", "features.toml has no loan_terms:length"),
        ("model.toml", "[aliases]", '[inputs.term]\nfeature = "a:b"\n[aliases]', "input term is renamed"),
        (
            "features.toml",
            '{ name = "term", type = "string"',
            '{ name = "term", type = "bytes"',
            "loan_terms:term is a bytes",
        ),
        ("features.toml", 'name = "loan"', 'name = "credit"', "'loan' is missing or not defined"),
    ],
)
def test_bad_definitions_are_refused(tmp_path: Path, file: str, old: str, new: str, complaint: str) -> None:
    folder = copy_definitions(tmp_path)
    text = (folder / file).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (folder / file).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(SettingsError, match=complaint):
        load_contract(folder)


def test_an_unknown_use_case_ends_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no_such_thing"]) == 1
    assert "no_such_thing.toml: there is no such use case" in capsys.readouterr().err


def test_a_folder_without_definitions_ends_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["credit_risk", "--models", str(tmp_path)]) == 1
    assert "features.toml: no such file" in capsys.readouterr().err


def test_only_prepare_writes_the_data_and_stops(tmp_path: Path) -> None:
    folder = copy_definitions(tmp_path)
    assert main(["credit_risk", "--models", str(tmp_path), "--only-prepare"]) == 0
    assert {path.name for path in (folder / "data").iterdir()} == {
        "applicant.parquet",
        "loan_terms.csv",
        "labels.csv",
    }
    assert not (folder / "1").exists()
