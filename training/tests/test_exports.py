"""Training the small models of tests/data again gives the committed files, byte for byte."""

import filecmp
import json
from pathlib import Path

import onnx
import pytest
from exports.all import write_all
from exports.graphs import without_zipmap

COMMITTED = Path(__file__).resolve().parents[2] / "tests" / "data"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    write_all(folder)
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_committed_files_are_made_again(exported: Path) -> None:
    made = files(exported)
    assert made == files(COMMITTED) - {"README.md"}
    _, other, unread = filecmp.cmpfiles(exported, COMMITTED, sorted(made), shallow=False)
    assert (other, unread) == ([], [])


def test_every_golden_file_has_rows_where_servers_go_wrong(exported: Path) -> None:
    kinds = {}
    for path in (exported / "models").glob("*/1/golden.json"):
        kinds[path.parts[-3]] = set(json.loads(path.read_text(encoding="utf-8"))["kinds"])
    assert len(kinds) >= 18
    rejecting = {"sklearn_logistic_doubles"}
    assert {name for name, found in kinds.items() if "missing" not in found} == rejecting
    with_thresholds = {name for name, found in kinds.items() if "threshold" in found}
    assert len(with_thresholds) >= 12


def test_a_zipmap_is_taken_out(exported: Path) -> None:
    model = onnx.load(exported / "refused" / "catboost_zipmap" / "1" / "model.onnx")
    assert [node.op_type for node in model.graph.node] == ["TreeEnsembleClassifier", "ZipMap"]
    onnx.checker.check_model(without_zipmap(model))
    assert [node.op_type for node in model.graph.node] == ["TreeEnsembleClassifier"]
    assert [output.name for output in model.graph.output] == ["label", "probability_tensor"]
