"""`explore`: a report of the training set, one HTML file that needs no other."""

import json
from pathlib import Path

from ferrocast_training.contract import read_description
from ferrocast_training.explore import look
from ferrocast_training.files import write_text
from ferrocast_training.steps.prepare import REPORT as CLEANED
from ferrocast_training.steps.step import Context, Outcome, Step
from ferrocast_training.templating import render

REPORT = "report.html"


def _run(context: Context, folder: Path) -> Outcome:
    use_case, contract = context.use_case, context.contract
    found = look(use_case, contract, context.dataset())
    cleaned = json.loads((context.result("prepare") / CLEANED).read_text(encoding="utf-8"))
    page = render(
        "report.html.j2",
        use_case=use_case,
        description=use_case.description or read_description(contract),
        positive=use_case.label.positive,
        found=found,
        report=cleaned,
    )
    write_text(folder / REPORT, page)
    for hint in found.hints:
        context.terminal.say("explore", f"hint: {hint}")
    context.terminal.say("explore", str(context.result("explore") / REPORT))
    return Outcome({"hints": found.hints})


EXPLORE = Step(
    name="explore",
    does="reports missing values, distributions, balance, correlations and hints of leakage as HTML",
    run=_run,
    needs=("prepare",),
    sections=("explore", "label", "rows", "split"),
)
