"""Training again gives the committed files, byte for byte."""

import hashlib
import json

import pytest

from ferrocast_training.steps.step import Context

from .conftest import COMMITTED

PLOTS = ("calibration", "confusion", "cost", "importance", "precision_recall", "roc", "scores")
WRITTEN = [
    "data/applicant.parquet",
    "data/loan_terms.csv",
    "data/labels.csv",
    "data/expected_scores.csv",
    "1/MODEL_CARD.md",
    "1/model.onnx",
    "1/golden.json",
    "1/metrics.json",
    "1/signature.json",
    "1/trees.json",
    *(f"1/plots/{name}.png" for name in PLOTS),
]


@pytest.mark.parametrize("name", WRITTEN)
def test_retraining_gives_the_committed_file(retrained: Context, name: str) -> None:
    again, committed = ((folder / name).read_bytes() for folder in (retrained.contract.folder, COMMITTED))
    assert hashlib.sha256(again).hexdigest() == hashlib.sha256(committed).hexdigest()


def test_the_list_of_written_files_is_complete(retrained: Context) -> None:
    folder = retrained.contract.folder
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert made == {"features.toml", "model.toml", *WRITTEN}


def test_the_signature_names_the_digest_of_the_graph() -> None:
    signature = json.loads((COMMITTED / "1" / "signature.json").read_text(encoding="utf-8"))
    assert signature["sha256"] == hashlib.sha256((COMMITTED / "1" / "model.onnx").read_bytes()).hexdigest()
