"""Technical indicators of one stock, each from its own past: row t uses rows up to t and none after.

Every function takes columns [days] in the order of time and returns one [days]; where a window is not
full yet, or an indicator is not defined, the value is missing. All are ratios or shares, so that they mean
the same at any price.
"""

from typing import Any, TypeAlias

import numpy as np
import pandas as pd

Column: TypeAlias = "pd.Series[Any]"

RSI_DAYS = 14
MACD_FAST_DAYS, MACD_SLOW_DAYS, MACD_SIGNAL_DAYS = 12, 26, 9
BAND_DAYS, BAND_DEVIATIONS = 20, 2.0


def change(price: Column, days: int) -> Column:
    """Return what the price has changed by in so many days, as a share of the older price."""
    return price / price.shift(days) - 1


def distance_from_average(price: Column, days: int) -> Column:
    """Return how far the price is above its simple moving average, as a share of the average."""
    return price / price.rolling(days).mean() - 1


def relative_strength(price: Column, days: int = RSI_DAYS) -> Column:
    """Return the RSI, 0 to 100: the part that gains have in all movement; 50 where nothing moved.

    J. W. Wilder, New Concepts in Technical Trading Systems (1978), section VI: 100 - 100 / (1 + gain / loss)
    of Wilder's averages, which is 100 * gain / (gain + loss).
    """
    moved = price.diff()
    gain, loss = (_smoothed(part, days, 1 / days) for part in (moved.clip(lower=0), (-moved).clip(lower=0)))
    total = gain + loss
    return (100 * gain / total.where(total > 0)).mask(total == 0, 50.0)


def macd(price: Column) -> Column:
    """Return the MACD line, the 12-day less the 26-day exponential average, as a share of the price.

    G. Appel, Technical Analysis: Power Tools for Active Investors (2005), chapter 8.
    """
    return _macd_line(price) / price


def macd_histogram(price: Column) -> Column:
    """Return the MACD line less its 9-day exponential average, the signal, as a share of the price."""
    line = _macd_line(price)
    return (line - exponential_average(line, MACD_SIGNAL_DAYS)) / price


def exponential_average(values: Column, days: int) -> Column:
    """Return the exponential moving average with weight 2 / (days + 1), begun at the first simple average."""
    return _smoothed(values, days, 2 / (days + 1))


def volatility(price: Column, days: int) -> Column:
    """Return the sample standard deviation of the daily logarithmic returns, a day's and not a year's."""
    return pd.Series(np.log(price), index=price.index).diff().rolling(days).std()


def band_position(price: Column) -> Column:
    """Return where the price is between its Bollinger bands: 0 at the lower, 1 at the upper, or beyond.

    J. Bollinger, Bollinger on Bollinger Bands (2001), chapter 8: %b, of bands two population standard
    deviations from the 20-day average. Missing where the price stood still for so long.
    """
    window = price.rolling(BAND_DAYS)
    half = BAND_DEVIATIONS * window.std(ddof=0)
    return (price - window.mean() + half) / (2 * half.where(half > 0))


def day_range(high: Column, low: Column, close: Column) -> Column:
    """Return the day's range from low to high, as a share of its close."""
    return (high - low) / close


def turnover_ratio(turnover: Column, days: int) -> Column:
    """Return the day's turnover over the mean of the days before it, the day itself not among them."""
    return turnover / turnover.shift(1).rolling(days).mean()


def _macd_line(price: Column) -> Column:
    return exponential_average(price, MACD_FAST_DAYS) - exponential_average(price, MACD_SLOW_DAYS)


def _smoothed(values: Column, days: int, weight: float) -> Column:
    """Smooth exponentially, from the simple average of the first `days` values on."""
    known = values.dropna()
    seeded = known.iloc[days - 1 :].copy()
    if len(seeded):
        seeded.iloc[0] = known.iloc[:days].mean()
    return seeded.ewm(alpha=weight, adjust=False).mean().reindex(values.index)
