"""The plots of an evaluation, as figures; `save` writes one the same byte for byte each time."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]

BLUE, RED, GREY = "#2b6cb0", "#c05621", "#718096"
SHOWN_INPUTS = 15
COSTS = np.round(np.arange(0.001, 1.0, 0.001), 3)


def figure(title: str, x: str, y: str) -> tuple[Figure, Any]:
    """Return an empty figure in the common form, and its axes."""
    made = Figure(figsize=(5.2, 4.0), dpi=100, layout="constrained")
    axes = made.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return made, axes


def save(made: Figure, path: Path) -> None:
    """Write a PNG without the name of the program that made it."""
    FigureCanvasAgg(made).print_png(  # type: ignore[no-untyped-call]
        path, metadata={"Software": None}
    )


def roc(labels: Labels, scores: Floats, auc: float) -> Figure:
    """Ranking: how many positives are caught for how many negatives flagged."""
    made, axes = figure(
        f"ROC, test part: area {auc:.3f}", "negatives flagged, share", "positives caught, share"
    )
    flagged, caught, _ = roc_curve(labels, scores)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    axes.plot(flagged, caught, color=BLUE)
    return made


def precision_recall(labels: Labels, scores: Floats, auc: float) -> Figure:
    """Ranking of a rare class: precision by recall."""
    made, axes = figure(f"Precision and recall, test part: area {auc:.3f}", "recall", "precision")
    precision, recall, _ = precision_recall_curve(labels, scores)
    axes.axhline(labels.mean(), color=GREY, linestyle=":", linewidth=1)
    axes.step(recall, precision, where="post", color=BLUE)
    axes.set_ylim(0, 1.02)
    return made


def calibrated(groups: list[dict[str, float]]) -> Figure:
    """Honesty: mean score against the observed rate, in groups of equal size."""
    made, axes = figure("Calibration, test part", "mean score", "observed rate")
    scores, rates = ([group[key] for group in groups] for key in ("mean_score", "observed_rate"))
    top = max(*scores, *rates) * 1.1
    axes.plot([0, top], [0, top], color=GREY, linestyle=":", linewidth=1)
    axes.plot(scores, rates, color=BLUE, marker="o")
    return made


def confusion(decided: dict[str, Any], negative: str, positive: str) -> Figure:
    """Right and wrong decisions at the threshold."""
    made, axes = figure("Decisions at the threshold, test part", "decided", "was")
    counts = np.array(
        [
            [decided["true_negatives"], decided["false_positives"]],
            [decided["false_negatives"], decided["true_positives"]],
        ]
    )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        dark = shares[row, column] > 0.5
        text = f"{count:,}\n{shares[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks([0, 1], [negative, positive])
    axes.set_yticks([0, 1], [negative, positive])
    return made


def cost_curve(labels: Labels, scores: Floats, cost: float, threshold: float) -> Figure:
    """Where the threshold comes from: the cost of every one on the validation part."""
    made, axes = figure("Cost by threshold, validation part", "threshold", "cost a row")
    positive, negative = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    missed = np.searchsorted(positive, COSTS, side="left")
    refused = len(negative) - np.searchsorted(negative, COSTS, side="left")
    axes.plot(COSTS, (missed * cost + refused) / len(labels), color=BLUE)
    axes.axvline(threshold, color=RED, linestyle="--", linewidth=1)
    return made


def score_distribution(labels: Labels, scores: Floats, negative: str, positive: str) -> Figure:
    """How the scores of both classes lie."""
    made, axes = figure("Scores, test part", "score", "share of the class")
    edges = np.linspace(0, float(scores.max()) or 1.0, 31).tolist()
    for value, name, color in ((0, negative, BLUE), (1, positive, RED)):
        chosen = scores[labels == value]
        axes.hist(
            chosen,
            bins=edges,
            weights=np.full(len(chosen), 1 / len(chosen)),
            alpha=0.6,
            color=color,
            label=name,
        )
    axes.legend(frameon=False)
    return made


def importances(inputs: list[dict[str, Any]]) -> Figure:
    """What moves the scores: mean absolute SHAP value of each input."""
    made, axes = figure("What moves the score, test part", "mean |SHAP value|, log-odds", "")
    shown = inputs[:SHOWN_INPUTS][::-1]
    axes.barh([each["input"] for each in shown], [each["mean_abs_shap"] for each in shown], color=BLUE)
    return made
