"""Training, validation and test part: with the same share of positives in each, or one after the other."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from ferrocast_training.errors import DataError
from ferrocast_training.settings import Split

Indices = NDArray[np.int64]
PARTS = ("train", "validation", "test")
CLASS_ROWS_MIN = 10


@dataclass(frozen=True)
class Parts:
    """Row numbers of each part, ascending."""

    train: Indices
    validation: Indices
    test: Indices

    def names(self) -> NDArray[np.object_]:
        """Return the part of every row, by name."""
        names = np.empty(sum(len(rows) for rows in vars(self).values()), dtype=object)
        for part, rows in vars(self).items():
            names[rows] = part
        return names

    @staticmethod
    def of_names(names: "pd.Series[str]") -> "Parts":
        """Read the parts back from a column of their names."""
        return Parts(*(np.flatnonzero((names == part).to_numpy()) for part in PARTS))


def split_rows(labels: NDArray[np.int64], times: "pd.Series[pd.Timestamp]", settings: Split) -> Parts:
    """Cut the rows of `labels` [rows], which are of `times` [rows], into three disjoint parts."""
    parts = _by_time(times, settings) if settings.by == "time" else _stratified(labels, settings)
    for name, rows in vars(parts).items():
        counts = np.bincount(labels[rows], minlength=2)
        if counts.min() == 0:
            raise DataError(
                f"labels: the {name} part has {counts[1]} positive and {counts[0]} other rows: [split]"
            )
    return parts


def _stratified(labels: NDArray[np.int64], settings: Split) -> Parts:
    if min(np.bincount(labels, minlength=2)) < CLASS_ROWS_MIN:
        raise DataError(f"labels: a stratified split needs at least {CLASS_ROWS_MIN} rows of each class")
    everyone = np.arange(len(labels))
    train, rest = train_test_split(
        everyone, train_size=settings.train, stratify=labels, random_state=settings.seed
    )
    share = settings.validation / (1 - settings.train)
    validation, test = train_test_split(
        rest, train_size=share, stratify=labels[rest], random_state=settings.seed
    )
    return Parts(np.sort(train), np.sort(validation), np.sort(test))


def _by_time(times: "pd.Series[pd.Timestamp]", settings: Split) -> Parts:
    """Rows of the same moment stay together, so parts may be a little off their shares."""
    if settings.validation_from and settings.test_from:
        validation_from, test_from = pd.Timestamp(settings.validation_from), pd.Timestamp(settings.test_from)
    else:
        ordered = times.sort_values(ignore_index=True)
        validation_from = ordered[int(len(ordered) * settings.train)]
        test_from = ordered[int(len(ordered) * (settings.train + settings.validation))]
    trains, tests = (times < validation_from).to_numpy(), (times >= test_from).to_numpy()
    return Parts(np.flatnonzero(trains), np.flatnonzero(~trains & ~tests), np.flatnonzero(tests))
