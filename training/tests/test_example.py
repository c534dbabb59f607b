"""Another CSV: definitions are written from its TOML file, all steps run, and the server takes the result."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from ferrocast_training.calendars import TtlCalendar
from ferrocast_training.cli import main
from ferrocast_training.contract import load_contract
from ferrocast_training.definitions import write_definitions
from ferrocast_training.steps.step import Context
from ferrocast_training.store import Store

from .conftest import EXAMPLE, said


def test_every_step_tells_what_it_did(german: Context) -> None:
    lines = said(german).splitlines()
    assert "prepare   1,000 rows read, 1,000 kept" in lines
    assert 'prepare   purpose: 12 values for "not known" made missing' in lines
    assert "prepare   700 train, 149 validation, 151 test rows" in lines
    assert (
        "register  ferrocast check: model german_credit version 1: 234 golden rows reproduced, good" in lines
    )
    assert "register  MLFLOW_TRACKING_URI is not set: nothing is registered" in lines


def test_the_definitions_are_those_of_the_schema(german: Context) -> None:
    contract = load_contract(german.contract.folder)
    declared = {name: column.type for name, column in german.use_case.schema.items()}
    assert contract.views["credit"].features == declared
    assert [each.name for each in contract.inputs] == list(declared)


def test_a_ttl_with_its_calendar_is_written_as_the_server_reads_it(german: Context, tmp_path: Path) -> None:
    calendar = TtlCalendar("Europe/Berlin", ["saturday", "sunday"], [date(1994, 10, 3), date(1994, 12, 26)])
    definitions = german.use_case.definitions
    assert definitions is not None
    use_case = replace(german.use_case, definitions=replace(definitions, ttl="2d", ttl_calendar=calendar))
    folder = tmp_path / "models" / use_case.model
    folder.mkdir(parents=True)
    write_definitions(use_case, tmp_path / "models")
    assert load_contract(folder).view("credit").ttl_calendar == calendar
    store = Store(tmp_path / "models", tmp_path / "store")
    store.apply(load_contract(folder))


def test_the_model_is_better_than_a_guess(german: Context) -> None:
    metrics = json.loads((german.version_folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"]["roc_auc"] > 0.75
    assert metrics["test"]["log_loss"] < metrics["test_baseline_constant_rate"]["log_loss"]


def test_the_model_card_has_numbers_and_plots(german: Context) -> None:
    card = (german.version_folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "# german_credit, version 1" in card
    assert "| rows | 700 | 149 | **151** | |" in card
    assert '- `purpose`: 12 values for "not known" made missing' in card
    shown = [line.split("(")[1].rstrip(")") for line in card.splitlines() if line.startswith("![")]
    assert len(shown) == 7
    for name in shown:
        assert (german.version_folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_command_line_does_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--usecases", str(EXAMPLE.parent), "--models", str(tmp_path), "--work", str(tmp_path / "work")]
    assert main(["init", "german_credit", *places]) == 0
    written = (tmp_path / "german_credit" / "features.toml").read_bytes()
    assert main(["init", "german_credit", *places]) == 0
    assert "are there; --force writes them anew" in capsys.readouterr().out
    assert main(["train", "german_credit", *places]) == 0
    assert "logistic_regression: " in capsys.readouterr().out
    assert (tmp_path / "german_credit" / "features.toml").read_bytes() == written
    assert not (tmp_path / "german_credit" / "1").exists()


def test_a_use_case_without_definitions_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "credit_risk", "--models", str(tmp_path)]) == 1
    assert "there is no [definitions], which names the entity" in capsys.readouterr().err


def test_what_the_server_refuses_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    places = ["--usecases", str(EXAMPLE.parent), "--models", str(tmp_path), "--work", str(tmp_path / "work")]
    assert main(["init", "german_credit", *places]) == 0
    path = tmp_path / "german_credit" / "features.toml"
    path.write_text(path.read_text(encoding="utf-8") + 'colour = "blue"\n', encoding="utf-8")
    assert main(["prepare", "german_credit", *places]) == 1
    assert "error: ferrocast apply: " in capsys.readouterr().err
    assert not (tmp_path / "work" / "german_credit" / "prepare").exists()
    monkeypatch.setenv("FERROCAST_BIN", str(tmp_path / "nowhere"))
    assert main(["prepare", "german_credit", *places]) == 1
    assert f"FERROCAST_BIN: {tmp_path / 'nowhere'} is not there" in capsys.readouterr().err
