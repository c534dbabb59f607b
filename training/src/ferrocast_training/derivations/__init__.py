"""Derivations, by the name that `[derive] function` gives: a new one is a module here and a line below."""

from ferrocast_training.derivations import open_bandit, stocks
from ferrocast_training.derivations.derivation import Derivation, Derived
from ferrocast_training.errors import SettingsError
from ferrocast_training.settings import Derive
from ferrocast_training.source import Raw

__all__ = ["Derivation", "Derived", "derive"]

DERIVATIONS: dict[str, Derivation] = {"open_bandit": open_bandit.derive, "stock_direction": stocks.derive}


def derive(raw: Raw, settings: Derive | None) -> Derived:
    """Return the rows of the raw data, or what the stated derivation makes of them."""
    if settings is None:
        return Derived(raw.rows)
    if settings.function not in DERIVATIONS:
        known = ", ".join(sorted(DERIVATIONS))
        raise SettingsError(f"[derive] function: there is no {settings.function}; there are {known}")
    return DERIVATIONS[settings.function](raw, settings.params)
