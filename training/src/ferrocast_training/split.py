"""Training, validation and test part: fixed by a seed, with the same share of positives in each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from ferrocast_training.errors import DataError
from ferrocast_training.settings import Split

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """Row numbers of each part, ascending."""

    train: Indices
    validation: Indices
    test: Indices


def split_rows(labels: NDArray[np.int64], settings: Split) -> Parts:
    """Cut the rows of `labels` [rows] into three disjoint stratified parts."""
    if min(np.bincount(labels, minlength=2)) < 10:
        raise DataError("labels: a stratified split needs at least ten rows of each class")
    everyone = np.arange(len(labels))
    train, rest = train_test_split(
        everyone, train_size=settings.train, stratify=labels, random_state=settings.seed
    )
    share = settings.validation / (1 - settings.train)
    validation, test = train_test_split(
        rest, train_size=share, stratify=labels[rest], random_state=settings.seed
    )
    return Parts(np.sort(train), np.sort(validation), np.sort(test))
