"""Ids and points in time: the source's own, or assigned in the order of the rows."""

from datetime import timedelta

import pandas as pd

from ferrocast_training.errors import DataError
from ferrocast_training.settings import Rows


def identify(raw: pd.DataFrame, settings: Rows) -> pd.DataFrame:
    """Return id and `event_at` of every raw row; the index is that of `raw`."""
    return pd.DataFrame(
        {settings.id_column: _ids(raw, settings), "event_at": _events(raw, settings)}, index=raw.index
    )


def created_at(events: "pd.Series[pd.Timestamp]", settings: Rows) -> "pd.Series[pd.Timestamp]":
    """Return when the features of each row were known."""
    return events + timedelta(seconds=settings.created_after_s)


def labelled_at(events: "pd.Series[pd.Timestamp]", settings: Rows) -> "pd.Series[pd.Timestamp]":
    """Return the moment of each row that features are looked up at."""
    return events + timedelta(seconds=settings.labelled_after_s)


def _ids(raw: pd.DataFrame, settings: Rows) -> "pd.Series[str]":
    if settings.id_digits:
        numbers = range(1, len(raw) + 1)
        ids = [f"{settings.id_prefix}{number:0{settings.id_digits}d}" for number in numbers]
        return pd.Series(ids, index=raw.index, dtype="string")
    return _column(raw, settings.id_column, "id_column").astype("string")


def _events(raw: pd.DataFrame, settings: Rows) -> "pd.Series[pd.Timestamp]":
    first = pd.Timestamp(settings.first_event_at) if settings.first_event_at else None
    if not settings.event_column:
        step = pd.Timedelta(seconds=settings.event_step_s)
        return pd.Series(first + step * pd.RangeIndex(len(raw)), index=raw.index)  # type: ignore[operator]
    column = _column(raw, settings.event_column, "event_column")
    try:
        if settings.event_unit == "month":
            months = pd.to_numeric(column).astype("int64")
            table = {month: first + pd.DateOffset(months=month) for month in months.unique()}  # type: ignore[operator]
            return months.map(table)
        return pd.to_datetime(column, utc=True, format="ISO8601")
    except (TypeError, ValueError) as error:
        raise DataError(f"raw data: column {settings.event_column} ([rows] event_column): {error}") from error


def _column(raw: pd.DataFrame, name: str, setting: str) -> "pd.Series[str]":
    if name not in raw.columns:
        there = ", ".join(map(str, raw.columns))
        raise DataError(f"raw data: column {name} ([rows] {setting}) is missing; there are {there}")
    column = raw[name]
    if column.isna().any():
        row = int(column.isna().to_numpy().argmax())
        raise DataError(f"raw data: column {name} ([rows] {setting}) is empty in row {row + 1}")
    return column
