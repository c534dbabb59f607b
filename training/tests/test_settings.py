"""Settings and definitions that contradict each other are refused, and the command says so."""

import shutil
from pathlib import Path

import pytest

from ferrocast_training.cli import main
from ferrocast_training.contract import load_contract
from ferrocast_training.errors import SettingsError
from ferrocast_training.settings import UseCase, load_use_case
from ferrocast_training.views import check_schema

from .conftest import EXAMPLE, SETTINGS, TRAINING, copy_definitions


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
        ("seed = 7\n", "", r"\[train\]: missing key seed"),
        ("trees_max = 200", "trees_max = 'many'", r"\[train\] trees_max: .* not 'many'"),
        ("trees_max = 200", "", r"\[train\] trees_max and early_stopping_rounds have to be 1 or more"),
        ('version = "1"', "", "missing key version"),
        ("[source]", "[sources]", "unknown key sources|missing key source"),
        ("[schema]", "[schema]\nage = 5", r"\[schema\] age"),
        (
            'type = "int64", min = 1,',
            'type = "int99", min = 1,',
            "funded_amnt type: .* not 'int99'",
        ),
        (
            'term = { type = "string"',
            'term = { type = "string", min = 1',
            "min, max and missing_below",
        ),
        (
            "delinq_2yrs = { type",
            'delinq_2yrs = { categories = ["a"], type',
            "categories are for text",
        ),
        (
            "emp_length = {",
            'emp_length = { required = true, on_invalid = "missing",',
            "emp_length: what is required",
        ),
        ('sha256 = "9b', '# sha256 = "9b', r"\[source\] sha256 is missing"),
        ("first_event_at = 2016-01-04T00:00:00Z", "", r"\[rows\] first_event_at is missing"),
        ("validation = 0.2", "validation = 0.4", r"\[split\] .* leave a share for the test part"),
        (
            'by = "stratified"',
            "test_from = 2016-02-01T00:00:00Z",
            r"\[split\] validation_from and test_from go together",
        ),
        ('by = "stratified"', "test_from = 2016-02-01", r"\[split\] test_from: .* timezone info"),
        ('numeric_missing = "median"', 'numeric_missing = "mean"', r"numeric_missing: .* not 'mean'"),
        ('library = "xgboost"', 'library = "catboost"', r"\[train\] library: .* not 'catboost'"),
        ('library = "xgboost"', 'library = "logistic_regression"', "a logistic regression has no trees"),
        ("subsample = 0.8", "subsample = 0.8, colsample_bytree = 0.5", "colsample_bytree"),
        ("[split]", "[split", "not TOML: "),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = changed(tmp_path, old, new)
    with pytest.raises(SettingsError, match=complaint) as refused:
        load_use_case(path)
    assert str(refused.value).startswith(str(path))


@pytest.mark.parametrize("path", sorted((TRAINING / "usecases").glob("*.toml")), ids=lambda path: path.stem)
def test_every_use_case_can_be_read(path: Path) -> None:
    assert load_use_case(path).name == path.stem


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
        (
            "features.toml",
            'ttl = "0s" # an',
            'ttl_calendar = { time_zone = "UTC", days_off = ["2014-13-01"] }\nttl = "0s" # an',
            r"applicant: ttl_calendar\.days_off\.0: Input should be a valid date",
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


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            '"funded_amnt", type = "int64"',
            '"funded_amnt", type = "double"',
            "is double, .* int64",
        ),
        ('{ name = "int_rate"', '{ name = "rate", type = "double" },\n{ name = "int_rate"', "rate is not in"),
        ('[{ name = "loan_id"', '[{ name = "id"', r"no entity has the join key loan_id"),
    ],
)
def test_a_schema_that_says_something_else_than_the_definitions_is_refused(
    tmp_path: Path, use_case: UseCase, old: str, new: str, complaint: str
) -> None:
    folder = copy_definitions(tmp_path)
    path = folder / "features.toml"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(SettingsError, match=complaint):
        check_schema(use_case, load_contract(folder))


def test_an_unknown_use_case_ends_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "no_such_thing"]) == 1
    assert "no_such_thing.toml: there is no such use case" in capsys.readouterr().err


def test_a_folder_without_definitions_ends_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--models", str(tmp_path), "--work", str(tmp_path / "work")]
    assert main(["train", "credit_risk", *places]) == 1
    assert "features.toml: no such file" in capsys.readouterr().err


def test_the_raw_file_can_be_named_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--usecases", str(EXAMPLE.parent), "--models", str(tmp_path), "--work", str(tmp_path / "work")]
    other = tmp_path / "other.csv"
    assert main(["prepare", "german_credit", *places, "--source", str(other)]) == 1
    assert f"{other}: no such file" in capsys.readouterr().err
    shutil.copy(EXAMPLE.parent / "german_credit" / "germancredit.csv", other)
    assert main(["prepare", "german_credit", *places, "--source", str(other)]) == 0
    assert (tmp_path / "work" / "german_credit" / "prepare" / "train.parquet").is_file()
