"""Exports that a server has to refuse: what the libraries really write where nobody asks them not to."""

import tempfile
from dataclasses import replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnx
from catboost import CatBoostClassifier
from onnx import TensorProto, helper, numpy_helper
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from exports import of_catboost, of_lightgbm, of_sklearn
from exports.data import of_sklearn as load
from exports.export import Export, matrix, plain
from exports.golden import build
from exports.graphs import content

NEWER_OPSET = 27


def models() -> list[Export]:
    """Train and export what has to be refused."""
    return [
        zipmap(),
        catboost_zipmap(),
        external_data(),
        custom_operator(),
        subgraph_scan(),
        subgraph_if(),
        newer_opset(),
        nan_unaware(),
        linear_trees(),
    ]


def zipmap() -> Export:
    """What skl2onnx writes by default: probabilities as a list of maps."""
    data = load("iris", hidden=False)
    model = LogisticRegression().fit(data.frame.to_numpy(np.float32), data.labels)
    graph = of_sklearn.convert(model, "zipmap", [("x", FloatTensorType([None, 4]))], zipmap=True)
    return replace(of_sklearn.logistic(), name="zipmap", content=graph, output="output_probability")


def catboost_zipmap() -> Export:
    """What CatBoost writes, who knows no option for it."""
    good = of_catboost.multiclass()
    data = load("wine")
    model = CatBoostClassifier(**of_catboost.SETTINGS).fit(data.frame.to_numpy(np.float32), data.labels)
    graph = content(of_catboost.exported(model, "catboost_zipmap"))
    return replace(good, name="catboost_zipmap", content=graph, output="probabilities")


def external_data() -> Export:
    """The weights in a file beside the model."""
    good = of_sklearn.logistic_doubles()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        graph = onnx.load_from_string(good.content)
        for tensor in graph.graph.initializer:
            # Only raw bytes can be kept elsewhere.
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
        onnx.save(
            graph,
            path,
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location="weights.bin",
            size_threshold=0,
        )
        beside = {"weights.bin": (Path(folder) / "weights.bin").read_bytes()}
        return replace(good, name="external_data", content=path.read_bytes(), beside=beside)


def custom_operator() -> Export:
    """Distances by an operator of one runtime's own."""
    return replace(_neighbours({"optim": "cdist"}), name="custom_operator")


def subgraph_scan() -> Export:
    """Distances by a loop, whose body is a graph in the graph."""
    return replace(_neighbours({}), name="subgraph_scan")


def _neighbours(options: dict[str, str]) -> Export:
    data = load("iris", hidden=False)
    model = KNeighborsClassifier(n_neighbors=3).fit(data.frame.to_numpy(np.float32)[::5], data.labels[::5])
    types = [("x", FloatTensorType([None, 4]))]
    graph = of_sklearn.convert(model, "neighbours", types, options=options)
    return replace(of_sklearn.logistic(), content=graph)


def subgraph_if() -> Export:
    """A branch, whose sides are graphs in the graph."""
    sides = {}
    for side, value in (("then_branch", 1.0), ("else_branch", 0.0)):
        constant = helper.make_tensor("value", TensorProto.FLOAT, [1, 3], [value] * 3)
        node = helper.make_node("Constant", [], [side], value=constant)
        out = helper.make_tensor_value_info(side, TensorProto.FLOAT, [1, 3])
        sides[side] = helper.make_graph([node], side, [], [out])
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["any"], to=TensorProto.BOOL),
            helper.make_node("If", ["any"], ["probabilities"], **sides),
        ],
        "subgraph_if",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return replace(of_sklearn.logistic(), name="subgraph_if", content=content(model))


def newer_opset() -> Export:
    """A good graph that says it needs operators of after this server."""
    good = of_sklearn.logistic()
    graph = onnx.load_from_string(good.content)
    for opset in graph.opset_import:
        if opset.domain == "":
            opset.version = NEWER_OPSET
    return replace(good, name="newer_opset", content=graph.SerializeToString(deterministic=True))


def nan_unaware() -> Export:
    """A forest that has learned where to send missing values, and a graph that has not: skl2onnx drops it."""
    data = load("breast_cancer", columns=12)
    model = RandomForestClassifier(**of_sklearn.FOREST)
    model.fit(np.array(data.frame, dtype=np.float32), data.labels)
    layout = matrix(data.names)
    return replace(
        of_sklearn.forest(),
        name="nan_unaware",
        content=of_sklearn.convert(model, "nan_unaware", [("x", FloatTensorType([None, 12]))]),
        golden=build(
            plain(data.frame),
            lambda rows: np.asarray(model.predict_proba(layout.feeds(rows)["x"]), dtype=np.float64),
            1,
            missing=range(12),
        ),
    )


def linear_trees() -> Export:
    """LightGBM's trees with a linear model in each leaf."""
    data = load("diabetes", hidden=False, scaled=False)
    settings = of_lightgbm.SETTINGS | {"n_estimators": 4, "linear_tree": True}
    model = lgb.LGBMRegressor(**settings).fit(data.frame.to_numpy(), data.labels)
    text = str(model.booster_.model_to_string()).encode()
    return replace(of_lightgbm.ranking(), name="linear_trees", task="regression", content=text)
