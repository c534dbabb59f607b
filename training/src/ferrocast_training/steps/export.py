"""`export`: the version of the model repository, once the graph agrees with the model."""

import json
import shutil
from pathlib import Path

from ferrocast_training.export import EXPECTED_SCORES, export
from ferrocast_training.files import replaced_file, replaced_folder
from ferrocast_training.steps.evaluate import CARD, METRICS, PLOTS
from ferrocast_training.steps.step import Context, Outcome, Step
from ferrocast_training.steps.train import load_trained


def _run(context: Context, folder: Path) -> Outcome:
    use_case, evaluated = context.use_case, context.result("evaluate")
    metrics = json.loads((evaluated / METRICS).read_text(encoding="utf-8"))
    exported = export(use_case, context.contract, context.dataset(), load_trained(context), metrics, folder)
    said = f"{exported.golden_rows} golden rows, largest difference {exported.worst_difference:.1e}"
    context.terminal.say("export", said)
    shutil.copy(evaluated / CARD, folder)
    shutil.copytree(evaluated / PLOTS, folder / PLOTS)
    wrote = _place(context, folder)
    context.terminal.say("export", f"{context.version_folder}, sha256 {exported.sha256}")
    return Outcome({"sha256": exported.sha256, "golden_rows": exported.golden_rows}, wrote)


def _place(context: Context, folder: Path) -> list[Path]:
    """Copy the version into the model repository, where it appears whole."""
    wrote = []
    scores = folder / EXPECTED_SCORES
    if scores.is_file():
        placed = context.contract.folder / "data" / EXPECTED_SCORES
        with replaced_file(placed) as unfinished:
            shutil.copyfile(scores, unfinished)
        wrote.append(placed)
    with replaced_folder(context.version_folder) as version:
        shutil.copytree(folder, version, dirs_exist_ok=True, ignore=shutil.ignore_patterns(EXPECTED_SCORES))
    return wrote + [path for path in context.version_folder.rglob("*") if path.is_file()]


EXPORT = Step(
    name="export",
    does="writes the version: ONNX graph, signature, golden rows, metrics, model card",
    run=_run,
    needs=("prepare", "train", "evaluate"),
    sections=("export", "label", "rows"),
)
