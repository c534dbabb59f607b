"""The rows of `stock_direction`: nothing of a day's future is in them, and splits leave no mark."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import holidays
import numpy as np
import pandas as pd
import pytest

from ferrocast_training.calendars import TtlCalendar, check_days
from ferrocast_training.contract import load_contract
from ferrocast_training.derivations.stocks import (
    EXCHANGE,
    FEATURES,
    closing_time,
    derive,
    direction_rows,
    feature_rows,
)
from ferrocast_training.errors import DataError
from ferrocast_training.settings import read_toml
from ferrocast_training.source import Raw
from tests.raw_data import stock_prices

from .conftest import TRAINING

STOCKS = TRAINING.parent / "models" / "stock_direction"
PRICES = ["Open", "High", "Low", "Close", "Adj Close"]


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return stock_prices()


@pytest.fixture(scope="module")
def rows(prices: pd.DataFrame) -> pd.DataFrame:
    return feature_rows(prices)


@pytest.mark.parametrize("day", ["2000-05-18", "2005-02-28", "2012-05-22", "2013-02-28"])
def test_the_future_changes_no_feature(prices: pd.DataFrame, rows: pd.DataFrame, day: str) -> None:
    chosen = np.random.default_rng(5)
    changed = prices.copy()
    later = (changed["Date"] > day).to_numpy()
    assert later.any()
    changed.loc[later, PRICES] *= chosen.uniform(0.2, 5.0, (int(later.sum()), 1))
    changed.loc[later, "Volume"] = chosen.integers(1, 10**9, int(later.sum()))
    again = feature_rows(changed)
    past = rows["event_timestamp"] <= closing_time(pd.Series([day]))[0]
    pd.testing.assert_frame_equal(again[past], rows[past], check_exact=True)
    assert not again[~past][FEATURES].equals(rows[~past][FEATURES])


def test_a_day_that_is_not_there_yet_changes_no_feature(prices: pd.DataFrame, rows: pd.DataFrame) -> None:
    known = prices[prices["Date"] <= "2008-10-10"]
    past = rows["event_timestamp"] <= closing_time(pd.Series(["2008-10-10"]))[0]
    pd.testing.assert_frame_equal(feature_rows(known), rows[past].reset_index(drop=True), check_exact=True)


def test_one_ticker_does_not_know_of_another(prices: pd.DataFrame, rows: pd.DataFrame) -> None:
    alone = feature_rows(prices[prices["Ticker"] == "FB"])
    pd.testing.assert_frame_equal(
        alone, rows[rows["ticker"] == "FB"].reset_index(drop=True), check_exact=True
    )


def test_a_split_leaves_no_mark(prices: pd.DataFrame, rows: pd.DataFrame) -> None:
    """On 28 February 2005 one share of AAPL became two: its close halved, its adjusted close did not."""
    apple = prices[prices["Ticker"] == "AAPL"].set_index("Date")["Close"].to_dict()
    assert apple["2005-02-28"] < 0.6 * apple["2005-02-25"]
    day = rows[(rows["ticker"] == "AAPL") & (rows["event_timestamp"] == "2005-02-28T21:00:00Z")].iloc[0]
    assert abs(day["return_1d"]) < 0.05
    assert 0.2 < day["turnover_ratio_20d"] < 3


def test_the_label_is_the_next_days_direction(prices: pd.DataFrame) -> None:
    spine = direction_rows(prices)
    google = prices[prices["Ticker"] == "GOOG"].sort_values("Date")["Adj Close"].to_numpy()
    of_google = spine[spine["ticker"] == "GOOG"]
    assert (of_google["direction"] == "up").tolist() == (google[1:] > google[:-1]).tolist()
    assert len(spine) == len(prices) - prices["Ticker"].nunique()
    assert (spine["known_at"] > spine["event_timestamp"]).all()


def test_a_day_ends_at_four_in_new_york() -> None:
    closes = closing_time(pd.Series(["2013-01-15", "2012-07-16"]))
    assert closes.tolist() == [pd.Timestamp("2013-01-15T21:00:00Z"), pd.Timestamp("2012-07-16T20:00:00Z")]


@pytest.fixture(scope="module")
def calendar() -> TtlCalendar:
    view = load_contract(STOCKS).view("stock_direction")
    assert view.ttl_calendar is not None
    return view.ttl_calendar


def test_one_day_of_trading_is_from_one_close_to_the_next(
    prices: pd.DataFrame, calendar: TtlCalendar
) -> None:
    """The ground of the view's TTL, over weekends, holidays, 11 September, and changes of clocks."""
    (view,) = read_toml(STOCKS / "features.toml")["feature_views"]
    assert view["ttl"] == "1d" and view["history"] is True
    spine = direction_rows(prices).drop_duplicates("event_timestamp")
    days = pd.date_range("2000-01-01", "2014-01-01", freq="D", tz=calendar.time_zone)
    is_off = ~days.tz_localize(None).isin(
        calendar.days_on(pd.Timestamp(2000, 1, 1), pd.Timestamp(2014, 1, 1))
    )
    lengths = pd.Series(days[1:] - days[:-1], index=days[:-1])[is_off[:-1]]
    off_before = lengths.cumsum()
    begun = [off_before.index.searchsorted(spine[name]) for name in ("event_timestamp", "known_at")]
    sums = np.concatenate([np.zeros(1, "timedelta64[ns]"), off_before.to_numpy("timedelta64[ns]")])
    aged = (spine["known_at"] - spine["event_timestamp"]).to_numpy() - (sums[begun[1]] - sums[begun[0]])
    assert (aged == np.timedelta64(1, "D")).all() and len(aged) > 3000
    assert set(lengths) == {pd.Timedelta(hours=hours) for hours in (23, 24, 25)}


def test_the_days_off_are_those_of_the_exchange(calendar: TtlCalendar) -> None:
    known = holidays.financial_holidays("NYSE", years=range(2000, 2036))
    assert calendar.days_off == sorted(day for day in known if day.weekday() < 5)
    assert (calendar.time_zone, calendar.weekdays_off) == (EXCHANGE, ["saturday", "sunday"])


def test_prices_and_calendar_agree_and_a_day_that_does_not_is_named(
    rows: pd.DataFrame, calendar: TtlCalendar
) -> None:
    events = rows["event_timestamp"]
    check_days(events, calendar, "it")
    less = replace(calendar, days_off=[day for day in calendar.days_off if day != date(2001, 9, 11)])
    with pytest.raises(DataError, match="it: 2001-09-11, a Tuesday, has no row, and the calendar does not"):
        check_days(events, less, "it")
    more = replace(calendar, days_off=[*calendar.days_off, date(2001, 9, 10)])
    with pytest.raises(DataError, match="2001-09-10, a Monday, has rows, and the calendar has it off"):
        check_days(events, more, "it")
    every = replace(calendar, weekdays_off=["sunday"])
    with pytest.raises(DataError, match=r"2000-03-04, a Saturday, \(and 677 more days\) has no row"):
        check_days(events, every, "it")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("Close", "-1", "AAPL, 2000-03-01: it does not hold that prices are above zero"),
        ("Volume", "-5", "AAPL, 2000-03-01: it does not hold that the volume is not below zero"),
        ("Low", "200", "AAPL, 2000-03-01: it does not hold that the close is between low and high"),
        ("High", "n/a", "prices: column High is no number in row 1: 'n/a'"),
    ],
)
def test_prices_that_cannot_be_are_refused(prices: pd.DataFrame, column: str, value: str, said: str) -> None:
    raw = prices.head(3).astype(str)
    raw.loc[0, column] = value
    with pytest.raises(DataError, match=said):
        derive(Raw(raw), {})


def test_wrong_prices_are_refused_by_name(prices: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="column Adj Close is missing"):
        feature_rows(prices.drop(columns="Adj Close"))
    with pytest.raises(DataError, match="AAPL has two rows of 2000-03-01"):
        feature_rows(pd.concat([prices, prices.head(1)]))
