"""What the model repository says of a use case: views from features.toml, inputs from model.toml."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ferrocast_training.calendars import TtlCalendar
from ferrocast_training.errors import SettingsError
from ferrocast_training.settings import read_toml

NUMERIC_TYPES = ("int32", "int64", "float", "double")
STRING_TYPE = "string"


@dataclass(frozen=True)
class View:
    """A feature view: one file of rows, keyed by the entity and a point in time."""

    name: str
    path: Path
    keys: dict[str, str]  # join key -> type
    timestamp_field: str
    created_field: str | None
    features: dict[str, str]  # feature -> type
    ttl_calendar: TtlCalendar | None = None

    @property
    def columns(self) -> dict[str, str]:
        """Every column of the file with its type, in the order of the file."""
        times = [self.timestamp_field] + ([self.created_field] if self.created_field else [])
        return self.keys | dict.fromkeys(times, "timestamp") | self.features


@dataclass(frozen=True)
class Input:
    """One input of the model: a feature of a view, with the feature's type."""

    name: str
    view: str
    type: str

    @property
    def is_numeric(self) -> bool:
        """Whether the input goes to the float tensor; otherwise it goes to the string tensor."""
        return self.type in NUMERIC_TYPES


@dataclass(frozen=True)
class Contract:
    """The hand-written half of a use case's folder."""

    folder: Path
    views: dict[str, View]
    inputs: list[Input]

    def view(self, name: str) -> View:
        """Return the view of that name."""
        if name not in self.views:
            raise SettingsError(f"{self.folder / 'features.toml'}: there is no feature view {name}")
        return self.views[name]

    @property
    def numeric(self) -> list[Input]:
        """The inputs of the float tensor, in the order of its columns."""
        return [each for each in self.inputs if each.is_numeric]

    @property
    def categorical(self) -> list[Input]:
        """The inputs of the string tensor, in the order of its columns."""
        return [each for each in self.inputs if not each.is_numeric]


def load_contract(folder: Path) -> Contract:
    """Read features.toml and model.toml in `folder` (`models/<use case>`)."""
    views = _views(folder)
    return Contract(folder, views, _inputs(folder / "model.toml", views))


def _views(folder: Path) -> dict[str, View]:
    path = folder / "features.toml"
    document = read_toml(path)
    try:
        entities = {
            entity["name"]: {key["name"]: key["type"] for key in entity["join_keys"]}
            for entity in document["entities"]
        }
        return {view["name"]: _view(view, entities, folder) for view in document["feature_views"]}
    except KeyError as error:
        raise SettingsError(f"{path}: {error} is missing or not defined") from error


def _view(table: dict[str, Any], entities: dict[str, dict[str, str]], folder: Path) -> View:
    source = table["source"]
    return View(
        name=table["name"],
        path=folder / source["path"],
        keys=entities[table["entity"]],
        timestamp_field=source["timestamp_field"],
        created_field=source.get("created_timestamp_field"),
        features={feature["name"]: feature["type"] for feature in table["features"]},
        ttl_calendar=_calendar(table, folder / "features.toml"),
    )


def _calendar(table: dict[str, Any], path: Path) -> TtlCalendar | None:
    if "ttl_calendar" not in table:
        return None
    try:
        return TypeAdapter(TtlCalendar).validate_python(table["ttl_calendar"])
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in ("ttl_calendar", *fault["loc"]))
        raise SettingsError(f"{path}: {table['name']}: {place}: {fault['msg']}") from error


def _inputs(path: Path, views: dict[str, View]) -> list[Input]:
    document = read_toml(path)
    renamed = [name for name, table in document.get("inputs", {}).items() if "feature" in table]
    if renamed:
        raise SettingsError(f"{path}: input {renamed[0]} is renamed, which the trainer does not do yet")
    inputs = [_input(reference, views, path) for reference in document.get("features", [])]
    if not inputs:
        raise SettingsError(f"{path}: features is empty")
    return inputs


def _input(reference: str, views: dict[str, View], path: Path) -> Input:
    view_name, _, feature = reference.partition(":")
    if view_name not in views or feature not in views[view_name].features:
        raise SettingsError(f"{path}: features.toml has no {reference}")
    kind = views[view_name].features[feature]
    if kind not in (*NUMERIC_TYPES, STRING_TYPE):
        raise SettingsError(f"{path}: {reference} is a {kind}, which the trainer cannot feed to a model yet")
    return Input(feature, view_name, kind)


def read_description(contract: Contract) -> str:
    """Return what model.toml says that the model is for."""
    return str(read_toml(contract.folder / "model.toml").get("description", ""))
