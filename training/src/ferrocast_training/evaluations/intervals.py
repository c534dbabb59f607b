"""How far a measured number may be off: percentile bootstrap intervals over rows that belong together."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Labels = NDArray[np.int64]
Scores = NDArray[np.float64]
LEVEL = 0.95
# Resamples in which the measure is not defined (a ranking of one class) are left out; where fewer are left
# than this share, there is no interval.
DEFINED_SHARE_MIN = 0.9


def bootstrap_interval(
    measure: Callable[[Rows], float], groups: NDArray[Any], *, resamples: int, seed: int
) -> tuple[float, float] | None:
    """Return the 95 % interval of `measure`, a function of row numbers; None where it is seldom defined.

    `groups` [rows] says which rows belong together and are drawn as one: the stocks of one day move together,
    and are not independent witnesses.
    """
    draw = _drawing(groups)
    chosen = np.random.default_rng(seed)
    measured = np.array([measure(draw(chosen)) for _ in range(resamples)])
    defined = measured[np.isfinite(measured)]
    if len(defined) < DEFINED_SHARE_MIN * resamples:
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def auc(labels: Labels, scores: Scores) -> float:
    """Return the ROC-AUC, or NaN where all labels are alike; by ranks, for thousands of resamples.

    Mann and Whitney, On a Test of Whether one of Two Random Variables is Stochastically Larger than the
    Other (1947): the share of pairs of both classes that are in the right order, equal scores counted half.
    """
    positives = int(labels.sum())
    pairs = positives * (len(labels) - positives)
    if pairs == 0:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float(ranks[labels == 1].sum() - positives * (positives + 1) / 2) / pairs


def _drawing(groups: NDArray[Any]) -> Callable[[np.random.Generator], Rows]:
    """Return what draws as many groups as there are, with replacement, as the numbers of their rows."""
    names, group_of = np.unique(groups, return_inverse=True)
    by_group = np.argsort(group_of, kind="stable")
    sizes = np.bincount(group_of)
    firsts = np.cumsum(sizes) - sizes

    def draw(chosen: np.random.Generator) -> Rows:
        drawn = chosen.integers(0, len(names), len(names))
        if len(names) == len(groups):  # every row by itself: the same, sooner
            alone: Rows = by_group[drawn]
            return alone
        taken = sizes[drawn]
        within = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
        rows: Rows = by_group[np.repeat(firsts[drawn], taken) + within]
        return rows

    return draw
