"""A mark: what has to be reached, what was, and the rounds that say so."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from turns import table


@dataclass(frozen=True)
class Mark:
    """One line of the table of marks."""

    what: str
    wanted: str
    found: str
    spread: str
    is_reached: bool

    def row(self) -> list[str]:
        """As a line of a table."""
        return [
            self.what,
            self.wanted,
            self.found,
            self.spread,
            "reached" if self.is_reached else "**not reached**",
        ]


HEADER = ["what", "mark", "median", "of the rounds", ""]


def at_least(what: str, least: float, values: list[float], failed: int = 0) -> Mark:
    """A ratio, higher being better; no values where what it is a ratio to answered nothing.

    Where calls failed, nothing is reached.
    """
    if not values:
        return Mark(what, f"≥ {least:g}", "not measured", "the other answered nothing", False)
    return Mark(
        what,
        f"≥ {least:g}",
        f"{median(values):.2f}",
        _spread(values, failed),
        not failed and median(values) >= least,
    )


def below(what: str, limit: float, values: list[float], unit: str, failed: int = 0) -> Mark:
    """A time or a size, lower being better; where calls failed, nothing is reached."""
    found = f"{median(values):.2f} {unit}"
    return Mark(
        what, f"< {limit:g} {unit}", found, _spread(values, failed), not failed and median(values) < limit
    )


def _spread(values: list[float], failed: int) -> str:
    spread = ", ".join(f"{value:.2f}" for value in values)
    return f"{spread}; {failed:,} calls failed" if failed else spread


def table_of(marks: list[Mark]) -> str:
    """Markdown."""
    return table(HEADER, [mark.row() for mark in marks])
