"""Exports from LightGBM: its own text format, whose thresholds are doubles, and ONNX."""

from dataclasses import replace
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from exports.data import Data, loans, of_sklearn
from exports.export import Export, Input, Layout, Tensor, matrix, plain
from exports.golden import Predict, Threshold, build, sides
from exports.graphs import content

LIBRARIES = ("lightgbm",)
OPSET = 15
SETTINGS: dict[str, Any] = {
    "n_estimators": 20,
    "num_leaves": 8,
    "n_jobs": 1,
    "random_state": 0,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
CATEGORICAL = ["term", "sub_grade", "verification_status", "emp_length"]
ENDLESS = 1e300
NUMBERS = ["annual_inc", "int_rate", "revol_util", "inq_last_6mths"]


def binary() -> list[Export]:
    """Two classes, doubles: as text, and as ONNX."""
    data = of_sklearn("breast_cancer")
    model = lgb.LGBMClassifier(**SETTINGS).fit(data.frame.to_numpy(), data.labels)
    layout = matrix(data.names, tensor_type="double")
    text = Export(
        name="lightgbm_binary",
        description="Whether a breast tumour is benign",
        task="binary_classification",
        runtime="lightgbm",
        content=_text(model),
        layout=layout,
        output="",
        golden=build(
            plain(data.frame),
            lambda rows: _float64(model.predict_proba(layout.feeds(rows)["x"])),
            1,
            missing=range(len(data.names)),
            thresholds=_thresholds(model, single=False),
        ),
        libraries=LIBRARIES,
        classes=data.classes,
        positive_class="benign",
        tolerance=1e-12,
    )
    return [_explained(text, model), _as_onnx(text, model, [])]


def multiclass() -> Export:
    """Three classes, as text."""
    data = of_sklearn("wine")
    model = lgb.LGBMClassifier(**SETTINGS | {"n_estimators": 8}).fit(data.frame.to_numpy(), data.labels)
    layout = matrix(data.names, tensor_type="double")
    text = Export(
        name="lightgbm_multiclass",
        description="The cultivar that a wine is made from",
        task="multiclass_classification",
        runtime="lightgbm",
        content=_text(model),
        layout=layout,
        output="",
        golden=build(
            plain(data.frame),
            lambda rows: _float64(model.predict_proba(layout.feeds(rows)["x"])),
            None,
            missing=range(len(data.names)),
            thresholds=_thresholds(model, single=False),
        ),
        libraries=LIBRARIES,
        classes=data.classes,
        tolerance=1e-12,
    )
    return _explained(text, model)


def ranking() -> Export:
    """Patients of about one age, ordered by how their diabetes progresses; as text."""
    data = of_sklearn("diabetes", scaled=False)
    groups = (data.frame["age"].fillna(0) // 10).to_numpy()
    order = np.argsort(groups, kind="stable")
    frame, labels = data.frame.iloc[order], data.labels[order]
    relevance = np.digitize(labels, np.quantile(labels, [0.25, 0.5, 0.75]))
    _, sizes = np.unique(groups[order], return_counts=True)
    model = lgb.LGBMRanker(**SETTINGS).fit(frame.to_numpy(), relevance, group=sizes)
    layout = matrix(data.names, tensor_type="double")
    text = Export(
        name="lightgbm_ranking",
        description="Orders patients by how their diabetes progresses",
        task="ranking",
        runtime="lightgbm",
        content=_text(model),
        layout=layout,
        output="",
        golden=build(
            plain(frame),
            lambda rows: _float64(model.predict(layout.feeds(rows)["x"])).reshape(len(rows), 1),
            0,
            missing=range(len(data.names)),
            thresholds=_thresholds(model, single=False),
        ),
        libraries=LIBRARIES,
        tolerance=1e-12,
    )
    return _explained(text, model)


def categories() -> list[Export]:
    """Categories, which LightGBM splits by sets of codes: as text, and as ONNX."""
    data = loans(CATEGORICAL + NUMBERS)
    known = {name: tuple(sorted(data.frame[name].dropna().unique())) for name in CATEGORICAL}
    settings = SETTINGS | {"min_data_per_group": 20, "cat_smooth": 2}
    model = lgb.LGBMClassifier(**settings).fit(_with_categories(data.frame, known), data.labels)
    layout = _coded(data, known, "double")
    predict = _of_frame(model, data.names, known)
    text = Export(
        name="lightgbm_categories",
        description="The probability that a loan goes bad",
        task="binary_classification",
        runtime="lightgbm",
        content=_text(model),
        layout=layout,
        output="",
        golden=build(
            plain(data.frame),
            predict,
            1,
            missing=range(len(data.names)),
            texts=range(len(CATEGORICAL)),
            thresholds=_thresholds(model, single=False),
        ),
        libraries=LIBRARIES,
        classes=data.classes,
        positive_class="bad",
        tolerance=1e-12,
    )
    return [_explained(text, model), _as_onnx(text, model, range(len(CATEGORICAL)), predict)]


def _explained(text: Export, model: Any) -> Export:
    """Add the library's own SHAP values of every sixth golden row, and of the one that lacks everything."""
    kinds = text.golden.kinds
    rows = sorted({*range(0, len(kinds), 6), len(kinds) - 1 - kinds[::-1].index("missing")})
    values = text.layout.feeds(text.golden.rows)["x"][rows]
    inputs = len(text.layout.inputs)
    # Of several classes the first.
    contributions = _float64(model.booster_.predict(values, pred_contrib=True))[:, : inputs + 1]
    explained = (rows, float(contributions[0, inputs]), contributions[:, :inputs])
    return replace(text, golden=replace(text.golden, explained=explained))


def _as_onnx(text: Export, model: Any, texts: Any, predict: Predict | None = None) -> Export:
    """Return the same model as ONNX, of 32-bit floats: its golden rows stay off the thresholds' last bits."""
    name = f"{text.name}_onnx"
    inputs = len(text.layout.inputs)
    types = [("x", FloatTensorType([None, inputs]))]
    graph = convert_lightgbm(model, name=name, initial_types=types, target_opset=OPSET, zipmap=False)
    layout = Layout(text.layout.inputs, (Tensor("x", "float", inputs),))
    samples = text.golden.rows[: text.golden.kinds.count("sample")]
    golden = build(
        samples,
        predict or (lambda rows: _float64(model.predict_proba(layout.feeds(rows)["x"]))),
        1,
        missing=range(inputs),
        texts=texts,
    )
    return replace(
        text,
        name=name,
        runtime="onnx",
        content=content(graph),
        layout=layout,
        output="probabilities",
        golden=golden,
        libraries=("lightgbm", "onnxmltools", "onnx"),
        tolerance=1e-5,
    )


def _text(model: Any) -> bytes:
    return str(model.booster_.model_to_string()).encode()


def _coded(data: Data, known: dict[str, tuple[str, ...]], tensor_type: str) -> Layout:
    inputs = tuple(
        Input(name, "string", "x", column, known[name])
        if name in known
        else Input(name, "int64" if data.frame[name].dtype == np.int64 else "double", "x", column)
        for column, name in enumerate(data.names)
    )
    return Layout(inputs, (Tensor("x", tensor_type, len(inputs)),))


def _with_categories(frame: pd.DataFrame, known: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    typed = {
        name: pd.Categorical(frame[name].where(frame[name].isin(words)), categories=list(words))
        for name, words in known.items()
    }
    return frame.assign(**typed)


def _of_frame(model: Any, names: list[str], known: dict[str, tuple[str, ...]]) -> Predict:
    """Predict from texts, by the categories that the library has learned from the frame itself."""

    def predict(rows: list[list[Any]]) -> NDArray[np.float64]:
        frame = pd.DataFrame(rows, columns=names)
        numbers = {name: frame[name].astype(np.float64) for name in names if name not in known}
        return _float64(model.predict_proba(_with_categories(frame.assign(**numbers), known)))

    return predict


def _thresholds(model: Any, *, single: bool) -> list[Threshold]:
    """Every split of numbers: the value itself goes left, the next one right."""
    found: set[tuple[int, float]] = set()

    def walk(node: dict[str, Any]) -> None:
        if "split_feature" not in node:
            return
        # Where all but missing values go one way, there is nothing beside the threshold.
        if node["decision_type"] == "<=" and abs(node["threshold"]) < ENDLESS:
            found.add((node["split_feature"], node["threshold"]))
        walk(node["left_child"])
        walk(node["right_child"])

    for tree in model.booster_.dump_model()["tree_info"]:
        walk(tree["tree_structure"])
    return [Threshold(feature, sides(at, single=single)[1:]) for feature, at in sorted(found)]


def _float64(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
