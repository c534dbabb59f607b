"""Exports from CatBoost, by its own ONNX writer: of numbers only, so categories go in as their codes."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from catboost import CatBoostClassifier, CatBoostRegressor
from numpy.typing import NDArray

from exports.data import loans, of_sklearn
from exports.export import Export, Input, Layout, Tensor, matrix, plain
from exports.golden import Threshold, build, sides
from exports.graphs import content, without_zipmap

LIBRARIES = ("catboost", "onnx")
SETTINGS: dict[str, Any] = {
    "iterations": 20,
    "depth": 3,
    "thread_count": 1,
    "random_seed": 0,
    "verbose": 0,
    "allow_writing_files": False,
}
CATEGORICAL = ["term", "sub_grade", "verification_status"]
ENDLESS = 1e30
NUMBERS = ["annual_inc", "int_rate", "revol_util"]


def multiclass() -> Export:
    """Three classes."""
    data = of_sklearn("wine")
    model = CatBoostClassifier(**SETTINGS).fit(data.frame.to_numpy(np.float32), data.labels)
    layout = _features(matrix(data.names))
    return Export(
        name="catboost_multiclass",
        description="The cultivar that a wine is made from",
        task="multiclass_classification",
        content=content(without_zipmap(exported(model, "catboost_multiclass"))),
        layout=layout,
        output="probability_tensor",
        golden=build(
            plain(data.frame),
            lambda rows: _float64(model.predict_proba(layout.feeds(rows)["features"])),
            None,
            missing=range(len(data.names)),
            thresholds=_thresholds(model),
        ),
        libraries=LIBRARIES,
        classes=data.classes,
    )


def regression() -> Export:
    """A number, in a graph that says [rows] and answers [rows, 1]."""
    data = of_sklearn("diabetes", scaled=False)
    model = CatBoostRegressor(**SETTINGS).fit(data.frame.to_numpy(np.float32), data.labels)
    layout = _features(matrix(data.names))
    return Export(
        name="catboost_regression",
        description="How a diabetes progresses within a year",
        task="regression",
        content=content(exported(model, "catboost_regression")),
        layout=layout,
        output="predictions",
        golden=build(
            plain(data.frame),
            lambda rows: _float64(model.predict(layout.feeds(rows)["features"])).reshape(len(rows), 1),
            0,
            missing=range(len(data.names)),
            thresholds=_thresholds(model),
        ),
        libraries=LIBRARIES,
    )


def codes() -> Export:
    """Texts as the index of their category, an unknown one as missing."""
    data = loans(CATEGORICAL + NUMBERS)
    known = {name: tuple(sorted(data.frame[name].dropna().unique())) for name in CATEGORICAL}
    inputs = tuple(
        Input(name, "string" if name in known else "double", "features", column, known.get(name, ()))
        for column, name in enumerate(data.names)
    )
    layout = Layout(inputs, (Tensor("features", "float", len(inputs)),))
    # Some texts are hidden, so that the trees learn where a missing one goes.
    rows = plain(data.frame.mask(np.random.default_rng(7).random(data.frame.shape) < 0.05))
    model = CatBoostClassifier(**SETTINGS).fit(layout.feeds(rows)["features"], data.labels)
    return Export(
        name="catboost_codes",
        description="The probability that a loan goes bad",
        task="binary_classification",
        content=content(without_zipmap(exported(model, "catboost_codes"))),
        layout=layout,
        output="probability_tensor",
        golden=build(
            rows,
            lambda rows: _float64(model.predict_proba(layout.feeds(rows)["features"])),
            1,
            missing=range(len(inputs)),
            texts=range(len(CATEGORICAL)),
            thresholds=[each for each in _thresholds(model) if each.position >= len(CATEGORICAL)],
        ),
        libraries=LIBRARIES,
        classes=data.classes,
        positive_class="bad",
    )


def exported(model: Any, name: str) -> onnx.ModelProto:
    """Return what CatBoost itself writes: a classifier's with a ZipMap."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model.save_model(str(path), format="onnx", export_parameters={"onnx_graph_name": name})
        return onnx.load(path)


def _features(layout: Layout) -> Layout:
    """Return the layout with the name that CatBoost gives its matrix."""
    inputs = tuple(Input(each.name, each.type, "features", each.column) for each in layout.inputs)
    return Layout(inputs, (Tensor("features", "float", len(inputs)),))


def _thresholds(model: Any) -> list[Threshold]:
    """Every border: the value itself goes left, the next one right; but those of missing values."""
    return [
        Threshold(feature, sides(at, single=True)[1:])
        for feature, borders in sorted(model.get_borders().items())
        for at in borders
        if abs(at) < ENDLESS
    ]


def _float64(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
