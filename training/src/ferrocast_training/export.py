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
from ferrocast_training.explain import TREES_FILE, explain_rows, explained_by
from ferrocast_training.files import json_text, write_json, write_text
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

EXPECTED_SCORES = "expected_scores.csv"
LIBRARIES = ("scikit-learn", "skl2onnx", "onnxmltools", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and how closely the graph agrees."""

    sha256: str
    golden_rows: int
    worst_difference: float


def export(
    use_case: UseCase,
    contract: Contract,
    dataset: Dataset,
    trained: Trained,
    metrics: dict[str, Any],
    folder: Path,
) -> Exported:
    """Convert, check every golden row and expected score, and only then write the version into `folder`.

    Golden samples are drawn from the test part, rows not trained on; the profiles of the inputs are of the
    training part.
    """
    settings = use_case.export
    tested, learned = (dataset.features.iloc[rows] for rows in (dataset.parts.test, dataset.parts.train))
    content = convert(trained, contract, use_case.model)
    golden = json.loads(json_text(build_golden(tested, trained, contract, settings)))
    described = signature(use_case, contract, trained, content, metrics)
    profile = profiles(learned, contract)
    described["inputs"] = [entry | {"profile": profile[entry["name"]]} for entry in described["inputs"]]
    worst = _verify_golden(content, golden, contract, settings.tolerance)
    if settings.expected_scores:
        expected = expected_scores(use_case, dataset, trained, contract)
        worst = max(worst, _verify_expected(content, expected, dataset, contract, settings.tolerance))
        write_text(folder / EXPECTED_SCORES, expected.to_csv(index=False, lineterminator="\n"))

    trees = trained.library.trees(trained.estimator)
    if trees is not None:
        golden["explained"] = explain_rows(golden["rows"], contract, trained)
        described["explain"] = explained_by(trees, contract, trained)
        (folder / TREES_FILE).write_bytes(trees)
    (folder / "model.onnx").write_bytes(content)
    write_text(folder / "golden.json", _a_row_a_line(golden))
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "signature.json", described)
    return Exported(hashlib.sha256(content).hexdigest(), len(golden["rows"]), worst)


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
            trained.library.rounds_called: trained.rounds,
            "data_sha256": data_digests(use_case, contract),
            "libraries": {trained.library.package: trained.library.version()}
            | {name: version(name) for name in LIBRARIES},
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


def _a_row_a_line(golden: dict[str, Any]) -> str:
    parts = [
        f"{json.dumps(key)}: {_lines(part) if key == 'rows' else json.dumps(part)}"
        for key, part in golden.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(rows: list[Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows) + "\n]"
