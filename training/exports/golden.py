"""Golden rows: rows with the library's own predictions, chosen where a server is likely to go wrong."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = list[Any]
# Rows to [rows, columns], by the library that trained the model.
Predict = Callable[[list[Row]], NDArray[np.float64]]
UNSEEN = "never_seen_in_training"
SAMPLES = 16
THRESHOLDS = 8
# A row is on a threshold where its side moves the prediction by more than this.
MOVES = 1e-3


@dataclass(frozen=True)
class Threshold:
    """A split of a tree: which input, and values on it and on either side of it."""

    position: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class Golden:
    """The content of a golden.json; `outputs` [rows, columns]."""

    rows: list[Row]
    kinds: list[str]
    outputs: NDArray[np.float64]
    scores: NDArray[np.float64]
    # The library's own SHAP values of some rows, of the first output: positions, base value, [rows, inputs].
    explained: tuple[list[int], float, NDArray[np.float64]] | None = None

    def text(self, inputs: list[str]) -> str:
        """Return the file, a row a line."""
        document: dict[str, Any] = {"inputs": inputs, "rows": self.rows, "scores": self.scores.tolist()}
        if self.outputs.shape[1] > 1:
            document["outputs"] = self.outputs.tolist()
        document["kinds"] = self.kinds
        if self.explained is not None:
            rows, base, contributions = self.explained
            document["explained"] = {
                "rows": rows,
                "base_value": base,
                "contributions": contributions.tolist(),
            }
        parts = [f"{json.dumps(key)}: {_value(key, value)}" for key, value in document.items()]
        return "{\n" + ",\n".join(parts) + "\n}\n"


def _value(key: str, value: Any) -> str:
    if key not in ("rows", "outputs"):
        return json.dumps(value)
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in value]
    return "[\n" + ",\n".join(lines) + "\n]"


def build(
    samples: list[Row],
    predict: Predict,
    positive: int | None,
    *,
    missing: Sequence[int],
    texts: Sequence[int] = (),
    thresholds: Sequence[Threshold] = (),
) -> Golden:
    """Choose rows and let the library predict them.

    `missing` and `texts` are the positions of inputs that can be missing, and that are texts. The score is
    the output at `positive`, or the largest where that is None.
    """
    chosen = spread(samples, SAMPLES)
    groups = {
        "sample": chosen,
        "missing": _missing(chosen, missing),
        "unseen": _unseen(chosen, texts),
        "threshold": _on_thresholds(samples[:200], predict, thresholds),
    }
    rows = [row for group in groups.values() for row in group]
    outputs = predict(rows)
    scores = outputs.max(axis=1) if positive is None else outputs[:, positive]
    return Golden(rows, [kind for kind, group in groups.items() for _ in group], outputs, scores)


def spread(rows: list[Row], count: int) -> list[Row]:
    """Return `count` rows, evenly spread over all."""
    return [rows[int(at)] for at in np.linspace(0, len(rows) - 1, count)]


def sides(threshold: float, *, single: bool) -> tuple[float, ...]:
    """Return a threshold and the numbers next to it, of 32 or of 64 bits."""
    kind = np.float32 if single else np.float64
    at = kind(threshold)
    return tuple(
        float(value) for value in (np.nextafter(at, kind(-np.inf)), at, np.nextafter(at, kind(np.inf)))
    )


def _missing(rows: list[Row], positions: Sequence[int]) -> list[Row]:
    """Each input missing alone, then all of them."""
    if not positions:
        return []
    groups = [{position} for position in positions] + [set(positions)]
    return [
        [None if at in gone else value for at, value in enumerate(rows[turn % len(rows)])]
        for turn, gone in enumerate(groups)
    ]


def _unseen(rows: list[Row], positions: Sequence[int]) -> list[Row]:
    """Each text with a value that training did not have."""
    return [
        [UNSEEN if at == position else value for at, value in enumerate(rows[turn % len(rows)])]
        for turn, position in enumerate(positions)
    ]


def _on_thresholds(samples: list[Row], predict: Predict, thresholds: Sequence[Threshold]) -> list[Row]:
    """Rows on a threshold and beside it, whose prediction hangs on the side that they fall on."""
    found: list[Row] = []
    order = np.random.default_rng(0).permutation(len(thresholds))
    for turn, number in enumerate(order):
        threshold = thresholds[number]
        variants = [[_with(row, threshold.position, value) for row in samples] for value in threshold.values]
        predictions = [predict(rows) for rows in variants]
        moved = np.abs(predictions[0] - predictions[-1]).max(axis=1) > MOVES
        decided = np.flatnonzero(moved)
        if len(decided):
            row = int(decided[turn % len(decided)])
            found += [rows[row] for rows in variants]
        if len(found) >= THRESHOLDS * len(threshold.values):
            break
    return found


def _with(row: Row, position: int, value: Any) -> Row:
    return [*row[:position], value, *row[position + 1 :]]
