"""Logistic regression: scikit-learn's, on scaled numbers."""

from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression as Classifier
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from ferrocast_training.libraries.library import Fit, Labels, Library, Matrix, Told, Weights
from ferrocast_training.settings import Train


class LogisticRegression(Library):
    """`LogisticRegression`; skl2onnx knows it by itself."""

    name = "logistic_regression"
    package = "scikit-learn"
    scaled = True
    rounds_called = "iterations"

    def fit(
        self,
        training: tuple[Matrix, Labels],
        validation: tuple[Matrix, Labels],
        settings: Train,
        *,
        weights: Weights | None = None,
        told: Told | None = None,
    ) -> Fit:
        """Fit once: there is nothing to stop early."""
        model = Classifier(**{"max_iter": 1000, "random_state": settings.seed} | settings.params)
        with threadpool_limits(1):  # sums in the same order on every machine
            model.fit(*training, sample_weight=weights)
        loss = log_loss(validation[1], model.predict_proba(validation[0])[:, 1])
        return Fit(_with_background(model, training[0]), int(model.n_iter_[0]), float(loss))

    def register_converter(self) -> None:
        """Nothing to tell."""

    def contributions(self, estimator: Any, matrix: Matrix) -> NDArray[np.float64]:
        """The SHAP values of a linear model: coefficient times the distance from the training mean."""
        weights, background = estimator.coef_[0].astype(np.float64), estimator.background_
        values = (matrix.astype(np.float64) - background) * weights
        base = float(estimator.intercept_[0] + background @ weights)
        return np.column_stack([values, np.full(len(matrix), base)])

    def version(self) -> str:
        """scikit-learn's."""
        return str(sklearn.__version__)


def _with_background(model: Classifier, matrix: Matrix) -> Classifier:
    model.background_ = matrix.mean(axis=0, dtype=np.float64)
    return model
