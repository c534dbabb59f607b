"""The three parts: sizes, shares of positives, nothing twice, the same each time; or one after the other."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from ferrocast_training.errors import DataError
from ferrocast_training.settings import Split
from ferrocast_training.split import Parts, split_rows

SETTINGS = Split(train=0.6, validation=0.2, seed=5)
LABELS = np.array(([1] + [0] * 19) * 50)
# Newest first, two rows a day.
TIMES = pd.Series(pd.Timestamp("2020-01-01T00:00:00Z") - pd.to_timedelta(np.arange(1000) // 2, unit="D"))


def test_sizes() -> None:
    parts = split_rows(LABELS, TIMES, SETTINGS)
    assert [len(part) for part in vars(parts).values()] == [600, 200, 200]


@pytest.mark.parametrize("by", ["stratified", "time"])
def test_every_row_is_in_exactly_one_part(by: str) -> None:
    parts = split_rows(LABELS, TIMES, Split(by=by, train=0.7, validation=0.15))  # type: ignore[arg-type]
    assert sorted(np.concatenate(list(vars(parts).values()))) == list(range(1000))
    again = Parts.of_names(pd.Series(parts.names()))
    assert all(
        np.array_equal(one, other)
        for one, other in zip(vars(parts).values(), vars(again).values(), strict=True)
    )


def test_every_part_has_the_same_share_of_positives() -> None:
    for part in vars(split_rows(LABELS, TIMES, SETTINGS)).values():
        assert LABELS[part].mean() == pytest.approx(0.05)


def test_the_seed_decides() -> None:
    first, second = split_rows(LABELS, TIMES, SETTINGS), split_rows(LABELS, TIMES, SETTINGS)
    other = split_rows(LABELS, TIMES, Split(train=0.6, validation=0.2, seed=6))
    assert np.array_equal(first.test, second.test)
    assert not np.array_equal(first.test, other.test)


def test_by_time_the_oldest_rows_train_and_no_moment_is_in_two_parts() -> None:
    parts = split_rows(LABELS, TIMES, Split(by="time", train=0.7, validation=0.15))
    assert [len(part) for part in vars(parts).values()] == [700, 150, 150]
    assert TIMES[parts.train].max() < TIMES[parts.validation].min()
    assert TIMES[parts.validation].max() < TIMES[parts.test].min()


def test_by_points_in_time() -> None:
    borders = {
        "validation_from": datetime(2019, 6, 1, tzinfo=UTC),
        "test_from": datetime(2019, 9, 1, tzinfo=UTC),
    }
    parts = split_rows(LABELS, TIMES, Split(by="time", **borders))  # type: ignore[arg-type]
    assert TIMES[parts.validation].min() == pd.Timestamp("2019-06-01T00:00:00Z")
    assert TIMES[parts.test].min() == pd.Timestamp("2019-09-01T00:00:00Z")
    assert TIMES[parts.train].max() == pd.Timestamp("2019-05-31T00:00:00Z")


def test_a_part_without_one_of_the_classes_is_refused() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    with pytest.raises(DataError, match="the validation part has 0 positive and 200 other rows"):
        split_rows(labels, TIMES, Split(by="time", train=0.6, validation=0.2))


def test_too_few_positives_are_refused() -> None:
    with pytest.raises(DataError, match="at least 10 rows of each class"):
        split_rows(np.array([1] * 9 + [0] * 100), TIMES[:109], SETTINGS)
