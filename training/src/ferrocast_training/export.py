"""Writes a version of a model: graph, signature, golden rows and metrics, once they agree with each other."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ferrocast_training.contract import Contract
from ferrocast_training.dataset import Dataset
from ferrocast_training.explain import explain_rows, explained_by, trees_of
from ferrocast_training.golden import build_golden, plain_rows, spread
from ferrocast_training.graph import OUTPUT, convert, verify
from ferrocast_training.pipeline import Trained
from ferrocast_training.profile import profiles
from ferrocast_training.settings import UseCase
from ferrocast_training.tensors import (
    CATEGORICAL_TENSOR,
    MISSING_STRING,
    NUMERIC_TENSOR,
    frame_of_values,
)

LIBRARIES = ("scikit-learn", "skl2onnx", "onnxmltools", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and how closely the graph agrees."""

    folder: Path
    sha256: str
    golden_rows: int
    worst_difference: float


def export(
    use_case: UseCase,
    contract: Contract,
    dataset: Dataset,
    golden_features: pd.DataFrame,
    training_features: pd.DataFrame,
    trained: Trained,
    metrics: dict[str, Any],
) -> Exported:
    """Convert, check every golden row and expected score, and only then write.

    `golden_features` [rows, inputs] are the rows that golden samples are drawn from: ones not trained on; the
    profiles of the inputs are of `training_features` [rows, inputs].
    """
    settings = use_case.export
    content = convert(trained, contract, use_case.model)
    trees = trees_of(trained)
    golden = json.loads(_json(build_golden(golden_features, trained, contract, settings)))
    golden["explained"] = explain_rows(golden["rows"], contract, trained)
    expected = expected_scores(use_case, dataset, trained, contract)
    worst = max(
        _verify_golden(content, golden, contract, settings.tolerance),
        _verify_expected(content, expected, dataset, contract, settings.tolerance),
    )

    folder = contract.folder / use_case.version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    (folder / "trees.json").write_bytes(trees)
    _write(folder / "golden.json", _json(golden, a_row_a_line=True))
    _write(folder / "metrics.json", _json(metrics))
    described = signature(use_case, contract, trained, content, metrics)
    profile = profiles(training_features, contract)
    described["explain"] = explained_by(trees, contract, trained)
    described["inputs"] = [entry | {"profile": profile[entry["name"]]} for entry in described["inputs"]]
    _write(folder / "signature.json", _json(described))
    _write(
        contract.folder / "data" / "expected_scores.csv", expected.to_csv(index=False, lineterminator="\n")
    )
    return Exported(folder, hashlib.sha256(content).hexdigest(), len(golden["rows"]), worst)


def expected_scores(
    use_case: UseCase, dataset: Dataset, trained: Trained, contract: Contract
) -> pd.DataFrame:
    """Return id and the trained model's own score of `count` entities, spread over the data."""
    numbers = spread(len(dataset.ids), use_case.export.expected_scores)
    frame = frame_of_values(plain_rows(dataset.features, numbers, contract), contract)
    return pd.DataFrame({use_case.rows.id_column: dataset.ids[numbers], "score": trained.scores(frame)})


def signature(
    use_case: UseCase, contract: Contract, trained: Trained, content: bytes, metrics: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of signature.json."""
    return {
        "format_version": 1,
        "model": use_case.model,
        "version": use_case.version,
        "runtime": "onnx",
        "task": "binary_classification",
        "file": "model.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
        "inputs": _inputs(contract, trained),
        "tensors": _tensors(contract),
        "output": OUTPUT,
        "classes": [use_case.label.negative, use_case.label.positive],
        "positive_class": use_case.label.positive,
        "threshold": metrics["threshold"]["value"],
        "golden": {"file": "golden.json", "tolerance": use_case.export.tolerance},
        "training": {
            "rows": metrics["train"]["rows"],
            "trees": trained.best_iteration + 1,
            "data_sha256": data_digests(use_case, contract),
            "libraries": {"xgboost": _xgboost_version()} | {name: version(name) for name in LIBRARIES},
        },
    }


def data_digests(use_case: UseCase, contract: Contract) -> dict[str, str]:
    """Return the digest of every file that the model was trained from."""
    paths = [view.path for view in contract.views.values()] + [contract.folder / use_case.label.file]
    return {
        path.relative_to(contract.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def _inputs(contract: Contract, trained: Trained) -> list[dict[str, Any]]:
    numeric = [each.name for each in contract.numeric]
    categorical = [each.name for each in contract.categorical]
    known = trained.encoder.categories_ if trained.encoder is not None else []
    described: list[dict[str, Any]] = []
    for each in contract.inputs:
        entry: dict[str, Any] = {"name": each.name, "type": each.type}
        if each.is_numeric:
            entry |= {"tensor": NUMERIC_TENSOR, "column": numeric.index(each.name)}
        else:
            column = categorical.index(each.name)
            entry |= {"tensor": CATEGORICAL_TENSOR, "column": column}
            entry["categories"] = [str(word) for word in known[column] if word != MISSING_STRING]
        described.append(entry)
    return described


def _tensors(contract: Contract) -> list[dict[str, Any]]:
    tensors = [
        {"name": NUMERIC_TENSOR, "type": "float", "columns": len(contract.numeric)},
        {"name": CATEGORICAL_TENSOR, "type": "string", "columns": len(contract.categorical)},
    ]
    return [tensor for tensor in tensors if tensor["columns"]]


def _verify_golden(content: bytes, golden: dict[str, Any], contract: Contract, tolerance: float) -> float:
    frame = frame_of_values(golden["rows"], contract)
    names = [f"golden row {number} ({kind})" for number, kind in enumerate(golden["kinds"])]
    return verify(content, frame, pd.Series(golden["scores"]).to_numpy(), names, contract, tolerance)


def _verify_expected(
    content: bytes, expected: pd.DataFrame, dataset: Dataset, contract: Contract, tolerance: float
) -> float:
    positions = pd.Index(dataset.ids).get_indexer(pd.Index(expected.iloc[:, 0]))
    frame = frame_of_values(plain_rows(dataset.features, positions, contract), contract)
    names = [f"the expected score of {name}" for name in expected.iloc[:, 0]]
    return verify(content, frame, expected["score"].to_numpy(), names, contract, tolerance)


def _xgboost_version() -> str:
    import xgboost  # the distribution is called xgboost-cpu or xgboost, the module is one

    return str(xgboost.__version__)


def _json(value: dict[str, Any], *, a_row_a_line: bool = False) -> str:
    if not a_row_a_line:
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    parts = [
        f"{json.dumps(key)}: {_lines(part) if key == 'rows' else json.dumps(part)}"
        for key, part in value.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(rows: list[Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows) + "\n]"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
