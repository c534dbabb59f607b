"""The command line: `ferrocast-train run credit_risk`, or one step of it."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from ferrocast_training.definitions import are_missing, write_definitions
from ferrocast_training.errors import TrainingError
from ferrocast_training.progress import Terminal
from ferrocast_training.settings import load_use_case
from ferrocast_training.steps import RUN, STEPS
from ferrocast_training.steps.runner import run_steps
from ferrocast_training.steps.step import Context
from ferrocast_training.steps.tune import apply

PROJECT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Run the steps that the arguments ask for; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.act(options)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was not finished has left nothing behind", file=sys.stderr)
        return 130
    return 0


def context_of(options: argparse.Namespace) -> Context:
    """Return what the steps are given, from the options and the environment."""
    use_case = load_use_case(options.usecases / f"{options.use_case}.toml")
    if options.source:
        here = replace(use_case.source, package="", file=str(options.source.resolve()))
        use_case = replace(use_case, source=here)
    return Context(
        use_case=use_case,
        models=options.models.resolve(),
        work=options.work.resolve() / use_case.name,
        terminal=Terminal(),
        database_url=os.environ.get("DATABASE_URL", ""),
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", ""),
    )


def _run(options: argparse.Namespace) -> None:
    context = context_of(options)
    if context.use_case.definitions and are_missing(context.use_case, context.models):
        _write_definitions(context, force=False)
    run_steps(RUN if options.step == "run" else (STEPS[options.step],), context, force=options.force)
    if options.step == "tune" and options.apply:
        apply(context)


def _init(options: argparse.Namespace) -> None:
    _write_definitions(context_of(options), force=options.force)


def _write_definitions(context: Context, *, force: bool) -> None:
    wrote = write_definitions(context.use_case, context.models, force=force)
    for path in wrote:
        context.terminal.say("init", f"{path} written")
    if not wrote:
        context.terminal.say("init", "features.toml and model.toml are there; --force writes them anew")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ferrocast-train",
        description="Takes raw data to a served model, as one TOML file says. A step brings what it needs.",
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    whole = f"all of {', '.join(step.name for step in RUN)}"
    told = {"run": whole} | {step.name: step.does for step in STEPS.values()}
    told["init"] = "writes features.toml and model.toml of a new use case"
    for name, does in told.items():
        command = steps.add_parser(name, help=does, description=does)
        command.set_defaults(act=_init if name == "init" else _run)
        command.add_argument("--force", action="store_true", help="do it again, whatever there is")
        if name == "tune":
            command.add_argument("--apply", action="store_true", help="write the best into the settings")
        _add_places(command)
    return parser


def _add_places(command: argparse.ArgumentParser) -> None:
    command.add_argument("use_case", help="a file name in --usecases without .toml, such as credit_risk")
    command.add_argument("--source", type=Path, help="the raw file, in place of [source] file")
    places = {
        "models": (PROJECT.parent / "models", "the model repository"),
        "usecases": (PROJECT / "usecases", "the folder of the settings"),
        "work": (PROJECT / "work", "where results of steps are kept"),
    }
    for name, (default, what) in places.items():
        command.add_argument(f"--{name}", type=Path, default=default, help=f"{what} (default: {default})")


if __name__ == "__main__":
    sys.exit(main())
