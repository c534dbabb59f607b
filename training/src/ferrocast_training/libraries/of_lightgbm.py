"""LightGBM: gradient-boosted trees, their thresholds taken to float32 so that ONNX keeps them."""

import re
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

from ferrocast_training.libraries.library import Fit, Labels, Library, Matrix, Told, Weights
from ferrocast_training.settings import Train

FLOAT32_MAX = float(np.finfo(np.float32).max)
THRESHOLDS = re.compile(r"^threshold=(.*)$", re.MULTILINE)
# Lengths of the trees' texts, which are others once thresholds have changed; LightGBM reads on without them.
TREE_SIZES = re.compile(r"^tree_sizes=.*\n", re.MULTILINE)


class LightGbm(Library):
    """`LGBMClassifier` with leaf-wise trees."""

    name = package = "lightgbm"

    def fit(
        self,
        training: tuple[Matrix, Labels],
        validation: tuple[Matrix, Labels],
        settings: Train,
        *,
        weights: Weights | None = None,
        told: Told | None = None,
    ) -> Fit:
        """Find the best number of trees on the validation part, then fit exactly that many."""
        callbacks: list[Callable[..., Any]] = [
            lightgbm.early_stopping(settings.early_stopping_rounds, verbose=False)
        ]
        if told:
            callbacks.append(lambda env: told(env.iteration, float(env.evaluation_result_list[0][2])))
        search = _trees(settings, settings.trees_max)
        search.fit(
            *training,
            sample_weight=weights,
            eval_X=(validation[0],),
            eval_y=(validation[1],),
            eval_metric="binary_logloss",
            callbacks=callbacks,
        )
        trees = _trees(settings, search.best_iteration_)
        trees.fit(*training, sample_weight=weights)
        _round_thresholds(trees)
        loss = search.best_score_["valid_0"]["binary_logloss"]
        return Fit(trees, int(search.best_iteration_), float(loss))

    def register_converter(self) -> None:
        """By onnxmltools."""
        update_registered_converter(
            LGBMClassifier,
            "LightGbmLGBMClassifier",
            calculate_linear_classifier_output_shapes,
            convert_lightgbm,
            options={"nocl": [True, False], "zipmap": [True, False, "columns"], "split": None},
        )

    def contributions(self, estimator: Any, matrix: Matrix) -> NDArray[np.float64]:
        """By LightGBM's own TreeSHAP."""
        return np.asarray(estimator.predict_proba(matrix, pred_contrib=True), dtype=np.float64)

    def version(self) -> str:
        """The module's own."""
        return str(lightgbm.__version__)

    def split_points(self, estimator: Any, columns: int) -> list[tuple[int, np.float32]]:
        """Of LightGBM's own dump: a value up to the threshold goes left."""
        found: set[tuple[int, float]] = set()
        for tree in estimator.booster_.dump_model()["tree_info"]:
            _collect(tree["tree_structure"], columns, found)
        # A threshold beyond all numbers only parts them from what is missing.
        return [(column, np.float32(at)) for column, at in sorted(found) if abs(at) < FLOAT32_MAX]

    def values_at(self, threshold: np.float32) -> tuple[np.float32, np.float32]:
        """The threshold itself goes left, so its neighbour is above."""
        return threshold, np.nextafter(threshold, np.float32(np.inf))


def _collect(node: dict[str, Any], columns: int, found: set[tuple[int, float]]) -> None:
    if "split_feature" not in node:
        return
    if node["split_feature"] < columns:
        found.add((node["split_feature"], float(node["threshold"])))
    _collect(node["left_child"], columns, found)
    _collect(node["right_child"], columns, found)


def _round_thresholds(trees: LGBMClassifier) -> None:
    """Take each threshold to the greatest float32 that is not above it.

    Numbers come as float32, so each falls on the same side as before; ONNX would round to the nearest, and a
    number between the two would change sides.
    """
    text = trees.booster_.model_to_string()
    rounded = THRESHOLDS.sub(lambda found: "threshold=" + _rounded(found[1]), TREE_SIZES.sub("", text))
    trees._Booster = lightgbm.Booster(model_str=rounded)


def _rounded(thresholds: str) -> str:
    return " ".join(repr(float(_float32_below(float(each)))) for each in thresholds.split())


def _float32_below(value: float) -> np.float32:
    nearest = np.float32(min(max(value, -FLOAT32_MAX), FLOAT32_MAX))
    return nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf))


def _trees(settings: Train, count: int) -> LGBMClassifier:
    return LGBMClassifier(
        n_estimators=count,
        objective="binary",
        n_jobs=1,
        random_state=settings.seed,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
        **settings.params,
    )
