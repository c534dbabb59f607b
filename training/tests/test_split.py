"""The three parts: sizes, shares of positives, nothing twice, the same each time."""

import numpy as np
import pytest

from ferrocast_training.errors import DataError
from ferrocast_training.settings import Split
from ferrocast_training.split import split_rows

SETTINGS = Split(train=0.6, validation=0.2, seed=5)
LABELS = np.array(([1] + [0] * 19) * 50)


def test_sizes() -> None:
    parts = split_rows(LABELS, SETTINGS)
    assert [len(part) for part in vars(parts).values()] == [600, 200, 200]


def test_every_row_is_in_exactly_one_part() -> None:
    parts = split_rows(LABELS, SETTINGS)
    assert sorted(np.concatenate(list(vars(parts).values()))) == list(range(1000))


def test_every_part_has_the_same_share_of_positives() -> None:
    for part in vars(split_rows(LABELS, SETTINGS)).values():
        assert LABELS[part].mean() == pytest.approx(0.05)


def test_the_seed_decides() -> None:
    first, second = split_rows(LABELS, SETTINGS), split_rows(LABELS, SETTINGS)
    other = split_rows(LABELS, Split(train=0.6, validation=0.2, seed=6))
    assert np.array_equal(first.test, second.test)
    assert not np.array_equal(first.test, other.test)


def test_too_few_positives_are_refused() -> None:
    with pytest.raises(DataError, match="at least ten rows of each class"):
        split_rows(np.array([1] * 9 + [0] * 100), SETTINGS)
