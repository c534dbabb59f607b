"""All steps of a use case in a row: prepare, split, train, evaluate, export."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ferrocast_training.compare import MASKED_SHARE, compare
from ferrocast_training.contract import load_contract
from ferrocast_training.dataset import Dataset, load_dataset
from ferrocast_training.evaluate import calibration, choose_threshold, part_report, quality, roc_auc_interval
from ferrocast_training.export import Exported, export
from ferrocast_training.pipeline import Trained, train
from ferrocast_training.prepare import prepare
from ferrocast_training.settings import UseCase, load_use_case
from ferrocast_training.split import Parts, split_rows
from ferrocast_training.tensors import model_frame

Say = Callable[[str], None]


def run_use_case(settings: Path, models: Path, *, fetch: bool = True, say: Say = print) -> Exported:
    """Train the use case of the file `settings` and write its version below `models`.

    With `fetch` off, the prepared files below `models` are used as they are.
    """
    started = time.perf_counter()
    use_case = load_use_case(settings)
    contract = load_contract(models / use_case.model)
    if fetch:
        for path in prepare(use_case, contract):
            say(f"prepare   {path.name}: {path.stat().st_size / 1e6:.2f} MB")

    dataset = load_dataset(use_case, contract)
    parts = split_rows(dataset.labels, use_case.split)
    say(
        f"split     {len(parts.train)} train, {len(parts.validation)} validation, {len(parts.test)} test rows"
    )

    frame = model_frame(dataset.features, contract)
    taken = {name: (frame.iloc[rows], dataset.labels[rows]) for name, rows in vars(parts).items()}
    trained = train(*taken["train"], taken["validation"], contract, use_case.train)
    say(
        f"train     {trained.best_iteration + 1} trees, validation log-loss {trained.validation_log_loss:.5f}"
    )

    metrics = evaluate(use_case, dataset, parts, trained, trained.scores(frame))
    metrics["comparisons"] = {
        "note": f"validation part only; masked: {MASKED_SHARE:.0%} of the numbers made missing",
        "variants": compare(taken["train"], taken["validation"], contract, use_case.train),
    }
    say(
        f"evaluate  test ROC-AUC {metrics['test']['roc_auc']:.4f}, log-loss {metrics['test']['log_loss']:.4f}"
    )

    tested, learned = dataset.features.iloc[parts.test], dataset.features.iloc[parts.train]
    exported = export(use_case, contract, dataset, tested, learned, trained, metrics)
    say(f"export    {exported.golden_rows} golden rows, largest difference {exported.worst_difference:.1e}")
    say(f"done      {exported.folder} in {time.perf_counter() - started:.1f} s, sha256 {exported.sha256}")
    return exported


def evaluate(
    use_case: UseCase, dataset: Dataset, parts: Parts, trained: Trained, scores: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Return the content of metrics.json except the comparisons; `scores` [rows] of every row."""
    cost = use_case.threshold.missed_positive_cost
    validation = parts.validation
    threshold = choose_threshold(dataset.labels[validation], scores[validation], cost)
    reports = {
        name: part_report(dataset.labels[rows], scores[rows], threshold) for name, rows in vars(parts).items()
    }
    test_labels, test_scores = dataset.labels[parts.test], scores[parts.test]
    base_rate = np.full(len(test_labels), dataset.labels[parts.train].mean())
    return {
        "threshold": {
            "value": threshold,
            "rule": f"lowest cost on the validation part; a missed {use_case.label.positive} costs {cost:g}, "
            f"a refused {use_case.label.negative} costs 1",
        },
        "best_iteration": trained.best_iteration,
        "trees": trained.best_iteration + 1,
        **reports,
        "test_roc_auc_95": roc_auc_interval(test_labels, test_scores, use_case.export.seed),
        "test_calibration": calibration(test_labels, test_scores),
        "test_baseline_constant_rate": quality(test_labels, base_rate),
    }
