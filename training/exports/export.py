"""One exported model: what it holds, and how it is written as a folder of a model repository."""

import hashlib
import json
import tomllib
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
import xgboost
from numpy.typing import NDArray

from exports.golden import Golden

TYPES = {"float": np.float32, "double": np.float64, "int64": np.int64, "bool": np.bool_, "string": np.object_}


@dataclass(frozen=True)
class Input:
    """One value of a row: the feature's type, the tensor and column that it goes into, its categories."""

    name: str
    type: str
    tensor: str
    column: int
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tensor:
    """One input of the graph, [rows, columns]."""

    name: str
    type: str
    columns: int


@dataclass(frozen=True)
class Layout:
    """What a row is, and how it goes into the model."""

    inputs: tuple[Input, ...]
    tensors: tuple[Tensor, ...]

    def feeds(self, rows: list[list[Any]]) -> dict[str, NDArray[Any]]:
        """Lay rows out as the server does: missing is NaN or "", a coded text its index or NaN."""
        arrays: dict[str, NDArray[Any]] = {}
        for tensor in self.tensors:
            inputs = [(at, each) for at, each in enumerate(self.inputs) if each.tensor == tensor.name]
            inputs.sort(key=lambda pair: pair[1].column)
            cells = [[cell(row[at], each, tensor) for at, each in inputs] for row in rows]
            arrays[tensor.name] = np.array(cells, dtype=TYPES[tensor.type])
        return arrays


def cell(value: Any, each: Input, tensor: Tensor) -> Any:
    """Return one value as its tensor holds it."""
    if tensor.type == "string":
        return "" if value is None else value
    if each.type == "string":
        return each.categories.index(value) if value in each.categories else np.nan
    return np.nan if value is None else value


def matrix(names: list[str], value_type: str = "double", tensor_type: str = "float") -> Layout:
    """Return the layout of one matrix "x" of numbers."""
    inputs = tuple(Input(name, value_type, "x", column) for column, name in enumerate(names))
    return Layout(inputs, (Tensor("x", tensor_type, len(names)),))


@dataclass(frozen=True)
class Export:
    """A model, exported, with the library's own predictions."""

    name: str
    description: str
    task: str
    content: bytes
    layout: Layout
    output: str
    golden: Golden
    libraries: tuple[str, ...]
    classes: tuple[str, ...] = ()
    positive_class: str = ""
    tolerance: float = 1e-5
    runtime: str = "onnx"
    rejects_missing: bool = False
    beside: dict[str, bytes] = field(default_factory=dict)
    # What explains a score, as signature.json says it; its file is one of `beside`.
    explain: dict[str, Any] | None = None

    @property
    def file(self) -> str:
        """The name of the model's file."""
        return "model.onnx" if self.runtime == "onnx" else "model.txt"


def write(export: Export, root: Path) -> None:
    """Write the folder of one model."""
    folder = root / export.name
    version_folder = folder / "1"
    version_folder.mkdir(parents=True, exist_ok=True)
    (version_folder / export.file).write_bytes(export.content)
    for name, content in export.beside.items():
        (version_folder / name).write_bytes(content)
    _write(folder / "features.toml", _features(export))
    _write(folder / "model.toml", _model(export))
    _write(version_folder / "signature.json", json.dumps(_signature(export), indent=1) + "\n")
    _write(version_folder / "golden.json", export.golden.text([each.name for each in export.layout.inputs]))


def check(export: Export) -> float:
    """Run the golden rows through ONNX Runtime; return the largest difference, as the server measures it.

    Raises:
        ValueError: the graph does not reproduce them within the tolerance.
    """
    session = ort.InferenceSession(export.content)
    feeds = export.layout.feeds(export.golden.rows)
    (answer,) = session.run([export.output], feeds)
    got = np.asarray(answer, dtype=np.float64).reshape(len(export.golden.rows), -1)
    expected = export.golden.outputs
    if got.shape[1] == 1 and expected.shape[1] == 2:
        got = np.column_stack([1 - got, got])
    scale = np.ones_like(expected) if export.classes else np.maximum(1, np.abs(expected))
    difference = np.abs(got - expected) / scale
    worst = float(np.max(difference))
    if not worst <= export.tolerance:
        row = int(np.argmax(np.max(difference, axis=1)))
        raise ValueError(f"{export.name}: golden row {row} ({export.golden.kinds[row]}) differs by {worst}")
    return worst


def _signature(export: Export) -> dict[str, Any]:
    inputs = []
    for each in export.layout.inputs:
        entry: dict[str, Any] = {"name": each.name, "type": each.type, "tensor": each.tensor}
        entry["column"] = each.column
        if each.categories:
            entry["categories"] = list(each.categories)
        inputs.append(entry)
    tensors = export.layout.tensors
    signature: dict[str, Any] = {
        "format_version": 1,
        "model": export.name,
        "version": "1",
        "runtime": export.runtime,
        "task": export.task,
        "file": export.file,
        "sha256": hashlib.sha256(export.content).hexdigest(),
        "inputs": inputs,
        "tensors": [{"name": each.name, "type": each.type, "columns": each.columns} for each in tensors],
    }
    if export.output:
        signature["output"] = export.output
    if export.classes:
        signature["classes"] = list(export.classes)
    if export.positive_class:
        signature["positive_class"] = export.positive_class
    signature["golden"] = {"file": "golden.json", "tolerance": export.tolerance}
    if export.explain:
        signature["explain"] = export.explain
    signature["training"] = {"libraries": {name: _version(name) for name in export.libraries}}
    return signature


def _version(library: str) -> str:
    if library == "xgboost":
        # The distribution is called xgboost-cpu or xgboost, the module is one.
        return str(xgboost.__version__)
    return version(library)


def _features(export: Export) -> str:
    lines = [
        f'project = "{export.name}"',
        "",
        "[[entities]]",
        f'name = "{export.name}_row"',
        f'join_keys = [{{ name = "{export.name}_id", type = "string" }}]',
        "",
        "[[feature_views]]",
        f'name = "{export.name}"',
        f'entity = "{export.name}_row"',
        "features = [",
        *(f'  {{ name = "{each.name}", type = "{each.type}" }},' for each in export.layout.inputs),
        "]",
    ]
    return _toml(lines)


def _model(export: Export) -> str:
    lines = [
        f'name = "{export.name}"',
        f'description = "{export.description}"',
        "features = [",
        *(f'  "{export.name}:{each.name}",' for each in export.layout.inputs),
        "]",
    ]
    if export.rejects_missing:
        lines += [f'[inputs.{each.name}]\non_missing = "reject"' for each in export.layout.inputs]
    return _toml(lines)


def _toml(lines: list[str]) -> str:
    text = "\n".join(lines) + "\n"
    tomllib.loads(text)
    return text


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def plain(frame: pd.DataFrame) -> list[list[Any]]:
    """Return rows of JSON values; missing is None."""
    columns = [frame[name].astype(object).where(frame[name].notna(), None) for name in frame.columns]
    return [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
