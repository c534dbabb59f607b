"""Measures on data small enough to count by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ferrocast_training.evaluate import calibration, choose_threshold, decisions, quality, roc_auc_interval

LABELS = np.array([0, 0, 0, 1, 0, 1])
SCORES = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.6])


def test_a_score_on_the_threshold_is_positive() -> None:
    found = decisions(LABELS, SCORES, 0.3)
    assert (found["true_positives"], found["false_positives"]) == (2, 1)
    assert (found["true_negatives"], found["false_negatives"]) == (3, 0)
    assert (found["precision"], found["recall"]) == (pytest.approx(2 / 3, abs=1e-6), 1.0)
    assert (found["accuracy"], found["f1"]) == (pytest.approx(5 / 6, abs=1e-6), 0.8)


def test_dear_misses_lower_the_threshold() -> None:
    assert choose_threshold(LABELS, SCORES, missed_positive_cost=10.0) == 0.201
    assert choose_threshold(LABELS, SCORES, missed_positive_cost=0.5) == 0.401


def test_quality_of_a_perfect_ranking() -> None:
    measured = quality(np.array([0, 1]), np.array([0.25, 0.75]))
    assert measured["roc_auc"] == measured["pr_auc"] == 1.0
    assert measured["brier"] == pytest.approx(0.0625)
    assert measured["log_loss"] == pytest.approx(0.287682)


def test_the_interval_holds_the_measured_value_and_has_a_width() -> None:
    random = np.random.default_rng(1)
    labels = (random.random(400) < 0.2).astype(np.int64)
    scores = np.round(random.random(400) + 0.3 * labels, 2).astype(np.float64)
    low, high = roc_auc_interval(labels, scores, seed=3, draws=300)
    assert low < roc_auc_score(labels, scores) < high
    assert 0.03 < high - low < 0.2


def test_calibration_groups_go_from_low_to_high() -> None:
    low, high = calibration(LABELS, SCORES, groups=2)
    assert low == {"rows": 3, "mean_score": pytest.approx(0.116667), "observed_rate": 0.0}
    assert high["observed_rate"] == pytest.approx(0.666667)
