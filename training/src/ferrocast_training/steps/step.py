"""What a step is, and what it is given.

A step reads the settings, the model repository and the folders of the steps that it needs; it writes into an
empty folder of its own, which takes its place among the results once the step has ended without an error.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ferrocast_training.contract import Contract, load_contract
from ferrocast_training.dataset import Dataset, load_dataset
from ferrocast_training.progress import Terminal
from ferrocast_training.settings import UseCase
from ferrocast_training.store import Store

STORE = "store"


@dataclass(frozen=True)
class Context:
    """One use case, where its files are, and how to tell what goes on."""

    use_case: UseCase
    models: Path  # the model repository
    work: Path  # the results of all steps of this use case
    terminal: Terminal
    database_url: str = ""  # empty: an embedded store among the results
    tracking_uri: str = ""  # MLflow's; empty: nothing is registered

    @cached_property
    def contract(self) -> Contract:
        """The hand-written half of the use case's folder in the model repository."""
        return load_contract(self.models / self.use_case.model)

    @property
    def version_folder(self) -> Path:
        """Where the version is exported to."""
        return self.contract.folder / self.use_case.version

    def result(self, step: str) -> Path:
        """Return the folder of a finished step."""
        return self.work / step

    def dataset(self) -> Dataset:
        """Return the training set that `prepare` has made."""
        return load_dataset(self.use_case, self.contract, self.result("prepare"))

    def store(self) -> Store:
        """Return the feature store that the use case is prepared in."""
        return self.store_in(self.result("prepare"))

    def store_in(self, folder: Path) -> Store:
        """Return the feature store; an embedded one lies in the folder of the prepare step."""
        return Store(self.models, folder / STORE, self.database_url)


@dataclass(frozen=True)
class Outcome:
    """What a step found, small enough to be read, and the files that it wrote outside of its folder."""

    summary: dict[str, Any]
    wrote: list[Path] = field(default_factory=list)


def _no_files(context: Context) -> list[Path]:
    return []


def _no_values(context: Context) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Step:
    """A step: what its result depends on, and what does it.

    `sections` of the settings, results of the steps that it `needs`, `files` and other `values`: when one of
    them changes, the result is out of date.
    """

    name: str
    does: str
    run: Callable[[Context, Path], Outcome]
    needs: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    files: Callable[[Context], list[Path]] = _no_files
    values: Callable[[Context], dict[str, str]] = _no_values
