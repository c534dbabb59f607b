"""Writing so that half-done work is never seen: under another name first, then renamed."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ASIDE = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.(?P<end>tmp|old)")


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; it becomes `path` once the block has ended without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _aside(path, "tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes `path` once the block has ended without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, old = _aside(path, "tmp"), _aside(path, "old")
    unfinished.mkdir()
    try:
        yield unfinished
        if path.exists():
            path.rename(old)
        unfinished.rename(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for leftover in (unfinished, old):
            shutil.rmtree(leftover, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Clear away what killed processes left half-done in `folder`; put back what they had set aside."""
    for path in sorted(folder.glob(".*")):
        found = ASIDE.fullmatch(path.name)
        if not found or _lives(int(found["process"])):
            continue
        whole = path.with_name(found["name"])
        if found["end"] == "old" and not whole.exists():
            path.rename(whole)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _aside(path: Path, end: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{end}")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write `text` with plain line ends, all or nothing."""
    with replaced_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any, render: Callable[[Any], str] | None = None) -> None:
    """Write `value` as JSON, all or nothing."""
    write_text(path, (render or json_text)(value))


def json_text(value: Any) -> str:
    """Return `value` as JSON that people can read; NaN is an error."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
