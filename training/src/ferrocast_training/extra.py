"""Further evaluations, by the names that `[evaluate.extra.<name>]` gives, each with its own settings.

An evaluation gets everything that `evaluate` has, and adds measures, plots and words to what it writes. It is
for questions that accuracy does not answer: a strategy's return over time, the value of a ranking policy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ferrocast_training.contract import Contract
from ferrocast_training.dataset import Dataset
from ferrocast_training.errors import SettingsError
from ferrocast_training.pipeline import Trained
from ferrocast_training.settings import UseCase


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

EVALUATIONS: dict[str, Evaluation] = {}


def evaluate_extra(evaluated: Evaluated) -> dict[str, Extra]:
    """Run every evaluation that the settings name."""
    found = {}
    for name, params in evaluated.use_case.evaluate.extra.items():
        if name not in EVALUATIONS:
            known = ", ".join(sorted(EVALUATIONS)) or "none"
            raise SettingsError(f"[evaluate.extra] there is no {name}; there are {known}")
        found[name] = EVALUATIONS[name](evaluated, params)
    return found
