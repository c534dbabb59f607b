"""The command line: `ferrocast-train credit_risk`."""

import argparse
import sys
from pathlib import Path

from ferrocast_training.contract import load_contract
from ferrocast_training.errors import TrainingError
from ferrocast_training.prepare import prepare
from ferrocast_training.run import run_use_case
from ferrocast_training.settings import load_use_case

PROJECT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Run the steps that the arguments ask for; return the exit code."""
    options = _parser().parse_args(arguments)
    settings = options.usecases / f"{options.use_case}.toml"
    try:
        if options.only_prepare:
            use_case = load_use_case(settings)
            for path in prepare(use_case, load_contract(options.models / use_case.model)):
                print(f"prepare   {path}")
        else:
            run_use_case(settings, options.models, fetch=not options.skip_prepare)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ferrocast-train", description="Train and export the model of a use case."
    )
    parser.add_argument("use_case", help="a file name in --usecases without .toml, such as credit_risk")
    parser.add_argument(
        "--models",
        type=Path,
        default=PROJECT.parent / "models",
        help="the model repository (default: ../models)",
    )
    parser.add_argument(
        "--usecases", type=Path, default=PROJECT / "usecases", help="the settings (default: ./usecases)"
    )
    steps = parser.add_mutually_exclusive_group()
    steps.add_argument("--only-prepare", action="store_true", help="write the data files and stop")
    steps.add_argument("--skip-prepare", action="store_true", help="train on the data files as they are")
    return parser


if __name__ == "__main__":
    sys.exit(main())
