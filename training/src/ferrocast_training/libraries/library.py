"""The face that every library has to the trainer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrocast_training.settings import Train

Matrix = NDArray[np.float32]  # [rows, columns]
Labels = NDArray[np.int64]  # [rows]
Weights = NDArray[np.float64]  # [rows]
Told = Callable[[int, float], None]  # round, validation log-loss


@dataclass(frozen=True)
class Fit:
    """A fitted estimator of scikit-learn's kind, cut at the round where the validation loss was lowest."""

    estimator: Any
    rounds: int  # how many trees, or iterations of the solver
    validation_log_loss: float


class Library(ABC):
    """A way to train a classifier of two classes, and what is known of its models."""

    name: str
    package: str  # what signature.json calls it
    scaled: bool = False  # whether numbers are scaled before
    rounds_called: str = "trees"

    @abstractmethod
    def fit(
        self,
        training: tuple[Matrix, Labels],
        validation: tuple[Matrix, Labels],
        settings: Train,
        *,
        weights: Weights | None = None,
        told: Told | None = None,
    ) -> Fit:
        """Train, stopping early on the validation part, with one thread and a fixed seed."""

    @abstractmethod
    def register_converter(self) -> None:
        """Tell skl2onnx how the estimator becomes a graph."""

    @abstractmethod
    def contributions(self, estimator: Any, matrix: Matrix) -> NDArray[np.float64]:
        """Return exact SHAP values in log-odds, [rows, columns + 1]: the last column is the base value."""

    @abstractmethod
    def version(self) -> str:
        """Return the library's version."""

    def split_points(self, estimator: Any, columns: int) -> list[tuple[int, np.float32]]:
        """Return every different split on the first `columns` columns: (column, threshold)."""
        return []

    def values_at(self, threshold: np.float32) -> tuple[np.float32, np.float32]:
        """Return the threshold and its neighbour on the other side of the split."""
        return threshold, np.nextafter(threshold, np.float32(-np.inf))

    def trees(self, estimator: Any) -> bytes | None:
        """Return the trees in the form that the server explains scores with, if it can."""
        return None
