"""Everything that metrics.json says of a model, except what further evaluations add."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrocast_training.contract import Contract
from ferrocast_training.dataset import Dataset
from ferrocast_training.evaluate import (
    DIGITS,
    calibration,
    choose_threshold,
    part_report,
    quality,
    roc_auc_interval,
)
from ferrocast_training.pipeline import Trained
from ferrocast_training.settings import UseCase

Floats = NDArray[np.float64]


def measure(use_case: UseCase, dataset: Dataset, trained: Trained, scores: Floats) -> dict[str, Any]:
    """Return the measures of all parts; `scores` [rows] are of every row."""
    cost, label, parts = use_case.evaluate.missed_positive_cost, use_case.label, dataset.parts
    threshold = choose_threshold(dataset.labels[parts.validation], scores[parts.validation], cost)
    reports = {
        name: part_report(dataset.labels[rows], scores[rows], threshold) for name, rows in vars(parts).items()
    }
    test_labels, test_scores = dataset.labels[parts.test], scores[parts.test]
    base_rate = np.full(len(test_labels), dataset.labels[parts.train].mean())
    return {
        "threshold": {
            "value": threshold,
            "rule": f"lowest cost on the validation part; a missed {label.positive} costs {cost:g}, "
            f"a refused {label.negative} costs 1",
        },
        "library": trained.library_name,
        trained.library.rounds_called: trained.rounds,
        **reports,
        "test_roc_auc_95": roc_auc_interval(test_labels, test_scores, use_case.export.seed),
        "test_calibration": calibration(test_labels, test_scores),
        "test_baseline_constant_rate": quality(test_labels, base_rate),
    }


def importance(values: Floats, contract: Contract) -> list[dict[str, Any]]:
    """Return the mean absolute SHAP value of each input, of `values` [rows, inputs], greatest first."""
    means = np.abs(values).mean(axis=0)
    order = np.argsort(-means, kind="stable")
    names = [each.name for each in contract.inputs]
    return [{"input": names[n], "mean_abs_shap": round(float(means[n]), DIGITS)} for n in order]
