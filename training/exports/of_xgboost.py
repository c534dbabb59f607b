"""Exports from XGBoost: two classes, three classes, a regression, a ranking."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xgboost as xgb
from numpy.typing import NDArray
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from exports.data import Data, of_sklearn
from exports.export import Export, Layout, matrix, plain
from exports.golden import Golden, Predict, Threshold, build, sides
from exports.graphs import content

LIBRARIES = ("xgboost", "onnxmltools", "onnx")
OPSET = 15
TREES = "trees.json"
EXPLAINED_EVERY = 5
SETTINGS: dict[str, Any] = {
    "n_estimators": 20,
    "max_depth": 3,
    "tree_method": "hist",
    "n_jobs": 1,
    "random_state": 0,
}


def binary() -> Export:
    """Two classes, 30 columns."""
    data = of_sklearn("breast_cancer")
    return classifier(data, "xgboost_binary", "Whether a breast tumour is benign", "benign", SETTINGS)


def classifier(data: Data, name: str, description: str, positive: str, settings: dict[str, Any]) -> Export:
    """Train on two classes, and export with golden rows and what explains a score."""
    model = xgb.XGBClassifier(**settings).fit(_matrix(data.frame), data.labels)
    layout = matrix(data.names)
    exported = Export(
        name=name,
        description=description,
        task="binary_classification",
        content=_convert(model, name, layout),
        layout=layout,
        output="probabilities",
        golden=_golden(data.frame, layout, model.predict_proba, model.get_booster(), 1),
        libraries=LIBRARIES,
        classes=data.classes,
        positive_class=positive,
    )
    return _explained(exported, model.get_booster())


def multiclass() -> Export:
    """Three classes."""
    data = of_sklearn("wine")
    model = xgb.XGBClassifier(**SETTINGS).fit(_matrix(data.frame), data.labels)
    layout = matrix(data.names)
    exported = Export(
        name="xgboost_multiclass",
        description="The cultivar that a wine is made from",
        task="multiclass_classification",
        content=_convert(model, "xgboost_multiclass", layout),
        layout=layout,
        output="probabilities",
        golden=_golden(data.frame, layout, model.predict_proba, model.get_booster(), None),
        libraries=LIBRARIES,
        classes=data.classes,
    )
    return _explained(exported, model.get_booster())


def regression() -> Export:
    """A number far from 0 to 1."""
    data = of_sklearn("diabetes", scaled=False)
    model = xgb.XGBRegressor(**SETTINGS).fit(_matrix(data.frame), data.labels)
    layout = matrix(data.names)
    exported = Export(
        name="xgboost_regression",
        description="How a diabetes progresses within a year",
        task="regression",
        content=_convert(model, "xgboost_regression", layout),
        layout=layout,
        output="variable",
        golden=_golden(data.frame, layout, model.predict, model.get_booster(), 0),
        libraries=LIBRARIES,
    )
    return _explained(exported, model.get_booster())


def ranking() -> Export:
    """Patients of about one age, ordered by how their diabetes progresses."""
    data = of_sklearn("diabetes", scaled=False)
    groups = (data.frame["age"].fillna(0) // 10).to_numpy()
    order = np.argsort(groups, kind="stable")
    frame, labels = data.frame.iloc[order], data.labels[order]
    relevance = np.digitize(labels, np.quantile(labels, [0.25, 0.5, 0.75]))
    model = xgb.XGBRanker(objective="rank:ndcg", **SETTINGS)
    model.fit(_matrix(frame), relevance, qid=groups[order])
    layout = matrix(data.names)
    exported = Export(
        name="xgboost_ranking",
        description="Orders patients by how their diabetes progresses",
        task="ranking",
        content=_convert(_as_regressor(model), "xgboost_ranking", layout),
        layout=layout,
        output="variable",
        golden=_golden(frame, layout, model.predict, model.get_booster(), 0),
        libraries=LIBRARIES,
    )
    return _explained(exported, model.get_booster())


def _explained(export: Export, booster: xgb.Booster) -> Export:
    """Add the trees, and the library's own contributions of some golden rows."""
    trees = json.dumps(json.loads(booster.save_raw("json")), separators=(",", ":"), sort_keys=True)
    content = (trees + "\n").encode()
    explain = {
        "file": TREES,
        "sha256": hashlib.sha256(content).hexdigest(),
        "matrix": "x",
        "columns": list(range(len(export.layout.inputs))),
    }
    # Of each kind of row some, missing values among them.
    rows = list(range(0, len(export.golden.rows), EXPLAINED_EVERY))
    matrix = export.layout.feeds([export.golden.rows[row] for row in rows])["x"]
    found = booster.predict(xgb.DMatrix(matrix), pred_contribs=True).astype(np.float64)
    # Of several classes the first.
    contributions = found[:, 0, :] if found.ndim == 3 else found
    explained = (rows, float(contributions[0, -1]), contributions[:, :-1])
    golden = replace(export.golden, explained=explained)
    return replace(export, golden=golden, explain=explain, beside={TREES: content})


def _as_regressor(ranker: xgb.XGBRanker) -> xgb.XGBRegressor:
    """Return the same trees under an objective that the converter knows.

    A ranker's score is the sum of its leaves, as a regressor's value is.
    """
    document = json.loads(ranker.get_booster().save_raw("json"))
    document["learner"]["objective"] = {
        "name": "reg:squarederror",
        "reg_loss_param": {"scale_pos_weight": "1"},
    }
    regressor = xgb.XGBRegressor()
    regressor.load_model(bytearray(json.dumps(document).encode()))
    return regressor


def _convert(model: Any, name: str, layout: Layout) -> bytes:
    types = [("x", FloatTensorType([None, len(layout.inputs)]))]
    return content(convert_xgboost(model, name=name, initial_types=types, target_opset=OPSET))


def _matrix(frame: pd.DataFrame) -> NDArray[np.float32]:
    return frame.to_numpy(dtype=np.float32)


def _golden(
    frame: pd.DataFrame, layout: Layout, scores: Any, booster: xgb.Booster, positive: int | None
) -> Golden:
    every = range(len(layout.inputs))
    return build(
        plain(frame.head(400)),
        _predict(layout, scores),
        positive,
        missing=every,
        thresholds=_thresholds(booster),
    )


def _predict(layout: Layout, scores: Any) -> Predict:
    def predict(rows: list[list[Any]]) -> NDArray[np.float64]:
        answer = np.asarray(scores(layout.feeds(rows)["x"]), dtype=np.float64)
        return answer.reshape(len(rows), -1)

    return predict


def _thresholds(booster: xgb.Booster) -> list[Threshold]:
    """Every split: a value below it goes left, the value itself right."""
    model = json.loads(booster.save_raw("json"))
    found = set()
    for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
        nodes = zip(tree["left_children"], tree["split_indices"], tree["split_conditions"], strict=True)
        found |= {(feature, at) for left, feature, at in nodes if left != -1}
    return [Threshold(feature, sides(at, single=True)[:2]) for feature, at in sorted(found)]
