"""`register`: the server's own check of the version, and its entry in MLflow's model registry."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ferrocast_training.registry import VERSION_FOLDER, Entry, register
from ferrocast_training.source import digest_of
from ferrocast_training.steps.evaluate import METRICS
from ferrocast_training.steps.explore import REPORT
from ferrocast_training.steps.step import Context, Outcome, Step

DEFINITIONS = ("features.toml", "model.toml")


def _run(context: Context, folder: Path) -> Outcome:
    say = context.terminal.say
    for line in context.store().check(context.contract).splitlines():
        if line.startswith("model "):
            say("register", f"ferrocast check: {line}")
    if not context.tracking_uri:
        say("register", "MLFLOW_TRACKING_URI is not set: nothing is registered")
        return Outcome({"registered": False})
    entry = _entry(context)
    found = register(context.tracking_uri, entry)
    was = "is registered" if found.is_new else "was registered before"
    say("register", f"{entry.model} version {found.number} {was}, {entry.alias} means it; run {found.run_id}")
    return Outcome({"registered": True, "version": found.number, "run_id": found.run_id})


def _entry(context: Context) -> Entry:
    use_case, version = context.use_case, context.version_folder
    metrics = json.loads((version / METRICS).read_text(encoding="utf-8"))
    files = [(version, VERSION_FOLDER)]
    files += [(context.contract.folder / name, f"{VERSION_FOLDER}/definitions") for name in DEFINITIONS]
    files.append((use_case.folder / f"{use_case.name}.toml", "settings"))
    if (context.result("explore") / REPORT).is_file():
        files.append((context.result("explore") / REPORT, "explore"))
    return Entry(
        experiment=use_case.register.experiment or use_case.model,
        model=use_case.register.name or use_case.model,
        alias=use_case.register.alias,
        version=use_case.version,
        digest=digest_of(version / "model.onnx"),
        params=dict(_params(context)),
        metrics=dict(_numbers(metrics)),
        files=files,
    )


def _params(context: Context) -> Iterator[tuple[str, str]]:
    train, split = context.use_case.train, context.use_case.split
    for name, value in (vars(train) | train.params).items():
        if name != "params":
            yield f"train.{name}", str(value)
    for name, value in vars(split).items():
        if value:
            yield f"split.{name}", str(value)


def _numbers(metrics: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield "threshold", metrics["threshold"]["value"]
    for part in ("train", "validation", "test"):
        for name, value in (metrics[part] | metrics[part]["at_threshold"]).items():
            if isinstance(value, int | float):
                yield f"{part}.{name}", float(value)


def _files(context: Context) -> list[Path]:
    return [context.contract.folder / name for name in DEFINITIONS]


def _values(context: Context) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": context.tracking_uri}


REGISTER = Step(
    name="register",
    does="has the server check the version, and registers it with MLflow",
    run=_run,
    needs=("export",),
    sections=("register", "train", "split"),
    files=_files,
    values=_values,
)
