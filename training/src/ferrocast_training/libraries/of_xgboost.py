"""XGBoost: gradient-boosted trees, whose thresholds are float32 as ONNX's are."""

import json
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from xgboost import XGBClassifier

from ferrocast_training.libraries.library import Fit, Labels, Library, Matrix, Told, Weights
from ferrocast_training.settings import Train


class XgBoost(Library):
    """`XGBClassifier` with histogram trees."""

    name = package = "xgboost"

    def fit(
        self,
        training: tuple[Matrix, Labels],
        validation: tuple[Matrix, Labels],
        settings: Train,
        *,
        weights: Weights | None = None,
        told: Told | None = None,
    ) -> Fit:
        """Find the best number of trees on the validation part, then fit exactly that many.

        The second fit repeats the first one's rounds (same rows, same seed) and leaves a model without
        early stopping inside, which is what the ONNX converter takes.
        """
        watchers = {"callbacks": [_Watcher(told)]} if told else {}
        search = _trees(
            settings, settings.trees_max, early_stopping_rounds=settings.early_stopping_rounds, **watchers
        )
        search.fit(*training, sample_weight=weights, eval_set=[validation], verbose=False)
        trees = _trees(settings, search.best_iteration + 1)
        trees.fit(*training, sample_weight=weights)
        return Fit(trees, int(search.best_iteration) + 1, float(search.best_score))

    def register_converter(self) -> None:
        """By onnxmltools."""
        update_registered_converter(
            XGBClassifier,
            "XGBoostXGBClassifier",
            calculate_linear_classifier_output_shapes,
            convert_xgboost,
            options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
        )

    def contributions(self, estimator: Any, matrix: Matrix) -> NDArray[np.float64]:
        """By XGBoost's own TreeSHAP."""
        values: NDArray[np.float32] = estimator.get_booster().predict(
            xgboost.DMatrix(matrix), pred_contribs=True
        )
        return values.astype(np.float64)

    def version(self) -> str:
        """The distribution is called xgboost-cpu or xgboost, the module is one."""
        return str(xgboost.__version__)

    def split_points(self, estimator: Any, columns: int) -> list[tuple[int, np.float32]]:
        """Of XGBoost's own JSON: a value below the threshold goes left."""
        model = json.loads(estimator.get_booster().save_raw("json"))
        found = set()
        for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
            nodes = zip(tree["left_children"], tree["split_indices"], tree["split_conditions"], strict=True)
            found |= {
                (column, float(np.float32(at)))
                for left, column, at in nodes
                if left != -1 and column < columns
            }
        return [(column, np.float32(at)) for column, at in sorted(found)]

    def trees(self, estimator: Any) -> bytes | None:
        """XGBoost's own JSON."""
        document = json.loads(estimator.get_booster().save_raw("json"))
        return (json.dumps(document, separators=(",", ":"), sort_keys=True) + "\n").encode()


class _Watcher(xgboost.callback.TrainingCallback):
    def __init__(self, told: Told) -> None:
        self.told = told

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        self.told(epoch, float(evals_log["validation_0"]["logloss"][-1]))
        return False


def _trees(settings: Train, count: int, **extra: Any) -> XGBClassifier:
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
