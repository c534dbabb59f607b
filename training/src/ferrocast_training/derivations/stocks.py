"""Daily prices to the rows of the view `stock_direction` and to the direction of the next day.

The one place where the indicators are computed: a store serves these rows, and training gets them back
from it by the point-in-time join.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ferrocast_training.derivations import indicators
from ferrocast_training.derivations.derivation import Derived, numbers
from ferrocast_training.errors import DataError
from ferrocast_training.source import Raw

EXCHANGE = "America/New_York"
CLOSE = pd.Timedelta(hours=16)
NUMBERS = ["High", "Low", "Close", "Volume", "Adj Close"]
COLUMNS = ["Ticker", "Date", *NUMBERS]
VIEW = "stock_direction"
FEATURES = [
    "return_1d",
    "return_5d",
    "return_20d",
    "sma_10_distance",
    "sma_50_distance",
    "rsi_14",
    "macd",
    "macd_histogram",
    "volatility_20d",
    "bollinger_position",
    "range_1d",
    "turnover_ratio_20d",
]


def derive(raw: Raw, params: Mapping[str, Any]) -> Derived:
    """Return the directions as rows, and every day of every stock, the last ones too, as the view's."""
    prices = numbers(raw.rows, NUMBERS, "prices")
    _check(prices)
    return Derived(direction_rows(prices), {VIEW: feature_rows(prices)}, daily=frozenset({VIEW}))


def _check(prices: pd.DataFrame) -> None:
    """Refuse prices that cannot be: an indicator would carry one wrong price through weeks."""
    rules = {
        "prices are above zero": (prices[["High", "Low", "Close", "Adj Close"]] > 0).all(axis="columns"),
        "the volume is not below zero": prices["Volume"] >= 0,
        "the close is between low and high": prices["Close"].between(prices["Low"], prices["High"]),
    }
    for rule, holds in rules.items():
        if not holds.all():
            row = prices[~holds].iloc[0]
            raise DataError(f"prices: {row['Ticker']}, {row['Date']}: it does not hold that {rule}")


def feature_rows(prices: pd.DataFrame) -> pd.DataFrame:
    """Return a row a ticker and day: `ticker`, `event_timestamp` (the day's close, UTC) and the features.

    `prices` [rows] has the columns `COLUMNS`, as the source has them. Rows come by ticker, then by day.
    """
    ordered = _ordered(prices)
    parts = [_features(part) for _, part in ordered.groupby("Ticker", sort=True)]
    keys = pd.DataFrame({"ticker": ordered["Ticker"], "event_timestamp": closing_time(ordered["Date"])})
    return pd.concat([keys, pd.concat(parts)[FEATURES].astype(np.float32)], axis=1)


def direction_rows(prices: pd.DataFrame) -> pd.DataFrame:
    """Return the spine: `ticker`, `event_timestamp`, `direction` of the next day, `known_at` its close.

    "up" where the next day's adjusted close is above this day's, else "not_up". The last day of a ticker
    has no next one, and no row.
    """
    ordered = _ordered(prices)
    closed_at = closing_time(ordered["Date"])
    tickers = ordered["Ticker"]
    rises = ordered.groupby(tickers)["Adj Close"].shift(-1) > ordered["Adj Close"]
    spine = pd.DataFrame(
        {
            "ticker": tickers,
            "event_timestamp": closed_at,
            "direction": np.where(rises, "up", "not_up"),
            "known_at": closed_at.groupby(tickers).shift(-1),
        }
    )
    return spine.dropna(subset="known_at").reset_index(drop=True)


def closing_time(days: "pd.Series[str]") -> "pd.Series[pd.Timestamp]":
    """Return when the exchange closed on the days (YYYY-MM-DD), in UTC: 16:00 in New York, winter and summer.

    On the few days of an early close the prices are taken to be known at 16:00 like on others: later than
    they were, never earlier.
    """
    local = (pd.to_datetime(days, format="%Y-%m-%d") + CLOSE).dt.tz_localize(EXCHANGE)
    return local.dt.tz_convert("UTC").astype("datetime64[us, UTC]")


def _ordered(prices: pd.DataFrame) -> pd.DataFrame:
    if absent := [name for name in COLUMNS if name not in prices.columns]:
        raise DataError(f"prices: column {absent[0]} is missing; there are {', '.join(map(str, prices))}")
    ordered = prices.sort_values(["Ticker", "Date"], kind="stable").reset_index(drop=True)
    twice = ordered.duplicated(["Ticker", "Date"])
    if twice.any():
        first = ordered[twice].iloc[0]
        raise DataError(f"prices: {first['Ticker']} has two rows of {first['Date']}")
    return ordered


def _features(days: pd.DataFrame) -> pd.DataFrame:
    """`days`: one ticker's rows in the order of time.

    Adjusted closes know of splits and dividends. The range is within one day, and turnover is price times
    shares: a split changes neither.
    """
    price = days["Adj Close"]
    turnover = days["Close"] * days["Volume"]
    return pd.DataFrame(
        {
            "return_1d": indicators.change(price, 1),
            "return_5d": indicators.change(price, 5),
            "return_20d": indicators.change(price, 20),
            "sma_10_distance": indicators.distance_from_average(price, 10),
            "sma_50_distance": indicators.distance_from_average(price, 50),
            "rsi_14": indicators.relative_strength(price),
            "macd": indicators.macd(price),
            "macd_histogram": indicators.macd_histogram(price),
            "volatility_20d": indicators.volatility(price, 20),
            "bollinger_position": indicators.band_position(price),
            "range_1d": indicators.day_range(days["High"], days["Low"], days["Close"]),
            "turnover_ratio_20d": indicators.turnover_ratio(turnover, 20),
        }
    )
