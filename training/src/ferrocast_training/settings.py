"""The settings of one use case: `training/usecases/<name>.toml`, read once and checked."""

import tomllib
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from ferrocast_training.errors import SettingsError

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Where the raw data comes from: one file inside a pinned package."""

    package: str
    file: str
    sha256: str
    drop: list[str]
    missing_words: dict[str, str]  # column -> the word that stands for "not known"


@dataclass(frozen=True)
class Rows:
    """The ids and points in time that the raw data lacks and that we assign."""

    id_column: str
    id_prefix: str
    id_digits: int
    first_event_at: datetime
    event_step_s: int
    created_after_s: int
    labelled_after_s: int


@dataclass(frozen=True)
class Label:
    """The column to predict, and its two values."""

    file: str
    raw_column: str
    column: str
    negative: str
    positive: str


@dataclass(frozen=True)
class Split:
    """Shares of the three parts; what `train` and `validation` leave is the test part."""

    train: float
    validation: float
    seed: int


@dataclass(frozen=True)
class Model:
    """How the model is built. `params` goes to XGBoost as it is."""

    numeric_missing: str  # "native" or "median"
    trees_max: int
    early_stopping_rounds: int
    seed: int
    params: dict[str, Any]


@dataclass(frozen=True)
class Threshold:
    """The decision rule: a missed positive costs this many refused negatives."""

    missed_positive_cost: float


@dataclass(frozen=True)
class Export:
    """What is written beside the graph, and how closely the graph has to agree."""

    tolerance: float
    golden_samples: int
    golden_thresholds: int
    expected_scores: int
    seed: int


@dataclass(frozen=True)
class UseCase:
    """Everything that differs between one use case and another."""

    model: str
    version: str
    source: Source
    rows: Rows
    label: Label
    split: Split
    train: Model
    threshold: Threshold
    export: Export


def load_use_case(path: Path) -> UseCase:
    """Read and check the settings file at `path`."""
    if not path.is_file():
        raise SettingsError(f"{path}: there is no such use case")
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    sections = {"source": Source, "rows": Rows, "label": Label, "split": Split}
    sections |= {"train": Model, "threshold": Threshold, "export": Export}
    built: dict[str, Any] = {
        name: _build(kind, document.get(name, {}), f"{path}: [{name}]") for name, kind in sections.items()
    }
    use_case = _build(UseCase, document | built, str(path))
    _check(use_case, path)
    return use_case


def _build(kind: type[T], values: dict[str, Any], where: str) -> T:
    """Make a dataclass of a TOML table, naming every unknown or missing key."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    required = {field.name for field in fields(kind) if field.default is MISSING}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - known):
        raise SettingsError(f"{where}: unknown key {', '.join(unknown)}")
    if missing := sorted(required - values.keys()):
        raise SettingsError(f"{where}: missing key {', '.join(missing)}")
    return kind(**values)


def _check(use_case: UseCase, path: Path) -> None:
    if use_case.train.numeric_missing not in ("native", "median"):
        raise SettingsError(f'{path}: [train] numeric_missing has to be "native" or "median"')
    split = use_case.split
    if not (split.train > 0 and split.validation > 0 and split.train + split.validation < 1):
        raise SettingsError(f"{path}: [split] train and validation have to leave a share for the test part")
    if use_case.train.params.get("colsample_bytree", 1) != 1:
        raise SettingsError(
            f"{path}: [train] colsample_bytree is known to give a different ONNX graph: leave it out"
        )
