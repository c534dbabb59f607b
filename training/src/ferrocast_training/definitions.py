"""`init`: features.toml and model.toml of the model repository, from the settings of a new use case."""

from pathlib import Path

from ferrocast_training.errors import SettingsError
from ferrocast_training.files import write_text
from ferrocast_training.settings import Column, UseCase
from ferrocast_training.templating import render

FILES = ("features.toml", "model.toml")


def write_definitions(use_case: UseCase, models: Path, *, force: bool = False) -> list[Path]:
    """Write both files; those that are there are kept unless `force`. Return what was written."""
    if use_case.definitions is None:
        raise SettingsError(f"{use_case.name}: there is no [definitions], which names the entity")
    folder = models / use_case.model
    wanted = [folder / name for name in FILES if force or not (folder / name).exists()]
    views: dict[str, dict[str, Column]] = {}
    for name, column in use_case.schema.items():
        views.setdefault(column.view or use_case.definitions.entity, {})[name] = column
    for path in wanted:
        text = render(
            f"{path.name}.j2",
            use_case=use_case,
            definitions=use_case.definitions,
            views=views,
            features=[f"{view}:{name}" for view, columns in views.items() for name in columns],
            example=_example(use_case),
        )
        write_text(path, text)
    return wanted


def are_missing(use_case: UseCase, models: Path) -> bool:
    """Whether the use case has no definitions yet."""
    return not any((models / use_case.model / name).exists() for name in FILES)


def _example(use_case: UseCase) -> str:
    """Return an id to try the model with, where ids are assigned."""
    rows = use_case.rows
    return f"{rows.id_prefix}{1:0{rows.id_digits}d}" if rows.id_digits else ""
