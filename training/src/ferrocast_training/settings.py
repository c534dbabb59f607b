"""The settings of one use case: `training/usecases/<name>.toml`, read once and checked.

One dataclass a section. What they mean, with their defaults, is told in training/README.md.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, TypeAdapter, ValidationError, with_config

from ferrocast_training.calendars import TtlCalendar
from ferrocast_training.errors import SettingsError

Type = Literal["int32", "int64", "float", "double", "string"]

section = with_config(ConfigDict(extra="forbid"))


@section
@dataclass(frozen=True)
class RawFile:
    """One file of raw data: in an installed package, or beside the settings."""

    file: str
    sha256: str = ""


@section
@dataclass(frozen=True)
class Source:
    """Where the raw data comes from. `more` are further files, which only a derivation reads."""

    file: str
    package: str = ""  # empty: `file` is a path, relative to the settings
    sha256: str = ""  # has to be stated for a file of a package
    more: dict[str, RawFile] = field(default_factory=dict)


@section
@dataclass(frozen=True)
class Derive:
    """What turns the raw rows into the rows of the schema: a function of `derive.py`, by its name."""

    function: str
    params: dict[str, Any] = field(default_factory=dict)


@section
@dataclass(frozen=True)
class Column:
    """What is declared of a column: it is checked row by row before anything is written."""

    type: Type
    view: str = ""  # for `init`: the feature view it is put into; empty: the one named as the entity
    source: str = ""  # its name in the raw data, where it is another
    min: int | float | None = None
    max: int | float | None = None
    categories: list[str] = field(default_factory=list)  # none: any text
    missing: list[str | float] = field(default_factory=list)  # values that stand for "not known"
    missing_below: float | None = None  # numbers below it stand for "not known"
    required: bool = False  # a missing value is invalid
    on_invalid: Literal["reject", "missing", "drop_row"] = "reject"
    description: str = ""


@section
@dataclass(frozen=True)
class Rows:
    """The identity of a row: its id and its points in time, from the source or assigned."""

    id_column: str
    id_prefix: str = ""  # with id_digits, ids are assigned in the order of the rows
    id_digits: int = 0
    event_column: str = ""  # the raw column that says when; empty: assigned, event_step_s apart
    event_unit: Literal["timestamp", "month"] = "timestamp"  # month: whole months after first_event_at
    first_event_at: AwareDatetime | None = None
    event_step_s: int = 0
    created_after_s: int = 0
    labelled_after_s: int = 0


@section
@dataclass(frozen=True)
class Label:
    """The column to predict, and its two values."""

    column: str
    negative: str
    positive: str
    file: str = "data/labels.csv"  # or .parquet
    raw_column: str = ""  # its name in the raw data, where it is another
    words: dict[str, str] = field(default_factory=dict)  # raw value, as text -> negative or positive
    keep: list[str] = field(default_factory=list)  # further raw columns, for evaluations: they stay beside it


@section
@dataclass(frozen=True)
class Definitions:
    """What `init` needs beyond the schema to write features.toml and model.toml."""

    entity: str
    description: str = ""
    ttl: str = "0s"
    ttl_calendar: TtlCalendar | None = None  # the days that do not count towards it
    format: Literal["parquet", "csv"] = "parquet"  # the files of the views


@section
@dataclass(frozen=True)
class Split:
    """The three parts: by shares, of which the test part has what is left, or by points in time."""

    by: Literal["stratified", "time"] = "stratified"  # time: the oldest rows train, the newest test
    train: float = 0.0
    validation: float = 0.0
    seed: int = 0
    validation_from: AwareDatetime | None = None
    test_from: AwareDatetime | None = None


@section
@dataclass(frozen=True)
class Train:
    """How the model is built. `params` goes to the library as it is."""

    seed: int
    library: Literal["xgboost", "lightgbm", "logistic_regression"] = "xgboost"
    numeric_missing: Literal["median", "native"] = "median"  # native: the library's own way
    imbalance: Literal["none", "weighted"] = "none"  # weighted: both classes weigh the same in all
    trees_max: int = 0  # tree libraries: at most
    early_stopping_rounds: int = 0
    params: dict[str, Any] = field(default_factory=dict)


@section
@dataclass(frozen=True)
class Range:
    """The values that one parameter is searched in."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: list[Any] = field(default_factory=list)


@section
@dataclass(frozen=True)
class Tune:
    """The bounds of a search for better `params`, on the validation part."""

    space: dict[str, Range]
    trials_max: int = 50
    seconds_max: int = 600
    seed: int = 0


@section
@dataclass(frozen=True)
class Evaluate:
    """The decision rule (a missed positive costs this many refused negatives), and what else is measured."""

    missed_positive_cost: float
    compare: bool = False  # train the variants of compare.py, too
    extra: dict[str, dict[str, Any]] = field(default_factory=dict)  # functions of extra.py with their params


@section
@dataclass(frozen=True)
class Explore:
    """When the report warns."""

    leak_auc: float = 0.9  # one column alone ranks this well
    correlation: float = 0.95


@section
@dataclass(frozen=True)
class Export:
    """What is written beside the graph, and how closely the graph has to agree."""

    seed: int
    tolerance: float = 1e-5
    golden_samples: int = 150
    golden_thresholds: int = 75
    expected_scores: int = 0  # entities whose scores are written to data/expected_scores.csv; 0: no such file


@section
@dataclass(frozen=True)
class Register:
    """The names in MLflow's model registry; the model's own name where left out."""

    alias: str = "champion"
    name: str = ""
    experiment: str = ""


@section
@dataclass(frozen=True)
class UseCase:
    """Everything that differs between one use case and another."""

    model: str
    version: str
    source: Source
    schema: dict[str, Column]
    rows: Rows
    label: Label
    split: Split
    train: Train
    evaluate: Evaluate
    export: Export
    name: str = ""  # the settings file's, without .toml
    description: str = ""
    folder: Path = Path()  # the settings file's
    derive: Derive | None = None
    definitions: Definitions | None = None
    tune: Tune | None = None
    explore: Explore = field(default_factory=Explore)
    register: Register = field(default_factory=Register)


def load_use_case(path: Path) -> UseCase:
    """Read and check the settings file at `path`."""
    document = read_toml(path, "there is no such use case")
    given = document | {"name": path.stem, "folder": path.parent}
    try:
        use_case = TypeAdapter(UseCase).validate_python(given)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_first_fault(error)}") from error
    for fault in (*_faults_of_schema(use_case), *_faults_of_rows(use_case), *_faults_of_model(use_case)):
        raise SettingsError(f"{path}: {fault}")
    return use_case


def read_toml(path: Path, absent: str = "no such file") -> dict[str, Any]:
    """Read a TOML file; one that is not there or not TOML is an error for the user."""
    if not path.is_file():
        raise SettingsError(f"{path}: {absent}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error


def _first_fault(error: ValidationError) -> str:
    """Return where the first fault is, as [section] key, and what it is."""
    fault = error.errors(include_url=False)[0]
    section, *keys = (str(part) for part in fault["loc"])
    unnamed = {"unexpected_keyword_argument": "unknown key", "missing": "missing key"}
    if fault["type"] in unnamed:
        *keys, name = [section, *keys]
        where = "".join(f"[{key}] " for key in keys[:1]) + "".join(f"{key} " for key in keys[1:])
        return f"{where.strip()}{': ' if where else ''}{unnamed[fault['type']]} {name}"
    return f"[{section}] {' '.join(keys)}: {fault['msg']}, not {fault['input']!r}"


def _faults_of_schema(use_case: UseCase) -> list[str]:
    faults = [] if use_case.schema else ["[schema] has no columns"]
    for name, column in use_case.schema.items():
        text = column.type == "string"
        if text and not (column.min is column.max is column.missing_below is None):
            faults.append(f"[schema] {name}: min, max and missing_below are for numbers")
        if column.required and column.on_invalid == "missing":
            faults.append(
                f'[schema] {name}: what is required cannot be made missing: on_invalid = "drop_row"?'
            )
        if not text and column.categories:
            faults.append(f"[schema] {name}: categories are for text")
    return faults


def _faults_of_rows(use_case: UseCase) -> list[str]:
    faults, source, rows, split = [], use_case.source, use_case.rows, use_case.split
    if source.package and not source.sha256:
        faults.append(
            "[source] sha256 is missing: a file of a package is read only if it is the reviewed one"
        )
    if rows.first_event_at is None and (not rows.event_column or rows.event_unit == "month"):
        faults.append("[rows] first_event_at is missing")
    if split.validation_from or split.test_from:
        if split.by != "time" or not (split.validation_from and split.test_from):
            faults.append('[split] validation_from and test_from go together, with by = "time"')
        elif split.validation_from >= split.test_from:
            faults.append("[split] validation_from has to be before test_from")
    elif not (split.train > 0 and split.validation > 0 and split.train + split.validation < 1):
        faults.append("[split] train and validation have to leave a share for the test part")
    return faults


def _faults_of_model(use_case: UseCase) -> list[str]:
    faults, train = [], use_case.train
    if train.library == "logistic_regression":
        if train.numeric_missing != "median":
            faults.append(
                '[train] numeric_missing has to be "median": a logistic regression takes no missing number'
            )
        if train.trees_max or train.early_stopping_rounds:
            faults.append(
                "[train] a logistic regression has no trees: leave trees_max and early_stopping_rounds out"
            )
    elif train.trees_max < 1 or train.early_stopping_rounds < 1:
        faults.append("[train] trees_max and early_stopping_rounds have to be 1 or more")
    if train.params.get("colsample_bytree", 1) != 1:
        faults.append("[train] colsample_bytree is known to give a different ONNX graph: leave it out")
    return faults
