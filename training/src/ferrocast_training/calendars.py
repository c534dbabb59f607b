"""The calendar of a view's TTL: the days on which no row ages, as features.toml has them."""

from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import pandas as pd
from pydantic import ConfigDict, with_config

from ferrocast_training.errors import DataError

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: tuple[Weekday, ...] = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
)


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class TtlCalendar:
    """Days off: those of each week, and single ones, in a time zone. The server checks the rest of it."""

    time_zone: str
    weekdays_off: list[Weekday] = field(default_factory=list)
    days_off: list[date] = field(default_factory=list)

    def days_on(self, first: pd.Timestamp, last: pd.Timestamp) -> pd.DatetimeIndex:
        """Return the days from `first` to `last`, both included, that are not off; days have no time zone."""
        days = pd.date_range(first, last, freq="D")
        off = [WEEKDAYS.index(name) for name in self.weekdays_off]
        return days[~days.day_of_week.isin(off) & ~days.isin(pd.to_datetime(self.days_off))]


def check_days(events: "pd.Series[pd.Timestamp]", calendar: TtlCalendar, where: str) -> None:
    """Refuse rows of a view that has some of each day that is not off, and of no other day, where it has not.

    `events` are the rows' event timestamps; `where` says whose calendar it is.
    """
    found = pd.DatetimeIndex(events.dt.tz_convert(calendar.time_zone).dt.tz_localize(None)).normalize()
    wanted = calendar.days_on(found.min(), found.max())
    silent, unexpected = wanted.difference(found), found.unique().difference(wanted)
    if len(silent):
        raise DataError(
            f"{where}: {_shown(silent)} no row, and the calendar does not have it off: "
            "are rows missing, or does it belong to days_off?"
        )
    if len(unexpected):
        raise DataError(f"{where}: {_shown(unexpected)} rows, and the calendar has it off")


def _shown(days: pd.DatetimeIndex) -> str:
    """Return the first day as the beginning of a sentence, and how many more there are."""
    first, more = days.sort_values()[0], len(days) - 1
    others = f" (and {more:,} more days)" if more else ""
    return f"{first:%Y-%m-%d}, a {first:%A},{others} has"
