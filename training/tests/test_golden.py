"""The committed golden rows cover what a server may get wrong, and can tell when it does."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ferrocast_training.contract import Contract, Input
from ferrocast_training.golden import UNSEEN, spread, values_at
from ferrocast_training.tensors import frame_of_values

from .conftest import COMMITTED, Fitted


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((COMMITTED / "1" / "golden.json").read_text(encoding="utf-8"))
    return content


def rows_of(golden: dict[str, Any], kind: str) -> list[list[Any]]:
    return [row for row, its_kind in zip(golden["rows"], golden["kinds"], strict=True) if its_kind == kind]


def test_every_kind_is_there(golden: dict[str, Any]) -> None:
    counts = Counter(golden["kinds"])
    assert set(counts) == {"sample", "missing", "unseen", "threshold"}
    assert min(counts.values()) >= 20
    assert len(golden["rows"]) == len(golden["scores"]) >= 250


def test_every_input_is_missing_alone_and_all_are_missing_together(golden: dict[str, Any]) -> None:
    gaps = [
        {name for name, value in zip(golden["inputs"], row, strict=True) if value is None}
        for row in rows_of(golden, "missing")
    ]
    assert all(any(name in gap and len(gap) <= 2 for gap in gaps) for name in golden["inputs"])
    assert set(golden["inputs"]) in gaps


def test_every_text_input_is_unseen_once(golden: dict[str, Any], contract: Contract) -> None:
    for each in contract.categorical:
        position = golden["inputs"].index(each.name)
        assert any(row[position] == UNSEEN for row in rows_of(golden, "unseen"))


def test_values_have_the_types_of_the_store(golden: dict[str, Any], contract: Contract) -> None:
    kinds = {"int64": int, "double": float, "string": str}
    for row in golden["rows"]:
        for each, value in zip(contract.inputs, row, strict=True):
            assert value is None or type(value) is kinds[each.type], (each.name, value)


def test_threshold_rows_lie_on_splits(golden: dict[str, Any], contract: Contract, fitted: Fitted) -> None:
    library = fitted.trained.library
    splits = set(library.split_points(fitted.trained.estimator, len(contract.numeric)))
    on_a_split = 0
    for row in rows_of(golden, "threshold"):
        values = dict(zip(golden["inputs"], row, strict=True))
        on_a_split += any(
            (column, np.float32(values[each.name])) in splits
            for column, each in enumerate(contract.numeric)
            if values[each.name] is not None and each.type == "double"
        )
    assert on_a_split >= 20


def test_a_server_that_takes_the_wrong_side_of_a_split_is_caught(
    golden: dict[str, Any], contract: Contract, fitted: Fitted
) -> None:
    """Nudging every number one float32 down, as `<=` instead of `<` would, must change golden scores."""
    rows = rows_of(golden, "threshold")
    expected = [
        score for score, kind in zip(golden["scores"], golden["kinds"], strict=True) if kind == "threshold"
    ]
    frame = frame_of_values(rows, contract)
    nudged = frame.copy()
    for column in range(len(contract.numeric)):
        values = frame.iloc[:, column].to_numpy()
        nudged.isetitem(column, np.nextafter(values, np.float32(-np.inf)))
    assert np.max(np.abs(fitted.trained.scores(frame) - expected)) < 1e-5
    assert np.sum(np.abs(fitted.trained.scores(nudged) - expected) > 1e-5) >= 20


@pytest.mark.parametrize("side", [-1, 1])
def test_values_at_a_split_follow_the_type_and_the_side(side: int) -> None:
    def values(kind: str, threshold: float) -> list[int | float]:
        at = np.float32(threshold)
        return values_at(Input("n", "v", kind), at, np.nextafter(at, np.float32(side * np.inf)))

    assert values("int64", 3.0) == [3, 3 + side]
    assert values("int64", 2.5) == []
    at, beyond, rounding = values("double", 0.1)
    assert np.float32(at) == np.float32(0.1) != np.float32(beyond)
    assert (beyond - at) * side > 0
    assert (rounding - at) * side > 0 and np.float32(rounding) == np.float32(0.1)


def test_spread_takes_first_and_last() -> None:
    assert spread(10, 4).tolist() == [0, 3, 6, 9]
    assert spread(3, 10).tolist() == [0, 1, 2]


def test_missing_text_and_missing_number_reach_the_tensors(contract: Contract) -> None:
    frame = frame_of_values([[None] * len(contract.inputs)], contract)
    assert frame.iloc[:, : len(contract.numeric)].isna().all(axis=None)
    assert (frame.iloc[:, len(contract.numeric) :] == "").all(axis=None)
    assert pd.api.types.is_float_dtype(frame.dtypes.iloc[0]) and frame.dtypes.iloc[0] == np.float32
