"""The search stays within its bounds, gives the same twice, and is written into the settings on demand."""

import json
import shutil
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ferrocast_training.contract import Contract
from ferrocast_training.errors import SettingsError
from ferrocast_training.settings import Range, Train, Tune, load_use_case
from ferrocast_training.steps import STEPS
from ferrocast_training.steps.runner import run_steps
from ferrocast_training.steps.step import Context
from ferrocast_training.steps.tune import apply
from ferrocast_training.tune import Tuned, tune

from .conftest import EXAMPLE, Fitted, said

STANDING = Train(seed=3, trees_max=16, early_stopping_rounds=8, params={"max_depth": 6, "learning_rate": 0.9})
SPACE = {"max_depth": Range(2, 6), "learning_rate": Range(0.03, 0.9, log=True)}


def search(fitted: Fitted, contract: Contract, **bounds: Any) -> Tuned:
    settings = replace(Tune(SPACE, trials_max=12, seed=5), **bounds)
    return tune(
        fitted.parts["train"], fitted.parts["validation"], contract, STANDING, settings, lambda *_: None
    )


def test_it_finds_better_parameters_prunes_and_gives_the_same_twice(
    fitted: Fitted, contract: Contract
) -> None:
    found, again = search(fitted, contract), search(fitted, contract)
    assert found.validation_log_loss < found.chosen_log_loss
    assert found.trials == again.trials and len(found.trials) == 12
    assert found.trials[0]["params"] == STANDING.params
    assert {trial["state"] for trial in found.trials} == {"COMPLETE", "PRUNED"}
    for trial in found.trials:
        assert 2 <= trial["params"]["max_depth"] <= 6 and isinstance(trial["params"]["max_depth"], int)
        assert 0.03 <= trial["params"]["learning_rate"] <= 0.9


def test_time_is_a_bound(fitted: Fitted, contract: Contract) -> None:
    started = time.monotonic()
    found = search(fitted, contract, trials_max=100_000, seconds_max=2)
    assert 1 <= len(found.trials) < 1000
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (Range(), "low and high, or choices, have to be stated"),
        (Range(low=2), "low and high, or choices, have to be stated"),
        (Range(low=3, high=2), ".*low"),
        (Range(low=0.0, high=1.0, log=True), ".*low"),
    ],
)
def test_a_range_that_cannot_be_searched_is_named(
    fitted: Fitted, contract: Contract, bad: Range, complaint: str
) -> None:
    with pytest.raises(SettingsError, match=rf"^\[tune.space\] max_depth: {complaint}"):
        search(fitted, contract, space={"max_depth": bad})


@pytest.fixture
def tuned(copied: Context, tmp_path: Path) -> Context:
    """The example with a [tune], in a settings file of its own."""
    folder = tmp_path / "usecases"
    shutil.copytree(EXAMPLE.parent, folder)
    path = folder / EXAMPLE.name
    section = "[tune]\ntrials_max = 6\n[tune.space]\nC = { low = 0.001, high = 10.0, log = true }\n"
    path.write_text(path.read_text(encoding="utf-8") + section, encoding="utf-8")
    context = replace(copied, use_case=load_use_case(path))
    run_steps([STEPS["tune"]], context)
    return context


def test_the_best_is_proposed_and_the_settings_stay(tuned: Context) -> None:
    path = tuned.use_case.folder / EXAMPLE.name
    best = tomllib.loads((tuned.result("tune") / "best.toml").read_text(encoding="utf-8"))
    assert 0.001 <= best["train"]["params"]["C"] <= 10.0
    assert f"params = {{C = {best['train']['params']['C']}}}" in said(tuned)
    assert load_use_case(path).train == tuned.use_case.train
    trials = json.loads((tuned.result("tune") / "trials.json").read_text(encoding="utf-8"))
    assert len(trials) == 6


def test_on_demand_it_is_written_into_the_settings_and_nothing_else_of_them_changes(tuned: Context) -> None:
    path = tuned.use_case.folder / EXAMPLE.name
    before = path.read_text(encoding="utf-8")
    best = tomllib.loads((tuned.result("tune") / "best.toml").read_text(encoding="utf-8"))
    apply(tuned)
    changed = [
        (old, new)
        for old, new in zip(before.splitlines(), path.read_text(encoding="utf-8").splitlines(), strict=True)
        if old != new
    ]
    assert [old for old, _ in changed] == ["params = { C = 0.3 }"]
    assert load_use_case(path).train.params == best["train"]["params"]


def test_without_bounds_there_is_no_search(copied: Context) -> None:
    with pytest.raises(SettingsError, match=r"german_credit: there is no \[tune\]"):
        run_steps([STEPS["tune"]], copied)
