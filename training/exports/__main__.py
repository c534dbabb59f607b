"""Trains and writes all models: `uv run --group exports python -m exports [FOLDER]`."""

import sys
from pathlib import Path

from exports.all import write_all

DEFAULT = Path(__file__).resolve().parents[2] / "tests" / "data"

if __name__ == "__main__":
    write_all(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
