"""The report of a run: a folder with report.md and its plots, which takes its place when it is whole."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import mark
import turns
from mark import Mark
from usecase import CACHE


class Report:
    """Sections of Markdown in the order that they are added, beside the plots that they show."""

    def __init__(self, name: str, title: str) -> None:
        """Begins it in a folder of its own, which nobody takes for a report."""
        self.folder, self.being_made = CACHE / name, CACHE / f"{name}-being-made"
        shutil.rmtree(self.being_made, ignore_errors=True)
        self.being_made.mkdir(parents=True)
        self.parts = [f"# {title}\n"]
        self.begun_at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())

    def section(self, title: str, *texts: str) -> None:
        """Paragraphs and tables under a heading."""
        self.parts += [f"## {title}\n", *(text.rstrip("\n") + "\n" for text in texts)]

    def facts(self, facts: dict[str, str]) -> None:
        """What the run was made on and with."""
        rows = [[name, value] for name, value in ({"When": self.begun_at} | facts).items()]
        self.parts.append(turns.table(["", ""], rows))

    def marks(self, marks: list[Mark]) -> None:
        """The table of marks."""
        reached = sum(each.is_reached for each in marks)
        self.section("The marks", f"{reached} of {len(marks)} are reached.", mark.table_of(marks))
        found = [vars(each) for each in marks]
        (self.being_made / "marks.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")

    def plot(self, name: str, text: str, draw: Callable[[Path], None]) -> str:
        """Draws a plot; gives the Markdown that shows it."""
        draw(self.being_made / f"{name}.png")
        return f"![{text}]({name}.png)\n"

    def write(self) -> Path:
        """Puts it in its place; gives the path of the Markdown."""
        (self.being_made / "report.md").write_text("\n".join(self.parts))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.being_made.rename(self.folder)
        return self.folder / "report.md"
