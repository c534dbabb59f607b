"""The fitted pipeline as one ONNX graph, and the check that both give the same scores."""

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType

from ferrocast_training.contract import Contract
from ferrocast_training.errors import ExportError
from ferrocast_training.pipeline import Trained
from ferrocast_training.tensors import CATEGORICAL_TENSOR, NUMERIC_TENSOR, tensors

OUTPUT = "probabilities"
MATRIX = "tree_columns"
OPSETS = {"": 17, "ai.onnx.ml": 3}


def convert(trained: Trained, contract: Contract, name: str) -> bytes:
    """Return the bytes of a graph from raw columns to probabilities [rows, 2].

    Where the trees go along (`Library.trees`), a second output is the matrix [rows, columns] that they take:
    what explains a score starts there.
    """
    trained.library.register_converter()
    inputs = []
    if contract.numeric:
        inputs.append((NUMERIC_TENSOR, FloatTensorType([None, len(contract.numeric)])))
    if contract.categorical:
        inputs.append((CATEGORICAL_TENSOR, StringTensorType([None, len(contract.categorical)])))
    model = convert_sklearn(
        trained.pipeline,
        name=name,  # without a name the graph gets a random one, and the file another digest each time
        initial_types=inputs,
        target_opset=OPSETS,
        options={id(trained.estimator): {"zipmap": False}},
    )
    keep_only(model.graph, OUTPUT)
    if trained.library.trees(trained.estimator) is not None:
        show_matrix(model.graph, trained.estimator.n_features_in_)
    # The converter lists them in the order of a set, which is another one in each process.
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    model.ClearField("opset_import")
    model.opset_import.extend(opsets)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def keep_only(graph: onnx.GraphProto, output: str) -> None:
    """Drop every other output of `graph`, and the nodes that only those needed (the class labels)."""
    needed, nodes = {output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    kept = {
        "node": nodes[::-1],
        "initializer": [tensor for tensor in graph.initializer if tensor.name in needed],
        "output": [value for value in graph.output if value.name == output],
    }
    for field, values in kept.items():
        graph.ClearField(field)
        getattr(graph, field).extend(values)


def show_matrix(graph: onnx.GraphProto, columns: int) -> None:
    """Make the input of the trees an output of `graph`, called MATRIX."""
    trees = next(node for node in graph.node if node.op_type == "TreeEnsembleClassifier")
    inner = trees.input[0]
    for node in graph.node:
        node.input[:] = [MATRIX if name == inner else name for name in node.input]
        node.output[:] = [MATRIX if name == inner else name for name in node.output]
    graph.output.append(onnx.helper.make_tensor_value_info(MATRIX, onnx.TensorProto.FLOAT, [None, columns]))


def run(content: bytes, frame: pd.DataFrame, contract: Contract) -> NDArray[np.float64]:
    """Return the graph's probability of the positive class for a model frame [rows, inputs]: [rows]."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run([OUTPUT], tensors(frame, contract))
    return np.asarray(probabilities)[:, 1].astype(np.float64)


def verify(
    content: bytes,
    frame: pd.DataFrame,
    scores: NDArray[np.float64],
    names: list[str],
    contract: Contract,
    tolerance: float,
) -> float:
    """Return the largest difference between the graph and `scores` [rows]; refuse one above `tolerance`."""
    served = run(content, frame, contract)
    differences = np.abs(served - scores)
    worst = int(np.argmax(np.nan_to_num(differences, nan=np.inf)))
    if not differences[worst] <= tolerance:
        raise ExportError(
            f"the ONNX graph disagrees with the trained model, worst on {names[worst]}: "
            f"{served[worst]!r} instead of {scores[worst]!r}, allowed {tolerance}"
        )
    return float(differences[worst])
