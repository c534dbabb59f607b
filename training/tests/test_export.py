"""The graph is what was promised, and one that disagrees with the model is not written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from ferrocast_training import export as export_module
from ferrocast_training.contract import Contract
from ferrocast_training.errors import ExportError
from ferrocast_training.graph import convert, run, verify
from ferrocast_training.pipeline import train
from ferrocast_training.settings import UseCase
from ferrocast_training.steps.step import Context

from .conftest import COMMITTED, Fitted

OPERATORS = {"Gather", "Imputer", "OneHotEncoder", "Concat", "Reshape", "TreeEnsembleClassifier"}


@pytest.fixture(scope="module")
def graph() -> onnx.GraphProto:
    return onnx.load(COMMITTED / "1" / "model.onnx").graph


def test_the_graph_takes_two_tensors_and_gives_scores_and_what_explains_them(graph: onnx.GraphProto) -> None:
    assert [value.name for value in graph.input] == ["numeric", "categorical"]
    assert [value.name for value in graph.output] == ["probabilities", "tree_columns"]


def test_the_graph_has_only_the_known_operators(graph: onnx.GraphProto) -> None:
    assert {node.op_type for node in graph.node} == OPERATORS
    assert {node.domain for node in graph.node} <= {"", "ai.onnx.ml"}


def test_the_order_of_the_opsets_does_not_hang_on_the_process() -> None:
    opsets = onnx.load(COMMITTED / "1" / "model.onnx").opset_import
    assert [opset.domain for opset in opsets] == ["", "ai.onnx.ml"]


def test_the_whole_data_agrees(fitted: Fitted, contract: Contract) -> None:
    content = (COMMITTED / "1" / "model.onnx").read_bytes()
    served = run(content, fitted.frame, contract)
    assert np.max(np.abs(served - fitted.trained.scores(fitted.frame))) < 1e-5


def test_one_row_scores_as_it_does_among_many(fitted: Fitted, contract: Contract) -> None:
    content = (COMMITTED / "1" / "model.onnx").read_bytes()
    many = run(content, fitted.frame.head(50), contract)
    single = [run(content, fitted.frame.iloc[[row]], contract)[0] for row in range(50)]
    assert np.max(np.abs(many - single)) < 1e-6


def test_a_wrong_score_is_refused_by_name(fitted: Fitted, contract: Contract) -> None:
    content = (COMMITTED / "1" / "model.onnx").read_bytes()
    frame = fitted.frame.head(5)
    scores = fitted.trained.scores(frame)
    names = [f"row {number}" for number in range(5)]
    assert verify(content, frame, scores, names, contract, 1e-5) < 1e-5
    scores[3] += 2e-5
    with pytest.raises(ExportError, match="worst on row 3"):
        verify(content, frame, scores, names, contract, 1e-5)


def test_a_score_that_is_no_number_is_refused(fitted: Fitted, contract: Contract) -> None:
    content = (COMMITTED / "1" / "model.onnx").read_bytes()
    with pytest.raises(ExportError, match="worst on the row"):
        verify(content, fitted.frame.head(1), np.array([np.nan]), ["the row"], contract, 1e-5)


def test_a_graph_of_another_model_is_not_written(
    use_case: UseCase,
    contract: Contract,
    fitted: Fitted,
    retrained: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = fitted.parts
    other = train(parts["train"], parts["train"], contract, replace(use_case.train, trees_max=3))
    monkeypatch.setattr(export_module, "convert", lambda _, *rest: convert(other, *rest))
    metrics = json.loads((retrained.result("evaluate") / "metrics.json").read_text(encoding="utf-8"))
    with pytest.raises(ExportError, match="worst on golden row"):
        export_module.export(use_case, contract, fitted.dataset, fitted.trained, metrics, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_signature_follows_model_toml(contract: Contract) -> None:
    signature = json.loads((COMMITTED / "1" / "signature.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in signature["inputs"]] == [each.name for each in contract.inputs]
    assert [each["type"] for each in signature["inputs"]] == [each.type for each in contract.inputs]
    for tensor in signature["tensors"]:
        columns = [each["column"] for each in signature["inputs"] if each["tensor"] == tensor["name"]]
        assert sorted(columns) == list(range(tensor["columns"]))


def test_no_text_input_lists_the_empty_category() -> None:
    signature = json.loads((COMMITTED / "1" / "signature.json").read_text(encoding="utf-8"))
    listed = [each["categories"] for each in signature["inputs"] if each["type"] == "string"]
    assert len(listed) == 5
    assert all(words and "" not in words for words in listed)


def test_an_unseen_category_scores_as_a_missing_one_where_none_was_missing(
    fitted: Fitted, contract: Contract
) -> None:
    content = (COMMITTED / "1" / "model.onnx").read_bytes()
    frame = fitted.frame.head(200)
    missing, unseen = (run(content, frame.assign(sub_grade=word), contract) for word in ("", "Z9"))
    assert np.array_equal(missing, unseen)
    assert not np.array_equal(missing, run(content, frame, contract))
