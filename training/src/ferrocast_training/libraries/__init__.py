"""What the trainer needs to know of each library that a model can be trained with."""

from ferrocast_training.libraries.library import Fit, Labels, Library, Matrix, Weights
from ferrocast_training.libraries.of_lightgbm import LightGbm
from ferrocast_training.libraries.of_logistic import LogisticRegression
from ferrocast_training.libraries.of_xgboost import XgBoost

__all__ = ["Fit", "Labels", "Library", "Matrix", "Weights", "library_of"]

_LIBRARIES: dict[str, type[Library]] = {
    "xgboost": XgBoost,
    "lightgbm": LightGbm,
    "logistic_regression": LogisticRegression,
}


def library_of(name: str) -> Library:
    """Return the library that [train] library names."""
    return _LIBRARIES[name]()
