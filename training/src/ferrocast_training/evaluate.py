"""How good the scores are: ranking, honesty of the probabilities, and what the threshold does."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    roc_auc_score,
)

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]
DIGITS = 6


def quality(labels: Labels, scores: Scores) -> dict[str, float]:
    """Measure `scores` [rows] against `labels` [rows] without any threshold."""
    measured = {
        "roc_auc": roc_auc_score(labels, scores),
        "pr_auc": average_precision_score(labels, scores),
        "log_loss": log_loss(labels, scores),
        "brier": brier_score_loss(labels, scores),
    }
    return {name: round(float(value), DIGITS) for name, value in measured.items()}


def part_report(labels: Labels, scores: Scores, threshold: float) -> dict[str, Any]:
    """Describe one part of the data: its size, the scores' quality, and the decisions at `threshold`."""
    return {
        "rows": len(labels),
        "positives": int(labels.sum()),
        "positive_rate": round(float(labels.mean()), DIGITS),
        "mean_score": round(float(scores.mean()), DIGITS),
        **quality(labels, scores),
        "at_threshold": decisions(labels, scores, threshold),
    }


def decisions(labels: Labels, scores: Scores, threshold: float) -> dict[str, Any]:
    """Count right and wrong decisions when a score of `threshold` or more means the positive class."""
    matrix = confusion_matrix(labels, scores >= threshold, labels=[0, 1])
    true_negatives, false_positives, false_negatives, true_positives = (int(n) for n in matrix.ravel())
    flagged = true_positives + false_positives
    return {
        "true_negatives": true_negatives,
        "false_positives": false_positives,
        "false_negatives": false_negatives,
        "true_positives": true_positives,
        "accuracy": round((true_positives + true_negatives) / len(labels), DIGITS),
        "precision": round(true_positives / flagged, DIGITS) if flagged else None,
        "recall": round(true_positives / (true_positives + false_negatives), DIGITS),
        "f1": round(2 * true_positives / (flagged + true_positives + false_negatives), DIGITS),
    }


def choose_threshold(labels: Labels, scores: Scores, missed_positive_cost: float) -> float:
    """Return the threshold of the lowest cost, where refusing a negative costs 1; the lowest one of several.

    Candidates are steps of 0.001, so that the threshold does not hang on one row's last digit.
    """
    candidates = np.round(np.arange(0.001, 1.0, 0.001), 3)
    positive, negative = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    missed = np.searchsorted(positive, candidates, side="left")
    refused = len(negative) - np.searchsorted(negative, candidates, side="left")
    return float(candidates[np.argmin(missed * missed_positive_cost + refused)])


def roc_auc_interval(labels: Labels, scores: Scores, seed: int, draws: int = 1000) -> list[float]:
    """Return the 95 % bootstrap interval of the ROC-AUC: with few positives it is wide."""
    random = np.random.default_rng(seed)
    positive, negative = scores[labels == 1], scores[labels == 0]
    values = [
        _auc(random.choice(positive, len(positive)), random.choice(negative, len(negative)))
        for _ in range(draws)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    return [round(float(low), 4), round(float(high), 4)]


def _auc(positive: Scores, negative: Scores) -> float:
    """Return the share of pairs in which the positive scores higher; equal scores count half."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    not_above = np.searchsorted(ordered, positive, side="right")
    return float((below + not_above).sum() / (2 * len(positive) * len(negative)))


def calibration(labels: Labels, scores: Scores, groups: int = 5) -> list[dict[str, float]]:
    """Compare mean score and observed rate in `groups` groups of equal size, lowest scores first."""
    order = np.argsort(scores, kind="stable")
    return [
        {
            "rows": len(group),
            "mean_score": round(float(scores[group].mean()), DIGITS),
            "observed_rate": round(float(labels[group].mean()), DIGITS),
        }
        for group in np.array_split(order, groups)
    ]
