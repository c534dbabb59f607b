"""The model: preprocessing and an estimator in one scikit-learn pipeline."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from lightgbm.basic import LightGBMError
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ferrocast_training.contract import Contract
from ferrocast_training.errors import SettingsError
from ferrocast_training.libraries import Labels, Library, Matrix, Weights, library_of
from ferrocast_training.libraries.library import Told
from ferrocast_training.settings import Train

Part = tuple[pd.DataFrame, Labels]


@dataclass(frozen=True)
class Trained:
    """A fitted pipeline, cut at the round where the validation loss was lowest."""

    pipeline: Pipeline
    library_name: str
    rounds: int  # trees, or iterations of the solver
    validation_log_loss: float

    def scores(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return the probability of the positive class for a model frame [rows, inputs]: [rows]."""
        probabilities: NDArray[np.float32] = self.pipeline.predict_proba(frame)
        return probabilities[:, 1].astype(np.float64)

    def matrix(self, frame: pd.DataFrame) -> Matrix:
        """Return what the estimator takes for a model frame: [rows, columns]."""
        matrix: Matrix = self.pipeline.named_steps["prepare"].transform(frame)
        return matrix

    @property
    def library(self) -> Library:
        """What is known of the estimator's library."""
        return library_of(self.library_name)

    @property
    def estimator(self) -> Any:
        """The last step of the pipeline."""
        return self.pipeline.named_steps["estimator"]

    @property
    def encoder(self) -> OneHotEncoder | None:
        """The fitted one-hot encoder, or None where there are no text inputs."""
        return self.pipeline.named_steps["prepare"].named_transformers_.get("categorical")


def train(
    training: Part,
    validation: Part,
    contract: Contract,
    settings: Train,
    *,
    scale: bool = False,
    told: Told | None = None,
) -> Trained:
    """Fit the preprocessing on the training part, then the estimator, watching the validation part."""
    library = library_of(settings.library)
    preprocessing = build_preprocessing(contract, settings.numeric_missing, scale=scale or library.scaled)
    encoded = preprocessing.fit_transform(training[0])
    watched = preprocessing.transform(validation[0])
    weights = _weights(training[1], settings.imbalance)
    try:
        fit = library.fit(
            (encoded, training[1]), (watched, validation[1]), settings, weights=weights, told=told
        )
    except (TypeError, ValueError, LightGBMError) as error:  # XGBoost's own error is a ValueError
        raise SettingsError(f"[train] {settings.library} does not take its params: {error}") from error
    pipeline = Pipeline([("prepare", preprocessing), ("estimator", fit.estimator)])
    return Trained(pipeline, library.name, fit.rounds, fit.validation_log_loss)


def _weights(labels: Labels, imbalance: str) -> Weights | None:
    """With "weighted", let both classes weigh the same in all: the score is no probability any more."""
    if imbalance == "none":
        return None
    counts = np.bincount(labels, minlength=2)
    weights: Weights = (len(labels) / (2.0 * counts))[labels]
    return weights


def build_preprocessing(
    contract: Contract, numeric_missing: str, *, scale: bool = False
) -> ColumnTransformer:
    """Build the unfitted step from a model frame to the dense float32 matrix that the estimator takes."""
    k, m = len(contract.numeric), len(contract.categorical)
    steps: list[tuple[str, Any, list[int]]] = []
    if k:
        steps.append(("numeric", _numeric(numeric_missing, scale), list(range(k))))
    if m:
        # Dense, because XGBoost reads the gaps of a sparse matrix as missing where ONNX has zeros.
        # A category that training did not see, and a missing one where none was missing: all zeros.
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        steps.append(("categorical", encoder, list(range(k, k + m))))
    return ColumnTransformer(steps, sparse_threshold=0)


def _numeric(numeric_missing: str, scale: bool) -> Any:
    # A column without any value keeps its place, filled with zeros: the graph's columns are the signature's.
    filled = SimpleImputer(strategy="median", keep_empty_features=True)
    parts: list[Any] = [filled] if numeric_missing == "median" else []
    parts += [StandardScaler()] if scale else []
    if not parts:
        return "passthrough"
    return parts[0] if len(parts) == 1 else Pipeline([(type(part).__name__, part) for part in parts])
