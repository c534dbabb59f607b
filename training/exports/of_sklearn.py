"""Exports from scikit-learn: linear models and forests; one matrix, and one tensor a column."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from exports.data import loans, of_sklearn
from exports.export import Export, Input, Layout, Tensor, matrix, plain
from exports.golden import Threshold, build, sides
from exports.graphs import content

LIBRARIES = ("scikit-learn", "skl2onnx", "onnx")
OPSETS = {"": 17, "ai.onnx.ml": 3}
FOREST: dict[str, Any] = {"n_estimators": 12, "max_depth": 5, "random_state": 0, "n_jobs": 1}
TEXTS = ["term", "verification_status", "emp_length"]
FLOATS = ["annual_inc", "int_rate"]
INTEGERS = ["inq_last_6mths", "delinq_2yrs"]
BOOLEANS = ["is_long"]


def logistic() -> Export:
    """A linear classifier of three classes, on 32-bit floats."""
    data = of_sklearn("iris")
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    model.fit(data.frame.to_numpy(np.float32), data.labels)
    layout = matrix(data.names)
    return Export(
        name="sklearn_logistic",
        description="The species of an iris",
        task="multiclass_classification",
        content=convert(model, "sklearn_logistic", [("x", FloatTensorType([None, len(data.names)]))]),
        layout=layout,
        output="probabilities",
        golden=build(
            plain(data.frame),
            lambda rows: _float64(model.predict_proba(layout.feeds(rows)["x"])),
            None,
            missing=range(len(data.names)),
        ),
        libraries=LIBRARIES,
        classes=data.classes,
    )


def logistic_doubles() -> Export:
    """A linear classifier that computes in doubles and knows no missing value: model.toml rejects them."""
    data = of_sklearn("breast_cancer", hidden=False, columns=10)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.frame.to_numpy(), data.labels)
    layout = matrix(data.names, tensor_type="double")
    return Export(
        name="sklearn_logistic_doubles",
        description="Whether a breast tumour is benign",
        task="binary_classification",
        content=convert(model, "sklearn_logistic_doubles", [("x", DoubleTensorType([None, 10]))]),
        layout=layout,
        output="probabilities",
        golden=build(
            plain(data.frame),
            lambda rows: _float64(model.predict_proba(layout.feeds(rows)["x"])),
            1,
            missing=(),
        ),
        libraries=LIBRARIES,
        classes=data.classes,
        positive_class="benign",
        tolerance=1e-9,
        rejects_missing=True,
    )


def forest() -> Export:
    """A random forest on one matrix; the imputer before it is what makes it know missing values."""
    data = of_sklearn("breast_cancer", columns=12)
    model = make_pipeline(SimpleImputer(strategy="median"), RandomForestClassifier(**FOREST))
    model.fit(data.frame.to_numpy(np.float32), data.labels)
    layout = matrix(data.names)
    return Export(
        name="sklearn_forest",
        description="Whether a breast tumour is benign",
        task="binary_classification",
        content=convert(model, "sklearn_forest", [("x", FloatTensorType([None, len(data.names)]))]),
        layout=layout,
        output="probabilities",
        golden=build(
            plain(data.frame),
            lambda rows: _float64(model.predict_proba(layout.feeds(rows)["x"])),
            1,
            missing=range(len(data.names)),
            thresholds=thresholds(model[-1]),
        ),
        libraries=LIBRARIES,
        classes=data.classes,
        positive_class="benign",
    )


def one_probability() -> Export:
    """Two classes, of which the graph answers only the second one's probability, [rows, 1]."""
    data = of_sklearn("breast_cancer", columns=8)
    model = make_pipeline(
        SimpleImputer(strategy="median"), RandomForestRegressor(**FOREST | {"max_depth": 4})
    )
    model.fit(data.frame.to_numpy(np.float32), data.labels)
    layout = matrix(data.names)

    def both(rows: list[list[Any]]) -> NDArray[np.float64]:
        benign = _float64(model.predict(layout.feeds(rows)["x"]))
        return np.column_stack([1 - benign, benign])

    return Export(
        name="sklearn_one_probability",
        description="Whether a breast tumour is benign",
        task="binary_classification",
        content=convert(model, "sklearn_one_probability", [("x", FloatTensorType([None, len(data.names)]))]),
        layout=layout,
        output="variable",
        golden=build(
            plain(data.frame), both, 1, missing=range(len(data.names)), thresholds=thresholds(model[-1])
        ),
        libraries=LIBRARIES,
        classes=data.classes,
        positive_class="benign",
    )


def forest_regression() -> Export:
    """A random forest that answers a number."""
    data = of_sklearn("diabetes", scaled=False)
    model = make_pipeline(
        SimpleImputer(strategy="median"), RandomForestRegressor(**FOREST | {"max_depth": 4})
    )
    model.fit(data.frame.to_numpy(np.float32), data.labels)
    layout = matrix(data.names)
    return Export(
        name="sklearn_forest_regression",
        description="How a diabetes progresses within a year",
        task="regression",
        content=convert(
            model, "sklearn_forest_regression", [("x", FloatTensorType([None, len(data.names)]))]
        ),
        layout=layout,
        output="variable",
        golden=build(
            plain(data.frame),
            lambda rows: _float64(model.predict(layout.feeds(rows)["x"])).reshape(len(rows), 1),
            0,
            missing=range(len(data.names)),
            thresholds=thresholds(model[-1]),
        ),
        libraries=LIBRARIES,
    )


def forest_columns() -> Export:
    """A random forest with one tensor a column: floats, texts, integers and booleans."""
    data = loans(FLOATS + TEXTS + INTEGERS + BOOLEANS)
    kinds = {name: "float" for name in FLOATS} | {name: "string" for name in TEXTS}
    kinds |= {name: "int64" for name in INTEGERS} | {name: "bool" for name in BOOLEANS}
    values = kinds | {name: "double" for name in FLOATS}
    known = {name: tuple(sorted(data.frame[name].dropna().unique())) for name in TEXTS}
    layout = Layout(
        tuple(Input(name, values[name], name, 0, known.get(name, ())) for name in data.names),
        tuple(Tensor(name, kinds[name], 1) for name in data.names),
    )
    prepare = ColumnTransformer(
        [
            ("numbers", SimpleImputer(strategy="median"), FLOATS),
            ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), TEXTS),
            ("whole", "passthrough", INTEGERS + BOOLEANS),
        ]
    )
    model = Pipeline(
        [("prepare", prepare), ("trees", RandomForestClassifier(**FOREST, class_weight="balanced"))]
    )

    def frame(rows: list[list[Any]]) -> pd.DataFrame:
        feeds = layout.feeds(rows)
        return pd.DataFrame({name: feeds[name].ravel() for name in data.names})

    rows = plain(data.frame.mask(np.random.default_rng(7).random(data.frame.shape) < _share(data.names)))
    model.fit(frame(rows), data.labels)
    tensors = {
        "float": FloatTensorType,
        "string": StringTensorType,
        "int64": Int64TensorType,
        "bool": BooleanTensorType,
    }
    types = [(each.name, tensors[each.type]([None, 1])) for each in layout.tensors]
    return Export(
        name="sklearn_forest_columns",
        description="The probability that a loan goes bad",
        task="binary_classification",
        content=convert(model, "sklearn_forest_columns", types),
        layout=layout,
        output="probabilities",
        golden=build(
            rows,
            lambda rows: _float64(model.predict_proba(frame(rows))),
            1,
            missing=[at for at, name in enumerate(data.names) if name in FLOATS + TEXTS],
            texts=[at for at, name in enumerate(data.names) if name in TEXTS],
        ),
        libraries=LIBRARIES,
        classes=data.classes,
        positive_class="bad",
    )


def _share(names: list[str]) -> NDArray[np.float64]:
    """Return which share of each column's cells to hide: integers and booleans know no missing value."""
    return np.array([0.05 if name in FLOATS + TEXTS else 0.0 for name in names])


def convert(
    model: Any,
    name: str,
    types: list[tuple[str, Any]],
    *,
    zipmap: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    """Return the bytes of a fitted model's graph; with `zipmap` as skl2onnx writes it unasked."""
    asked: dict[str, Any] = dict(options or {})
    if not zipmap and hasattr(model, "predict_proba"):
        asked["zipmap"] = False
    return content(
        convert_sklearn(
            model,
            name=name,
            initial_types=types,
            target_opset=OPSETS,
            options={id(model): asked} if asked else None,
        )
    )


def thresholds(forest: Any) -> list[Threshold]:
    """Every split: the value itself goes left, the next one right."""
    found = set()
    for tree in forest.estimators_:
        splits = zip(tree.tree_.feature, tree.tree_.threshold, strict=True)
        found |= {(int(feature), float(np.float32(at))) for feature, at in splits if feature >= 0}
    return [Threshold(feature, sides(at, single=True)) for feature, at in sorted(found)]


def _float64(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
