"""Measures in turns: A B C A B C …, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from generators import Seen
from machine import OtherUse
from servers import LoadTestError


@dataclass(frozen=True)
class Rounds:
    """What was seen of one measure, round by round."""

    name: str
    seen: list[Seen]
    # The share of the processors that others used meanwhile.
    others: list[float]

    @property
    def middle(self) -> Seen:
        """The round whose throughput is the middle one."""
        return sorted(self.seen, key=lambda each: each.calls_per_second)[len(self.seen) // 2]

    def per(self, other: Rounds) -> list[float]:
        """This one's throughput by another's, within each round."""
        pairs = zip(self.seen, other.seen, strict=True)
        return [
            mine.calls_per_second / its.calls_per_second for mine, its in pairs if its.calls_per_second > 0
        ]

    @property
    def p99s(self) -> list[float]:
        """Milliseconds, round by round."""
        return [each.p99_ms for each in self.seen]

    @property
    def failures(self) -> int:
        """Over all rounds."""
        return sum(each.failures for each in self.seen)

    def row(self) -> list[str]:
        """As a line of a table, below HEADER."""
        rates = sorted(each.calls_per_second for each in self.seen)
        middle = self.middle
        return [
            self.name,
            f"{median(rates):,.0f}",
            f"{rates[0]:,.0f} to {rates[-1]:,.0f}",
            f"{middle.p50_ms:.2f}",
            f"{middle.p99_ms:.2f}",
            f"{self.failures:,}",
            f"{max(self.others):.0%}",
        ]


HEADER = ["what", "calls/s", "range", "p50 ms", "p99 ms", "failed", "others' use"]


def in_turns(measures: Mapping[str, Callable[[], Seen]], rounds: int) -> dict[str, Rounds]:
    """Takes all measures one after the other, so many times; says each as it is known."""
    found = {name: Rounds(name, [], []) for name in measures}
    for number in range(rounds):
        for name, measure in measures.items():
            others = OtherUse()
            seen = measure()
            found[name].seen.append(seen)
            found[name].others.append(others.share())
            say(f"round {number + 1}: {name}: {told(seen)}, others use {found[name].others[-1]:.0%}")
    return found


def told(seen: Seen) -> str:
    """In a few words."""
    rates = f"{seen.calls_per_second:,.0f} calls/s"
    return f"{rates}, p50 {seen.p50_ms:.2f} ms, p99 {seen.p99_ms:.2f} ms, {failures(seen)}"


def failures(seen: Seen) -> str:
    """How many calls failed, by their kinds."""
    kinds = ", ".join(f"{count:,} of {kind}" for kind, count in sorted(seen.failed.items()))
    return f"{seen.failures:,} failed" + (f" ({kinds})" if kinds else "")


def say(line: str) -> None:
    """Tells whoever waits how far it is."""
    print(line, flush=True)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def to_the_end(main: Callable[[], None]) -> None:
    """Runs a program; what it lacks is told as a sentence."""
    try:
        main()
    except LoadTestError as fault:
        sys.exit(f"error: {fault}")
