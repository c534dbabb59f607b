"""The model card: what a model is for, what it was trained on, and how good it is, in Markdown."""

import json
from pathlib import Path
from typing import Any

from ferrocast_training.contract import read_description
from ferrocast_training.evaluations import Evaluated, Extra
from ferrocast_training.templating import render

SHOWN_INPUTS = 10


def model_card(
    evaluated: Evaluated,
    metrics: dict[str, Any],
    extras: dict[str, Extra],
    plots: list[str],
    prepared: Path,
) -> str:
    """Return the card.

    `plots` are the names of the files in plots/, `prepared` is the folder of the prepare step.
    """
    report = json.loads((prepared / "report.json").read_text(encoding="utf-8"))
    return render(
        "model_card.md.j2",
        use_case=evaluated.use_case,
        description=evaluated.use_case.description or read_description(evaluated.contract),
        metrics=metrics,
        extras=extras,
        plots=plots,
        report=report,
        touched={
            name: found for name, found in report["columns"].items() if found["sentinels"] or found["invalid"]
        },
        inputs=evaluated.contract.inputs,
        shown=metrics["test_importance"][:SHOWN_INPUTS],
        rounds=f"{evaluated.trained.rounds} {evaluated.trained.library.rounds_called}",
    )
