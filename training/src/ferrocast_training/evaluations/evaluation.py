"""What a further evaluation is: what it is given, and what it adds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from ferrocast_training.contract import Contract
from ferrocast_training.dataset import Dataset
from ferrocast_training.errors import SettingsError
from ferrocast_training.pipeline import Trained
from ferrocast_training.settings import UseCase

P = TypeVar("P")


@dataclass(frozen=True)
class Evaluated:
    """What has been trained and measured so far."""

    use_case: UseCase
    contract: Contract
    dataset: Dataset
    frame: pd.DataFrame  # [rows, inputs]: the model frame of all rows, in the dataset's order
    trained: Trained
    scores: NDArray[np.float64]  # [rows]
    threshold: float


@dataclass(frozen=True)
class Extra:
    """What an evaluation adds: to metrics.json under its name, to the plots, and to the model card."""

    metrics: dict[str, Any]
    card: str = ""  # Markdown; a section with the evaluation's name as its heading
    plots: dict[str, Figure] = field(default_factory=dict)  # file name without .png


Evaluation = Callable[[Evaluated, Mapping[str, Any]], Extra]


def params_of(kind: type[P], name: str, params: Mapping[str, Any]) -> P:
    """Read `[evaluate.extra.<name>]` as the dataclass `kind`; what does not fit is named."""
    try:
        return TypeAdapter(kind).validate_python(dict(params))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise SettingsError(f"[evaluate.extra.{name}] {key}: {fault['msg']}") from error
