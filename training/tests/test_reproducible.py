"""Training again gives the committed files, byte for byte."""

import hashlib
import json
from pathlib import Path

import pytest

from .conftest import COMMITTED

WRITTEN = [
    "data/applicant.parquet",
    "data/loan_terms.csv",
    "data/labels.csv",
    "data/expected_scores.csv",
    "1/model.onnx",
    "1/golden.json",
    "1/metrics.json",
    "1/signature.json",
    "1/trees.json",
]


@pytest.mark.parametrize("name", WRITTEN)
def test_retraining_gives_the_committed_file(retrained: Path, name: str) -> None:
    again, committed = ((folder / name).read_bytes() for folder in (retrained, COMMITTED))
    assert hashlib.sha256(again).hexdigest() == hashlib.sha256(committed).hexdigest()


def test_the_list_of_written_files_is_complete(retrained: Path) -> None:
    made = {path.relative_to(retrained).as_posix() for path in retrained.rglob("*") if path.is_file()}
    assert made == {"features.toml", "model.toml", *WRITTEN}


def test_the_signature_names_the_digest_of_the_graph() -> None:
    signature = json.loads((COMMITTED / "1" / "signature.json").read_text(encoding="utf-8"))
    assert signature["sha256"] == hashlib.sha256((COMMITTED / "1" / "model.onnx").read_bytes()).hexdigest()
