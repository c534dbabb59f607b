"""What another way of choosing would have earned, from a log of what was shown, how probably, and clicked.

Inverse-propensity weighting (Horvitz and Thompson, A Generalization of Sampling Without Replacement from a
Finite Universe, 1952) and its self-normalised form (Swaminathan and Joachims, The Self-Normalized Estimator
for Counterfactual Learning, 2015).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrocast_training.errors import DataError
from ferrocast_training.evaluations.intervals import bootstrap_interval

DIGITS = 6

Estimate = Callable[[NDArray[np.int64], NDArray[np.float64]], float]  # clicks, weights -> clicks a row


def weights(follows: NDArray[np.bool_], propensities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weight of each row: 1 / propensity where the policy would have shown the same, else 0."""
    strange = ~((propensities > 0) & (propensities <= 1))
    if strange.any():
        row = int(strange.argmax())
        raise DataError(f"the log: row {row}: a propensity of {propensities[row]:g} is not between 0 and 1")
    return np.where(follows, 1 / propensities, 0.0)


def ipw(clicks: NDArray[np.int64], weight: NDArray[np.float64]) -> float:
    """Return the inverse-propensity estimate of the clicks a row: unbiased, and above 1 at its worst."""
    return float((weight * clicks).mean())


def self_normalised(clicks: NDArray[np.int64], weight: NDArray[np.float64]) -> float:
    """Return the self-normalised estimate, 0 to 1; NaN where the policy shares no row with the log."""
    total = weight.sum()
    return float((weight * clicks).sum() / total) if total > 0 else float("nan")


def effective_rows(weight: NDArray[np.float64]) -> float:
    """Return of how many equally weighted rows the estimate is worth (Kish's effective sample size)."""
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


ESTIMATES: dict[str, Estimate] = {"ipw": ipw, "self_normalised": self_normalised}


def click_rate(
    clicks: NDArray[np.int64],
    propensities: NDArray[np.float64],
    follows: NDArray[np.bool_],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Report both estimates of a policy's click rate with their 95 % intervals.

    `clicks` [rows] 0 or 1; `propensities` [rows] of what was shown; `follows` [rows]: whether the policy
    would have shown just that.
    """
    weight = weights(follows, propensities)
    report: dict[str, Any] = {
        "rows": len(clicks),
        "rows_shared": int(follows.sum()),
        "clicks_shared": int(clicks[follows].sum()),
        "effective_rows": round(effective_rows(weight), 1),
    }
    for name, estimate in ESTIMATES.items():
        value = estimate(clicks, weight)
        interval = _interval(clicks, weight, estimate, resamples, seed)
        report[name] = round(value, DIGITS) if np.isfinite(value) else None
        report[f"{name}_95"] = [round(bound, DIGITS) for bound in interval] if interval else None
    return report


def _interval(
    clicks: NDArray[np.int64],
    weight: NDArray[np.float64],
    estimate: Estimate,
    resamples: int,
    seed: int,
) -> tuple[float, float] | None:
    """Return the bootstrap interval over the log's rows; without a shared click, up to 3 / effective rows.

    A resample of rows without a click has none either, and would make a rate of zero certain. The rule of
    three: Hanley and Lippman-Hand, If Nothing Goes Wrong, Is Everything All Right? (1983).
    """
    if not (weight > 0).any():
        return None
    if not clicks[weight > 0].any():
        return 0.0, min(1.0, 3 / effective_rows(weight))
    return bootstrap_interval(
        lambda taken: estimate(clicks[taken], weight[taken]),
        np.arange(len(clicks)),
        resamples=resamples,
        seed=seed,
    )
