"""What a derivation is: from raw files to rows, for what a declaration cannot say."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ferrocast_training.errors import DataError
from ferrocast_training.source import Raw


@dataclass(frozen=True)
class Derived:
    """What raw data becomes.

    `rows` have a label each; `[schema]`, `[rows]` and `[label]` speak of their columns. `views` are the rows
    of feature views that are not of these rows one by one, with join keys, times and features as columns:
    all items of a shop, a day of a stock whose next day is not known yet. Those named in `daily` have rows of
    each day that the calendar of their TTL does not have off, and of no other.
    """

    rows: pd.DataFrame
    views: dict[str, pd.DataFrame] = field(default_factory=dict)
    daily: frozenset[str] = frozenset()


Derivation = Callable[[Raw, Mapping[str, Any]], Derived]


def numbers(frame: pd.DataFrame, names: Iterable[str], where: str) -> pd.DataFrame:
    """Return `frame` with the columns `names`, which come as text, as numbers; what is none is refused."""
    copy = frame.copy()
    for name in names:
        if name not in copy.columns:
            raise DataError(
                f"{where}: column {name} is missing; there are {', '.join(map(str, copy.columns))}"
            )
        found = pd.to_numeric(copy[name], errors="coerce")
        if found.isna().any():
            row = int(found.isna().to_numpy().argmax())
            raise DataError(f"{where}: column {name} is no number in row {row + 1}: {copy[name].iloc[row]!r}")
        copy[name] = found
    return copy
