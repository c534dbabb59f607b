"""What the tests share: the committed use case, and one run of all steps into folders of its own."""

import io
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from ferrocast_training.contract import Contract, load_contract
from ferrocast_training.dataset import Dataset
from ferrocast_training.definitions import write_definitions
from ferrocast_training.pipeline import Part, Trained
from ferrocast_training.progress import Terminal
from ferrocast_training.settings import UseCase, load_use_case
from ferrocast_training.steps import RUN
from ferrocast_training.steps.runner import run_steps
from ferrocast_training.steps.step import Context
from ferrocast_training.steps.train import load_trained, parts_of
from ferrocast_training.tensors import model_frame

TRAINING = Path(__file__).resolve().parents[1]
SETTINGS = TRAINING / "usecases" / "credit_risk.toml"
EXAMPLE = TRAINING / "examples" / "german_credit.toml"
COMMITTED = TRAINING.parent / "models" / "credit_risk"


@dataclass(frozen=True)
class Fitted:
    """A model trained on the committed data, with everything it came from."""

    dataset: Dataset
    parts: dict[str, Part]
    frame: pd.DataFrame
    trained: Trained


def copy_definitions(models: Path) -> Path:
    """Copy the hand-written files of the use case to a fresh model repository; return its folder."""
    folder = models / "credit_risk"
    folder.mkdir(parents=True)
    for name in ("features.toml", "model.toml"):
        shutil.copy(COMMITTED / name, folder)
    return folder


def context_in(folder: Path, use_case: UseCase) -> Context:
    """Return a context whose models and results lie below `folder`, and that tells nobody."""
    terminal = Terminal(Console(file=io.StringIO()))
    return Context(use_case, folder / "models", folder / "work" / use_case.name, terminal)


def said(context: Context) -> str:
    """Return what was said on the terminal of a context."""
    file = context.terminal.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.fixture(scope="session")
def use_case() -> UseCase:
    return load_use_case(SETTINGS)


@pytest.fixture(scope="session")
def contract() -> Contract:
    return load_contract(COMMITTED)


@pytest.fixture(scope="session")
def retrained(tmp_path_factory: pytest.TempPathFactory, use_case: UseCase) -> Context:
    """All steps, from the raw file on, into empty folders; nobody changes them."""
    context = context_in(tmp_path_factory.mktemp("retrained"), use_case)
    copy_definitions(context.models)
    run_steps(RUN, context)
    return context


@pytest.fixture(scope="session")
def fitted(retrained: Context) -> Fitted:
    dataset = retrained.dataset()
    frame = model_frame(dataset.features, retrained.contract)
    return Fitted(dataset, parts_of(dataset, retrained), frame, load_trained(retrained))


@pytest.fixture(scope="session")
def german(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """All steps of the example, from its TOML file alone; nobody changes them."""
    context = context_in(tmp_path_factory.mktemp("german"), load_use_case(EXAMPLE))
    write_definitions(context.use_case, context.models)
    run_steps(RUN, context)
    return context


@pytest.fixture
def copied(tmp_path: Path, german: Context) -> Context:
    """The example, all its steps done, in folders of the test's own, free to be damaged."""
    context = context_in(tmp_path, german.use_case)
    shutil.copytree(german.models, context.models)
    shutil.copytree(german.work, context.work)
    return context


def with_train(use_case: UseCase, **changes: object) -> UseCase:
    """Return the use case with other values in [train]."""
    return replace(use_case, train=replace(use_case.train, **changes))  # type: ignore[arg-type]


def run_use_case(name: str, folder: Path) -> Context:
    """Do all steps of a committed use case, from its raw files on, in empty folders."""
    context = context_in(folder, load_use_case(TRAINING / "usecases" / f"{name}.toml"))
    (context.models / name).mkdir(parents=True)
    for file in ("features.toml", "model.toml"):
        shutil.copy(TRAINING.parent / "models" / name / file, context.models / name)
    run_steps(RUN, context)
    return context


@pytest.fixture(scope="session")
def stocks(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return run_use_case("stock_direction", tmp_path_factory.mktemp("stocks"))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return run_use_case("propositions", tmp_path_factory.mktemp("shop"))
