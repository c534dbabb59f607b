"""Derivations: what turns raw rows into the rows of the schema, by the name that `[derive] function` gives.

A derivation takes the raw data and the `[derive] params`, and returns the rows that `[schema]`, `[rows]` and
`[label]` then speak of. It is code, so it is for what a declaration cannot say: indicators of a series,
aggregates, joins.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from ferrocast_training.errors import SettingsError
from ferrocast_training.settings import Derive
from ferrocast_training.source import Raw

Derivation = Callable[[Raw, Mapping[str, Any]], pd.DataFrame]

DERIVATIONS: dict[str, Derivation] = {}


def derive(raw: Raw, settings: Derive | None) -> pd.DataFrame:
    """Return the rows of the raw data, or what the stated derivation makes of them."""
    if settings is None:
        return raw.rows
    if settings.function not in DERIVATIONS:
        known = ", ".join(sorted(DERIVATIONS)) or "none"
        raise SettingsError(f"[derive] function: there is no {settings.function}; there are {known}")
    return DERIVATIONS[settings.function](raw, settings.params)
