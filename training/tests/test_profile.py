"""Profiles: bins of about the same share, which lose nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ferrocast_training.contract import Contract, Input
from ferrocast_training.profile import profiles


def _profile(values: Sequence[float | str | None], kind: str) -> dict[str, Any]:
    contract = Contract(Path(), {}, [Input("x", "view", kind)])
    return profiles(pd.DataFrame({"x": pd.Series(list(values), dtype=object)}), contract)["x"]


def test_numbers_fall_into_ten_bins_of_the_same_share() -> None:
    profile = _profile([float(number) for number in range(1_000)] + [float("nan")] * 250, "double")
    assert profile["missing_share"] == pytest.approx(0.2)
    assert len(profile["edges"]) == 9
    assert profile["shares"] == pytest.approx([0.1] * 10, abs=0.002)


def test_bins_of_many_equal_numbers_hold_every_value_once() -> None:
    generator = np.random.default_rng(7)
    for values in ([0.0] * 99 + [5.0], [1.0] * 10, generator.poisson(0.3, 500).astype(float).tolist()):
        profile = _profile(values, "int64")
        edges, shares = profile["edges"], profile["shares"]
        assert edges == sorted(set(edges)) and len(shares) == len(edges) + 1
        assert sum(shares) == pytest.approx(1.0)
        assert all(share > 0.0 for share in shares)


def test_texts_have_a_bin_each_and_one_for_the_rest() -> None:
    profile = _profile(["b", "a", "b", None], "string")
    assert profile["texts"] == ["b", "a"]
    assert profile["shares"] == pytest.approx([2 / 3, 1 / 3, 0.0])
    many = _profile([f"{number:03}" for number in range(150)], "string")
    assert len(many["texts"]) == 100
    assert many["shares"][-1] == pytest.approx(50 / 150)


def test_nothing_but_missing_values_is_one_empty_bin() -> None:
    assert _profile([float("nan")], "double") == {"missing_share": 1.0, "edges": [], "shares": [1.0]}
