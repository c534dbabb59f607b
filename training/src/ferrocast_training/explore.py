"""What a look at the training set finds: columns, balance, correlations, hints of leakage.

The test part is not looked at, except for rows that are in the training part, too.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ferrocast_training.contract import Contract, Input
from ferrocast_training.dataset import Dataset
from ferrocast_training.settings import UseCase
from ferrocast_training.split import PARTS

BINS = 24
TEXTS_MAX = 12
ROWS_MAX = 100_000  # of a larger training part, a fixed sample is looked at
PAIRS_SHOWN = 10
ONE_OF_A_KIND = 0.9

Values = pd.Series


@dataclass(frozen=True)
class Bin:
    """One bar: its share of the rows, and the share of positives in it."""

    name: str
    share: float
    positive_rate: float


@dataclass(frozen=True)
class ColumnFound:
    """What was found in one column."""

    name: str
    type: str
    missing_share: float
    distinct: int
    spread: str  # smallest, median, largest; or the commonest text
    alone_auc: float | None  # how well this column alone ranks: 0.5 not at all, 1 perfectly
    bins: list[Bin]


@dataclass(frozen=True)
class Found:
    """Everything that the report shows."""

    columns: list[ColumnFound]
    balance: list[dict[str, Any]]
    correlated: list[tuple[str, str, float]]
    hints: list[str]
    rows_looked_at: int


def look(use_case: UseCase, contract: Contract, dataset: Dataset) -> Found:
    """Look at the training set."""
    rows = _sample(dataset.parts.train, use_case.split.seed)
    watched = _sample(dataset.parts.validation, use_case.split.seed)
    columns = [_column(each, dataset, rows, watched) for each in contract.inputs]
    correlated = correlations(
        dataset.features.iloc[rows][[each.name for each in contract.numeric]], use_case.explore.correlation
    )
    balance = [_balance(name, dataset) for name in PARTS]
    return Found(columns, balance, correlated, hints(use_case, contract, dataset, columns), len(rows))


def correlations(frame: pd.DataFrame, least: float) -> list[tuple[str, str, float]]:
    """Return the pairs of numbers by their rank correlation, strongest first.

    All of `least` or more, and of the others as many as make ten.
    """
    ranks = frame.astype("Float64").corr(method="spearman").to_numpy(dtype=float, na_value=np.nan)
    names = list(frame.columns)
    pairs = [
        (names[a], names[b], round(float(ranks[a, b]), 3))
        for a in range(len(names))
        for b in range(a + 1, len(names))
        if not np.isnan(ranks[a, b])
    ]
    pairs.sort(key=lambda pair: -abs(pair[2]))
    strong = sum(abs(pair[2]) >= least for pair in pairs)
    return pairs[: max(strong, PAIRS_SHOWN)]


def hints(use_case: UseCase, contract: Contract, dataset: Dataset, columns: list[ColumnFound]) -> list[str]:
    """Return what looks as if the model could know what it will not know when it is asked."""
    found = []
    for column in columns:
        if column.alone_auc is not None and column.alone_auc >= use_case.explore.leak_auc:
            found.append(
                f"{column.name} alone ranks with ROC-AUC {column.alone_auc:.3f}: known before the outcome?"
            )
        if column.type == "string" and column.distinct > ONE_OF_A_KIND * len(dataset.parts.train):
            found.append(
                f"{column.name} is different in nearly every row: an id says nothing of the next row"
            )
        if column.distinct <= 1:
            found.append(f"{column.name} is the same in every row")
    found += _repeated_rows(dataset)
    rows = use_case.rows
    if rows.created_after_s > rows.labelled_after_s:
        late = rows.created_after_s - rows.labelled_after_s
        found.append(f"features are known (created_at) {late} s after they are looked up: [rows]")
    if use_case.split.by == "stratified" and rows.event_column:
        found.append(
            "the split is at random, so rows are tested on that are older than ones trained on: "
            '[split] by = "time" tells more of the future'
        )
    return found


def _repeated_rows(dataset: Dataset) -> list[str]:
    """Say how many rows of the other parts have the very values of a training row."""
    if not len(dataset.features.columns):
        return []
    prints = pd.util.hash_pandas_object(dataset.features, index=False).to_numpy()
    said = []
    for name in ("validation", "test"):
        rows = prints[getattr(dataset.parts, name)]
        if again := int(np.isin(rows, prints[dataset.parts.train]).sum()):
            said.append(
                f"{again:,} of {len(rows):,} rows of the {name} part have the very values of a training row"
            )
    return said


def _sample(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    if len(rows) <= ROWS_MAX:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, ROWS_MAX, replace=False))


def _balance(part: str, dataset: Dataset) -> dict[str, Any]:
    rows = getattr(dataset.parts, part)
    labels, times = dataset.labels[rows], dataset.times.iloc[rows]
    return {
        "part": part,
        "rows": len(rows),
        "positives": int(labels.sum()),
        "rate": float(labels.mean()),
        "first": times.min().strftime("%Y-%m-%d"),
        "last": times.max().strftime("%Y-%m-%d"),
    }


def _column(
    each: Input, dataset: Dataset, rows: NDArray[np.int64], watched: NDArray[np.int64]
) -> ColumnFound:
    values, labels = dataset.features[each.name].iloc[rows], dataset.labels[rows]
    others = (dataset.features[each.name].iloc[watched], dataset.labels[watched])
    known = values.dropna()
    found: dict[str, Any] = {
        "name": each.name,
        "type": each.type,
        "missing_share": float(values.isna().mean()),
        "distinct": int(known.nunique()),
    }
    if each.is_numeric:
        numbers = values.to_numpy(dtype=float, na_value=np.nan)
        low, middle, high = np.nanquantile(numbers, [0, 0.5, 1]) if len(known) else (np.nan,) * 3
        spread = f"{low:,.6g} … {middle:,.6g} … {high:,.6g}" if len(known) else ""
        auc = _auc(labels, numbers)
        return ColumnFound(**found, spread=spread, alone_auc=auc, bins=_bins(numbers, labels))
    commonest = str(known.mode().iloc[0]) if len(known) else ""
    rates = pd.Series(labels, index=values.index).groupby(values.fillna("")).mean()
    auc = _auc(others[1], others[0].fillna("").map(rates).to_numpy(dtype=float, na_value=np.nan))
    return ColumnFound(**found, spread=commonest, alone_auc=auc, bins=_text_bins(values, labels))


def _auc(labels: NDArray[np.int64], values: NDArray[np.float64]) -> float | None:
    known = ~np.isnan(values)
    if not known.any() or labels[known].min() == labels[known].max():
        return None
    auc = float(roc_auc_score(labels[known], values[known]))
    return round(max(auc, 1 - auc), 4)


def _bins(values: NDArray[np.float64], labels: NDArray[np.int64]) -> list[Bin]:
    """Cut the middle 98 % into bins of equal width; what is beyond is in the outermost ones."""
    known = ~np.isnan(values)
    if not known.any():
        return []
    low, high = np.quantile(values[known], [0.01, 0.99])
    if low == high:
        return [_bin(f"{low:.6g}", labels[known], len(values))]
    edges = np.linspace(low, high, BINS + 1)
    numbers = np.clip(np.searchsorted(edges, values[known], side="right") - 1, 0, BINS - 1)
    return [
        _bin(f"{edges[n]:.4g} to {edges[n + 1]:.4g}", labels[known][numbers == n], len(values))
        for n in range(BINS)
    ]


def _text_bins(values: Values, labels: NDArray[np.int64]) -> list[Bin]:
    counts = values.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    shown = counts.head(TEXTS_MAX).index
    bins = [
        _bin(str(word), labels[(values == word).fillna(False).to_numpy(dtype=bool)], len(values))
        for word in shown
    ]
    others = (values.notna() & ~values.isin(shown)).to_numpy()
    return [*bins, _bin("all others", labels[others], len(values))] if others.any() else bins


def _bin(name: str, labels: NDArray[np.int64], of: int) -> Bin:
    return Bin(name, len(labels) / of, float(labels.mean()) if len(labels) else 0.0)
