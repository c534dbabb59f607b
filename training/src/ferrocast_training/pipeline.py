"""The model: preprocessing and trees in one scikit-learn pipeline, trained with early stopping."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

from ferrocast_training.contract import Contract
from ferrocast_training.settings import Model

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Trained:
    """A fitted pipeline, cut at the round where the validation loss was lowest."""

    pipeline: Pipeline
    best_iteration: int  # counted from 0: the pipeline holds best_iteration + 1 trees
    validation_log_loss: float

    def scores(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return the probability of the positive class for a model frame [rows, inputs]: [rows]."""
        probabilities: NDArray[np.float32] = self.pipeline.predict_proba(frame)
        return probabilities[:, 1].astype(np.float64)

    @property
    def trees(self) -> XGBClassifier:
        """The last step of the pipeline."""
        trees: XGBClassifier = self.pipeline.named_steps["trees"]
        return trees

    @property
    def encoder(self) -> OneHotEncoder | None:
        """The fitted one-hot encoder, or None where there are no text inputs."""
        return self.pipeline.named_steps["prepare"].named_transformers_.get("categorical")


def train(
    frame: pd.DataFrame,
    labels: Labels,
    validation: tuple[pd.DataFrame, Labels],
    contract: Contract,
    settings: Model,
    *,
    scale: bool = False,
) -> Trained:
    """Find the best number of trees on the validation part, then fit exactly that many.

    The second fit repeats the first one's rounds (same rows, same seed) and leaves a model without
    early stopping inside, which is what the ONNX converter takes.
    """
    preprocessing = build_preprocessing(contract, settings.numeric_missing, scale=scale)
    encoded = preprocessing.fit_transform(frame)
    watched = preprocessing.transform(validation[0])
    search = _trees(settings, settings.trees_max, early_stopping_rounds=settings.early_stopping_rounds)
    search.fit(encoded, labels, eval_set=[(watched, validation[1])], verbose=False)

    trees = _trees(settings, search.best_iteration + 1)
    trees.fit(encoded, labels)
    pipeline = Pipeline([("prepare", preprocessing), ("trees", trees)])
    return Trained(pipeline, int(search.best_iteration), float(search.best_score))


def build_preprocessing(
    contract: Contract, numeric_missing: str, *, scale: bool = False
) -> ColumnTransformer:
    """Build the unfitted step from a model frame to the dense float32 matrix that the trees take."""
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
    parts: list[Any] = [SimpleImputer(strategy="median")] if numeric_missing == "median" else []
    parts += [StandardScaler()] if scale else []
    if not parts:
        return "passthrough"
    return parts[0] if len(parts) == 1 else Pipeline([(type(part).__name__, part) for part in parts])


def _trees(settings: Model, count: int, **extra: Any) -> XGBClassifier:
    return XGBClassifier(
        n_estimators=count,
        objective="binary:logistic",
        eval_metric="logloss",
        tree_method="hist",
        missing=np.nan,
        n_jobs=1,
        random_state=settings.seed,
        **settings.params,
        **extra,
    )
