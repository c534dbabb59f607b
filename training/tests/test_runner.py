"""Steps are passed over when nothing has changed, and leave nothing half-done."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ferrocast_training.errors import DataError, TrainingError
from ferrocast_training.settings import Evaluate
from ferrocast_training.steps import RUN, STEPS
from ferrocast_training.steps.runner import run_steps
from ferrocast_training.steps.step import Context, Outcome, Step

from .conftest import EXAMPLE, said


def done(context: Context) -> list[str]:
    """Return the steps that were done, in their order."""
    return [line.split()[0] for line in said(context).splitlines() if " done in " in line]


def test_a_second_run_passes_over_everything(copied: Context) -> None:
    run_steps(RUN, copied)
    assert said(copied).splitlines() == [f"{step.name:<10}up to date" for step in RUN]


def test_a_changed_section_does_what_hangs_on_it_again(copied: Context) -> None:
    cheaper = replace(copied.use_case, evaluate=Evaluate(missed_positive_cost=3.0))
    changed = replace(copied, use_case=cheaper)
    run_steps(RUN, changed)
    assert done(changed) == ["evaluate", "export", "register"]
    assert "evaluate  again: [evaluate] changed" in said(changed)


def test_the_same_result_anew_does_not_set_off_what_follows(copied: Context) -> None:
    run_steps([STEPS["prepare"]], copied, force=True)
    run_steps(RUN, copied)
    assert done(copied) == ["prepare"]


@pytest.mark.parametrize(
    ("spoil", "step", "complaint"),
    [
        (lambda context: context.contract.folder / "data" / "labels.csv", "prepare", "not as it was written"),
        (lambda context: context.version_folder / "golden.json", "export", "not as it was written"),
        (lambda context: context.result("train") / "model.joblib", "train", "not as it was written"),
    ],
)
def test_a_file_that_was_changed_is_made_again(
    copied: Context, spoil: Callable[[Context], Path], step: str, complaint: str
) -> None:
    path = spoil(copied)
    before = path.read_bytes()
    path.write_bytes(before + b" ")
    run_steps([STEPS[step]], copied)
    assert path.read_bytes() == before
    assert f"{path} is {complaint}" in said(copied)


def test_a_file_that_is_gone_is_made_again(copied: Context) -> None:
    path = copied.version_folder / "model.onnx"
    before = path.read_bytes()
    path.unlink()
    run_steps([STEPS["export"]], copied)
    assert path.read_bytes() == before
    assert done(copied) == ["export"]


def test_a_step_that_breaks_off_leaves_the_old_result_and_nothing_else(copied: Context) -> None:
    def fail(context: Context, folder: Path) -> Outcome:
        (folder / "half.txt").write_text("half")
        raise DataError("broken off")

    before = sorted(path for path in copied.work.rglob("*"))
    with pytest.raises(DataError, match="broken off"):
        run_steps([Step("explore", "fails", fail, needs=("prepare",))], copied, force=True)
    assert sorted(path for path in copied.work.rglob("*")) == before
    run_steps([STEPS["explore"]], copied)
    assert "explore   up to date" in said(copied)


def test_a_killed_run_leaves_nothing_half_done_for_the_next_one(copied: Context, tmp_path: Path) -> None:
    """Killed while the store is being loaded, and while the version is being replaced."""
    script = tmp_path / "ferrocast"
    script.write_text("#!/bin/sh\nkill -9 $PPID\n", encoding="utf-8")
    script.chmod(0o755)
    arguments = ["prepare", "german_credit", "--force", "--usecases", str(EXAMPLE.parent)]
    arguments += ["--models", str(copied.models), "--work", str(copied.work.parent)]
    command = [sys.executable, "-m", "ferrocast_training.cli", *arguments]
    killed = subprocess.run(command, env=os.environ | {"FERROCAST_BIN": str(script)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(copied.work.glob(".prepare.*.tmp"))) == 1
    dead = next(copied.work.glob(".prepare.*.tmp")).name.split(".")[2]
    version = copied.version_folder
    before = sorted(version.iterdir())
    version.rename(version.with_name(f".{version.name}.{dead}.old"))

    run_steps(RUN, copied)
    assert done(copied) == []
    assert sorted(version.iterdir()) == before
    assert list(copied.work.glob(".prepare*")) == list(copied.contract.folder.glob(".*")) == []


def test_an_export_that_fails_leaves_the_version_as_it_was(
    copied: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> dict[Path, bytes]:
        folder = copied.contract.folder
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = files()
    tight = replace(copied.use_case.export, tolerance=0.0)
    with pytest.raises(TrainingError, match="the ONNX graph disagrees"):
        run_steps([STEPS["export"]], replace(copied, use_case=replace(copied.use_case, export=tight)))
    assert files() == before


def test_two_runs_at_once_are_refused(copied: Context) -> None:
    with (copied.work / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="another run is at work there"):
            run_steps(RUN, copied)


def test_a_result_that_is_no_json_is_named(copied: Context) -> None:
    (copied.result("train") / "result.json").write_text("{")
    with pytest.raises(TrainingError, match=r"train/result\.json: not JSON"):
        run_steps([STEPS["train"]], copied)
