"""Runs steps: passes over what is up to date, and leaves nothing half-done behind."""

import fcntl
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ferrocast_training.errors import TrainingError
from ferrocast_training.files import replaced_folder, sweep, write_json
from ferrocast_training.settings import UseCase
from ferrocast_training.source import digest_of
from ferrocast_training.steps import STEPS
from ferrocast_training.steps.step import STORE, Context, Outcome, Step

RESULT = "result.json"
PACKAGE = Path(__file__).resolve().parents[1]
# What a result may hang on beside our own code.
LIBRARIES = ("numpy", "pandas", "pyarrow", "scikit-learn", "lightgbm", "onnx", "skl2onnx", "onnxmltools")


def run_steps(steps: Sequence[Step], context: Context, *, force: bool = False) -> None:
    """Bring the results of `steps` up to date, and those of all steps that they need.

    With `force`, `steps` themselves are done again whatever there is.
    """
    with _alone(context):
        folder = context.contract.folder
        for each in (context.work, folder, folder / "data"):
            sweep(each)
        forced = {step.name for step in steps} if force else set()
        for step in _in_order(steps):
            bring(step, context, force=step.name in forced)


def bring(step: Step, context: Context, *, force: bool) -> None:
    """Do one step unless its result is up to date."""
    inputs = inputs_of(step, context)
    known = read_result(context, step.name)
    if known and not force:
        changed = _changed(known["inputs"], inputs) or _damaged(known, step, context)
        if not changed:
            context.terminal.say(step.name, "up to date")
            return
        context.terminal.say(step.name, f"again: {changed}")
    started = time.perf_counter()
    with replaced_folder(context.result(step.name)) as folder:
        outcome = step.run(context, folder)
        write_json(folder / RESULT, _result(inputs, outcome, folder, context))
    context.terminal.say(step.name, f"done in {time.perf_counter() - started:.1f} s")


def inputs_of(step: Step, context: Context) -> dict[str, str]:
    """Return a digest of everything that the result of `step` depends on, each by a name for people."""
    settings = TypeAdapter(UseCase).dump_python(context.use_case, mode="json", exclude={"folder"})
    named = {f"[{name}]": _digest(settings[name]) for name in step.sections}
    names = ("name", "model", "version", "description")
    named["the use case's names"] = _digest({name: settings[name] for name in names})
    named |= {f"the result of {name}": digest_of(context.result(name) / RESULT) for name in step.needs}
    for path in step.files(context):
        named[path.name] = digest_of(path) if path.is_file() else "not there"
    return named | step.values(context) | {"the trainer's code": _code()}


def read_result(context: Context, name: str) -> dict[str, Any] | None:
    """Return what a finished step has left, or None."""
    path = context.result(name) / RESULT
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"{path}: not JSON ({error}); delete the folder and run again") from error
    return content


def _in_order(steps: Sequence[Step]) -> list[Step]:
    """Return `steps` with all that they need, each before who needs it."""
    ordered: dict[str, Step] = {}

    def add(step: Step) -> None:
        for name in step.needs:
            add(STEPS[name])
        ordered.setdefault(step.name, step)

    for step in steps:
        add(step)
    return list(ordered.values())


def _result(inputs: dict[str, str], outcome: Outcome, folder: Path, context: Context) -> dict[str, Any]:
    """No clock in it: the same result has the same digest, and what hangs on it stays up to date."""
    store = folder / STORE  # whose file is another one each time
    files = sorted(path for path in folder.rglob("*") if path.is_file() and store not in path.parents)
    return {
        "inputs": inputs,
        "summary": outcome.summary,
        "files": {path.relative_to(folder).as_posix(): digest_of(path) for path in files},
        "wrote": {
            path.relative_to(context.models).as_posix(): digest_of(path) for path in sorted(outcome.wrote)
        },
    }


def _changed(known: dict[str, str], inputs: dict[str, str]) -> str:
    changed = [name for name in known | inputs if known.get(name) != inputs.get(name)]
    return f"{', '.join(changed)} changed" if changed else ""


def _damaged(known: dict[str, Any], step: Step, context: Context) -> str:
    """Say which file of the result is not as the step left it."""
    written = [(context.result(step.name) / name, digest) for name, digest in known["files"].items()]
    written += [(context.models / name, digest) for name, digest in known["wrote"].items()]
    for path, digest in written:
        if not path.is_file():
            return f"{path} is gone"
        if digest_of(path) != digest:
            return f"{path} is not as it was written"
    return ""


@contextmanager
def _alone(context: Context) -> Iterator[None]:
    """Let nobody else work on the same results meanwhile."""
    context.work.mkdir(parents=True, exist_ok=True)
    with (context.work / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(f"{context.work}: another run is at work there") from error
        yield


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@cache
def _code() -> str:
    files = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".j2"))
    digests = {path.relative_to(PACKAGE).as_posix(): digest_of(path) for path in files}
    return _digest([digests, {name: version(name) for name in LIBRARIES}])
