"""The declared schema, held against raw rows: sentinels become missing, invalid entries go as it says."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferrocast_training.contract import View
from ferrocast_training.dtypes import PANDAS_TYPES
from ferrocast_training.errors import DataError
from ferrocast_training.settings import Column, Label, UseCase

Values = pd.Series
WHOLE_NUMBERS: dict[str, Any] = {"int32": np.iinfo(np.int32), "int64": np.iinfo(np.int64)}
EXACT_BELOW = 2.0**53  # above, a float that is whole may stand for several whole numbers


@dataclass
class ColumnReport:
    """What was found in one column, in rows, and what was done about it."""

    missing_before: int = 0
    sentinels: int = 0  # values that stand for "not known", made missing
    invalid: int = 0
    done: str = ""
    example: str = ""  # the first invalid entry, and why it is


@dataclass
class Report:
    """What cleaning did."""

    rows_read: int
    rows_kept: int
    columns: dict[str, ColumnReport]
    ignored: list[str]  # raw columns that the schema does not name

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Say it for people: rows first, then each column in which something was done."""
        yield f"{self.rows_read:,} rows read, {self.rows_kept:,} kept"
        for name, found in self.columns.items():
            if found.sentinels:
                yield f'{name}: {found.sentinels:,} values for "not known" made missing'
            if found.invalid:
                yield f"{name}: {found.invalid:,} invalid entries {found.done} ({found.example})"
        if self.ignored:
            yield f"not in the schema, left out: {', '.join(self.ignored)}"


def clean(
    raw: pd.DataFrame, use_case: UseCase, elsewhere: Set[str] = frozenset()
) -> tuple[pd.DataFrame, Report]:
    """Return the kept rows in the schema's names and types, with the label; their index is that of `raw`.

    Columns of the schema that are `elsewhere` are not of these rows. Raises `DataError` where an entry is
    invalid and its column says "reject".
    """
    raw = raw.reset_index(drop=True)
    label = use_case.label
    columns = {name: _find(raw, name) for name in label.keep}
    here = {name: column for name, column in use_case.schema.items() if name not in elsewhere}
    cleaned, reports, dropped = _clean_columns(raw, here)
    columns |= cleaned | {label.column: _labels(_find(raw, label.raw_column or label.column), label)}
    kept = pd.DataFrame(columns)[~dropped]
    if kept.empty:
        raise DataError("raw data: no row is left: all have invalid entries where on_invalid drops the row")
    ignored = [str(name) for name in raw.columns if name not in _used(use_case)]
    return kept, Report(len(raw), len(kept), reports, ignored)


def clean_view(frame: pd.DataFrame, view: View, use_case: UseCase, report: Report) -> pd.DataFrame:
    """Return the kept rows of a view that has rows of its own, in the view's columns; add to `report`."""
    frame = frame.reset_index(drop=True)
    declared = {name: use_case.schema[name] for name in view.features}
    cleaned, reports, dropped = _clean_columns(frame, declared)
    report.columns |= reports
    others = {name: _find(frame, name) for name in view.columns if name not in declared}
    kept = pd.DataFrame(others | cleaned)[~dropped][list(view.columns)]
    return kept.astype({name: PANDAS_TYPES[kind] for name, kind in view.keys.items()})


def _clean_columns(
    raw: pd.DataFrame, declared: Mapping[str, Column]
) -> tuple[dict[str, Values], dict[str, ColumnReport], NDArray[np.bool_]]:
    columns: dict[str, Values] = {}
    reports: dict[str, ColumnReport] = {}
    dropped = np.zeros(len(raw), dtype=bool)
    for name, column in declared.items():
        values, reports[name], drop = _clean_column(_find(raw, column.source or name), name, column)
        columns[name] = values
        dropped |= drop
    return columns, reports, dropped


def _used(use_case: UseCase) -> set[str]:
    rows, label = use_case.rows, use_case.label
    named = {column.source or name for name, column in use_case.schema.items()}
    return named | {label.raw_column or label.column, rows.id_column, rows.event_column, *label.keep}


def _find(raw: pd.DataFrame, name: str) -> Values:
    if name not in raw.columns:
        raise DataError(f"raw data: column {name} is missing; there are {', '.join(map(str, raw.columns))}")
    return raw[name]


def _clean_column(column: Values, name: str, declared: Column) -> tuple[Values, ColumnReport, Any]:
    """Return the values in the declared type, the report, and which rows to drop."""
    missing = column.isna().to_numpy()
    sentinel = _sentinels(column, declared) & ~missing
    column = column.mask(sentinel)
    typed, invalid, why = _typed(column, declared)
    known = typed.notna().to_numpy()
    for failed, rule in _broken_rules(typed, known, declared):
        why = np.where(failed & ~invalid, rule, why)
        invalid = invalid | failed
    report = ColumnReport(int(missing.sum()), int(sentinel.sum()), int(invalid.sum()))
    drop = np.zeros(len(column), dtype=bool)
    if invalid.any():
        row = int(np.argmax(invalid))
        report.example = f"row {row + 1}: {_shown(column.iloc[row])} {why[row]}"
        if declared.on_invalid == "reject":
            raise DataError(
                f"raw data: column {name}: {report.invalid:,} invalid entries, first {report.example}; "
                f'[schema] {name} on_invalid = "missing" or "drop_row" would go on without them'
            )
        report.done = {"missing": "made missing", "drop_row": "dropped with their rows"}[declared.on_invalid]
        typed = typed.mask(invalid)
        drop = invalid if declared.on_invalid == "drop_row" else drop
    return typed, report, drop


def _sentinels(column: Values, declared: Column) -> Any:
    texts = {word for word in declared.missing if isinstance(word, str)}
    found = column.isin(list(texts)).to_numpy()
    if declared.type == "string":
        return found
    numbers = pd.to_numeric(column, errors="coerce").astype("Float64")
    for each in (value for value in declared.missing if not isinstance(value, str)):
        found = found | (numbers == each).fillna(False).to_numpy()
    if declared.missing_below is not None:
        found = found | (numbers < declared.missing_below).fillna(False).to_numpy()
    return found


def _typed(column: Values, declared: Column) -> tuple[Values, Any, Any]:
    """Return the values in the declared type (what does not fit: missing), which do not fit, and why."""
    dtype: Any = PANDAS_TYPES[declared.type]
    known = column.notna().to_numpy()
    if declared.type == "string":
        wrong = known & ~column.map(lambda value: isinstance(value, str)).to_numpy(dtype=bool)
        return column.mask(wrong).astype(dtype), wrong, np.where(wrong, "is not text", "")
    numbers = pd.to_numeric(column, errors="coerce")
    if pd.api.types.is_bool_dtype(numbers):
        numbers = numbers.astype("Int64")
    wrong = known & ~np.isfinite(numbers.astype("Float64").to_numpy(dtype=float, na_value=np.nan))
    why = np.where(wrong, "is not a number", "")
    limits = WHOLE_NUMBERS.get(declared.type)
    if limits is not None and not pd.api.types.is_integer_dtype(numbers):
        floats = numbers.astype("Float64").to_numpy(dtype=float, na_value=np.nan)
        fractions = known & ~wrong & ((floats != np.floor(floats)) | (np.abs(floats) > EXACT_BELOW))
        why, wrong = np.where(fractions, f"is not {declared.type}", why), wrong | fractions
    if limits is not None:
        beyond = known & ~wrong & ~numbers.between(limits.min, limits.max).fillna(True).to_numpy(dtype=bool)
        why, wrong = np.where(beyond, f"is not {declared.type}", why), wrong | beyond
    return numbers.mask(wrong).astype(dtype), wrong, why


def _broken_rules(typed: Values, known: Any, declared: Column) -> Iterator[tuple[Any, str]]:
    if declared.min is not None:
        yield known & (typed < declared.min).fillna(False).to_numpy(dtype=bool), f"is below {declared.min:g}"
    if declared.max is not None:
        yield known & (typed > declared.max).fillna(False).to_numpy(dtype=bool), f"is above {declared.max:g}"
    if declared.categories:
        yield (
            known & ~typed.isin(declared.categories).to_numpy(),
            f"is none of {', '.join(declared.categories)}",
        )
    if declared.required:
        yield ~known, "is required"


def _shown(value: Any) -> str:
    if pd.isna(value):
        return "a missing value"
    return repr(value) if isinstance(value, str) else str(value)


def _labels(column: Values, label: Label) -> Values:
    name = label.raw_column or label.column
    if column.isna().any():
        row = int(column.isna().to_numpy().argmax())
        raise DataError(
            f"raw data: column {name} (the label) is empty in {int(column.isna().sum()):,} rows, "
            f"first in row {row + 1}"
        )
    texts = column.map(str)
    words = texts.map(label.words) if label.words else texts
    known = words.isin([label.negative, label.positive]).to_numpy()
    if not known.all():
        row = int(np.argmin(known))
        expected = label.words or {label.negative: "", label.positive: ""}
        raise DataError(
            f"raw data: column {name} (the label) holds {texts.iloc[row]!r} in row {row + 1}, "
            f"not {' or '.join(expected)}"
        )
    return words.astype("string")
