"""Every indicator against a plain computation from its definition, on real prices."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pandas as pd
import pytest

from ferrocast_training.derivations import indicators
from tests.raw_data import stock_prices

DAYS = 180
Floats = list[float]


@pytest.fixture(scope="module")
def days() -> pd.DataFrame:
    prices = stock_prices()
    return prices[prices["Ticker"] == "IBM"].head(DAYS).reset_index(drop=True)


def mean(values: Floats) -> float:
    return sum(values) / len(values)


def deviation(values: Floats, divisor: int) -> float:
    return math.sqrt(sum((value - mean(values)) ** 2 for value in values) / divisor)


def averaged(values: Floats, days: int, weight: float) -> dict[int, float]:
    """An exponential average by row, begun at the simple average of the first `days` values."""
    average = {days - 1: mean(values[:days])}
    for row in range(days, len(values)):
        average[row] = weight * values[row] + (1 - weight) * average[row - 1]
    return average


def macd_of(price: Floats) -> tuple[dict[int, float], dict[int, float]]:
    fast, slow = averaged(price, 12, 2 / 13), averaged(price, 26, 2 / 27)
    line = {row: fast[row] - slow[row] for row in slow}
    first = min(line)
    signal = averaged([line[row] for row in sorted(line)], 9, 2 / 10)
    return line, {row + first: value for row, value in signal.items()}


def plain_change(price: Floats, row: int) -> float | None:
    return price[row] / price[row - 5] - 1 if row >= 5 else None


def plain_distance(price: Floats, row: int) -> float | None:
    return price[row] / mean(price[row - 9 : row + 1]) - 1 if row >= 9 else None


def plain_rsi(price: Floats, row: int) -> float | None:
    moves = [later - earlier for earlier, later in pairwise(price[: row + 1])]
    if len(moves) < 14:
        return None
    gain, loss = (
        averaged([max(sign * move, 0.0) for move in moves], 14, 1 / 14)[len(moves) - 1] for sign in (1, -1)
    )
    return 100 - 100 / (1 + gain / loss)


def plain_macd(price: Floats, row: int) -> float | None:
    line, _ = macd_of(price)
    return line[row] / price[row] if row in line else None


def plain_histogram(price: Floats, row: int) -> float | None:
    line, signal = macd_of(price)
    return (line[row] - signal[row]) / price[row] if row in signal else None


def plain_volatility(price: Floats, row: int) -> float | None:
    if row < 20:
        return None
    return deviation([math.log(price[day] / price[day - 1]) for day in range(row - 19, row + 1)], 19)


def plain_band(price: Floats, row: int) -> float | None:
    if row < 19:
        return None
    window = price[row - 19 : row + 1]
    lower, upper = (mean(window) + sign * 2 * deviation(window, 20) for sign in (-1, 1))
    return (price[row] - lower) / (upper - lower)


CASES: dict[str, tuple[Callable[[pd.Series], pd.Series], Callable[[Floats, int], float | None]]] = {
    "change": (lambda price: indicators.change(price, 5), plain_change),
    "distance": (lambda price: indicators.distance_from_average(price, 10), plain_distance),
    "rsi": (indicators.relative_strength, plain_rsi),
    "macd": (indicators.macd, plain_macd),
    "histogram": (indicators.macd_histogram, plain_histogram),
    "volatility": (lambda price: indicators.volatility(price, 20), plain_volatility),
    "band": (indicators.band_position, plain_band),
}


@pytest.mark.parametrize("name", CASES)
def test_an_indicator_is_what_its_definition_says(name: str, days: pd.DataFrame) -> None:
    indicator, plain = CASES[name]
    price = days["Adj Close"]
    ours, prices = indicator(price).tolist(), price.tolist()
    for row in range(DAYS):
        expected = plain(prices, row)
        if expected is None:
            assert math.isnan(ours[row]), row
        else:
            assert ours[row] == pytest.approx(expected, rel=1e-9, abs=1e-12), row


def test_range_and_turnover_are_what_their_definitions_say(days: pd.DataFrame) -> None:
    turnover = (days["Close"] * days["Volume"]).tolist()
    ratio = indicators.turnover_ratio(pd.Series(turnover), 20)
    assert math.isnan(ratio[19])
    assert ratio[20] == pytest.approx(turnover[20] / mean(turnover[:20]))
    day = days.iloc[7]
    assert indicators.day_range(days["High"], days["Low"], days["Close"])[7] == pytest.approx(
        (day["High"] - day["Low"]) / day["Close"]
    )


def test_a_price_that_stands_still_has_no_direction() -> None:
    still = pd.Series([10.0] * 60)
    assert indicators.relative_strength(still).iloc[-1] == 50.0
    assert math.isnan(indicators.band_position(still).iloc[-1])
    rising = pd.Series([10.0 + day for day in range(60)])
    assert indicators.relative_strength(rising).iloc[-1] == 100.0


def test_too_few_days_give_missing_values() -> None:
    few = pd.Series([1.0, 2.0, 3.0])
    for indicator, _ in CASES.values():
        assert indicator(few).isna().all()
