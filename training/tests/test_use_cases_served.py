"""stock_direction and propositions on the running server: features and scores are those of training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ferrocast_training.contract import Contract
from ferrocast_training.steps.step import STORE, Context
from ferrocast_training.steps.train import load_trained
from ferrocast_training.store import Store
from ferrocast_training.tensors import frame_of_values, model_frame
from ferrocast_training.views import write_parquet

from .serving import call, ferrocast

ROWS = 200
DAY = pd.Timedelta(days=1)
MICROSECOND = pd.Timedelta(microseconds=1)
MOVING = ["shown", "click_rate"]  # counted up to the midnight before the impression


def store_of(context: Context) -> Store:
    return Store(context.models, context.result("prepare") / STORE)


def features_in(answer: Any, contract: Contract) -> pd.DataFrame:
    """The model frame of the feature values that predictions were made from."""
    names = [f"{each.view}:{each.name}" for each in contract.inputs]
    rows = [[each["features"][name] for name in names] for each in answer["predictions"]]
    return frame_of_values(rows, contract)


def scores_in(answer: Any) -> np.ndarray:
    return np.array([each["score"] for each in answer["predictions"]])


@pytest.fixture(scope="module")
def moved(stocks: Context, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, pd.DataFrame]]:
    """A server whose stocks were traded until an hour ago, and the rows of its view."""
    folder = tmp_path_factory.mktemp("moved")
    shutil.copytree(stocks.models, folder / "models")
    path = folder / "models" / "stock_direction" / "data" / "stock_direction.parquet"
    rows = pd.read_parquet(path)
    now = pd.Timestamp.now("UTC").floor("s")
    rows["event_timestamp"] += now - pd.Timedelta(hours=1) - rows["event_timestamp"].max()
    write_parquet(rows, path)
    store = Store(folder / "models", folder / "store")
    store.apply(stocks.contract)
    store.materialize(stocks.contract)
    with ferrocast(store, folder) as url:
        yield url, rows


def test_the_latest_day_is_scored_as_in_training(stocks: Context, moved: tuple[str, pd.DataFrame]) -> None:
    url, rows = moved
    latest = rows.sort_values("event_timestamp").groupby("ticker").tail(1)
    asked = {"entities": [{"ticker": name} for name in latest["ticker"]], "includeFeatures": True}
    answer = call(f"{url}/v1/models/stock_direction:predictByEntity", asked)
    assert len(answer["predictions"]) == 5
    expected = model_frame(latest.reset_index(drop=True), stocks.contract)
    pd.testing.assert_frame_equal(features_in(answer, stocks.contract), expected, check_exact=True)
    assert np.max(np.abs(scores_in(answer) - load_trained(stocks).scores(expected))) < 1e-6
    assert all(each["violations"] == [] for each in answer["predictions"])


def test_a_day_that_is_long_past_is_not_taken_for_today(stocks: Context, tmp_path: Path) -> None:
    """The committed prices end in 2013: outside the TTL they are missing, and the answer says so."""
    with ferrocast(store_of(stocks), tmp_path) as url:
        asked = {"entities": [{"ticker": "AAPL"}], "includeFeatures": True}
        answer = call(f"{url}/v1/models/stock_direction:predictByEntity", asked)
    (made,) = answer["predictions"]
    assert set(made["featureStatuses"].values()) == {"OUTSIDE_TTL"}
    assert [each["kind"] for each in made["violations"]] == ["TOO_OLD"] * 12
    nothing = frame_of_values([[None] * 12], stocks.contract)
    assert abs(made["score"] - load_trained(stocks).scores(nothing)[0]) < 1e-6


def test_200_days_are_served_by_their_moment_as_they_were_trained_on(stocks: Context, tmp_path: Path) -> None:
    """As a person would ask: a ticker and a moment, which is the close or some hours after it."""
    dataset, contract = stocks.dataset(), stocks.contract
    random = np.random.default_rng(6)
    chosen = np.sort(random.choice(len(dataset.kept), ROWS, replace=False))
    moments = dataset.times.iloc[chosen] + pd.to_timedelta(random.integers(0, 20, ROWS), unit="h")
    asked = [
        {"ticker": ticker, "timestamp": moment.isoformat()}
        for ticker, moment in zip(dataset.kept["ticker"].iloc[chosen], moments, strict=True)
    ]
    with ferrocast(store_of(stocks), tmp_path) as url:
        made = [call(f"{url}/predict/ticker", body) for body in asked]
    assert {answer["model"] for answer in made} == {"stock_direction"}
    answer = {"predictions": [each["prediction"] for each in made]}
    trained_on = model_frame(dataset.features.iloc[chosen].reset_index(drop=True), contract)
    pd.testing.assert_frame_equal(features_in(answer, contract), trained_on, check_exact=True)
    assert np.max(np.abs(scores_in(answer) - load_trained(stocks).scores(trained_on))) < 1e-6
    assert all(each["violations"] == [] for each in answer["predictions"])


def test_null_is_the_latest_day(stocks: Context, moved: tuple[str, pd.DataFrame]) -> None:
    url, rows = moved
    days = rows[rows["ticker"] == "AAPL"].sort_values("event_timestamp").tail(2)
    expected = load_trained(stocks).scores(model_frame(days.reset_index(drop=True), stocks.contract))

    def asked(**moment: str | None) -> Any:
        return call(f"{url}/predict/ticker", {"ticker": "AAPL"} | moment)

    null, left_out = asked(timestamp=None), asked()
    before = asked(timestamp=(days["event_timestamp"].iloc[1] - pd.Timedelta(seconds=1)).isoformat())
    for answer, score in ((null, expected[1]), (left_out, expected[1]), (before, expected[0])):
        assert answer["model"] == "stock_direction"
        assert abs(answer["prediction"]["score"] - score) < 1e-6
        assert set(answer["prediction"]["featureStatuses"].values()) == {"PRESENT"}
    assert expected[0] != expected[1]


def ranges_at(moments: pd.DataFrame, store: Store, folder: Path) -> pd.Series[float]:
    """The `range_1d` that a training set has of each of `moments` [ticker, at]."""
    write_parquet(moments.reset_index(drop=True), folder / "spine.parquet")
    store.historical(folder / "spine.parquet", "at", ["stock_direction:range_1d"], folder / "joined.parquet")
    ranges: pd.Series[float] = pq.read_table(folder / "joined.parquet").to_pandas()["range_1d"]
    return ranges.set_axis(moments.index)


def test_the_store_knows_what_each_moment_knew(stocks: Context, tmp_path: Path) -> None:
    """All closes, just before each, and just before the next: a day of trading, in 13 years without a gap."""
    dataset, store = stocks.dataset(), store_of(stocks)
    closes = dataset.kept[["ticker"]].assign(at=dataset.times)
    of_the_day = dataset.features["range_1d"].astype("float32").set_axis(closes.index)
    ordered = closes.assign(value=of_the_day).sort_values(["ticker", "at"])
    of_the_day_before = ordered.groupby("ticker")["value"].shift(1).loc[closes.index]
    next_close = pd.to_datetime(dataset.kept["known_at"], utc=True)

    def found(moments: pd.Series[pd.Timestamp]) -> pd.Series[float]:
        return ranges_at(closes.assign(at=moments), store, tmp_path)

    assert found(closes["at"]).equals(of_the_day)
    assert found(closes["at"] - MICROSECOND).equals(of_the_day_before)
    assert found(next_close - MICROSECOND).equals(of_the_day)


def test_the_last_day_holds_until_the_next_close_in_training_and_serving(
    stocks: Context, tmp_path: Path
) -> None:
    """The last prices are of a Friday: they are fresh until 16:00 on Monday, and not a microsecond longer."""
    last, store = pd.Timestamp("2013-03-01T21:00:00Z"), store_of(stocks)
    monday = last + 3 * DAY
    moments = [last, last + DAY, last + 2 * DAY, monday, monday + MICROSECOND, last + 4 * DAY]
    spine = pd.DataFrame({"ticker": "AAPL", "at": pd.Series(moments).astype("datetime64[us, UTC]")})
    trained_on = ranges_at(spine, store, tmp_path)
    assert trained_on.notna().tolist() == [True, True, True, True, False, False]
    assert trained_on.dropna().nunique() == 1
    with ferrocast(store, tmp_path) as url:
        for moment, expected in zip(moments, trained_on, strict=True):
            asked = {"features": ["stock_direction:range_1d"], "entities": [{"ticker": "AAPL"}]}
            answer = call(f"{url}/v1/features:get", asked | {"asOf": moment.isoformat(), "format": "ROWS"})
            (row,) = answer["rows"]
            status = "OUTSIDE_TTL" if pd.isna(expected) else "PRESENT"
            assert row["statuses"] == {"stock_direction:range_1d": status}, moment
            value = row["values"]["stock_direction:range_1d"]
            assert value is None if pd.isna(expected) else np.float32(value) == np.float32(expected)


def test_the_clicks_of_200_impressions_are_served_as_they_were_trained_on(
    shop: Context, tmp_path: Path
) -> None:
    """The two inputs that move, each as of its impression's moment; the others are compared below."""
    dataset = shop.dataset()
    rows = np.random.default_rng(5).choice(len(dataset.kept), ROWS, replace=False)
    names = [f"fashion_item_clicks:{name}" for name in MOVING]
    with ferrocast(store_of(shop), tmp_path) as url:
        served = [
            call(
                f"{url}/v1/features:get",
                {
                    "features": names,
                    "entities": [{"item_id": item}],
                    "format": "ROWS",
                    "asOf": moment.isoformat(),
                },
            )["rows"][0]["values"]
            for item, moment in zip(dataset.kept["item_id"].iloc[rows], dataset.times.iloc[rows], strict=True)
        ]
    trained_on = dataset.features.iloc[rows]
    for name in MOVING:
        wanted = [None if pd.isna(value) else value for value in trained_on[name]]
        assert [each[f"fashion_item_clicks:{name}"] for each in served] == wanted
        assert trained_on[name].nunique() > 20


def test_items_are_scored_for_shoppers_as_in_training(shop: Context, tmp_path: Path) -> None:
    """The newest that the store has of 200 pairs of the log, and the score that the model gives it."""
    dataset, contract = shop.dataset(), shop.contract
    rows = np.random.default_rng(4).choice(len(dataset.kept), ROWS, replace=False)
    keys = dataset.kept.iloc[rows][["item_id", "shopper_id", "position"]]
    entities = keys.astype(object).to_dict("records")
    with ferrocast(store_of(shop), tmp_path) as url:
        model = f"{url}/v1/models/propositions"
        answer = call(f"{model}:predictByEntity", {"entities": entities, "includeFeatures": True})
        served = features_in(answer, contract)
        values = [
            {name.split(":")[1]: value for name, value in each["features"].items()}
            for each in answer["predictions"]
        ]
        by_rows = call(f"{model}:predict", {"rows": values})

    trained_on = model_frame(dataset.features.iloc[rows].reset_index(drop=True), contract)
    pd.testing.assert_frame_equal(served.drop(columns=MOVING), trained_on.drop(columns=MOVING))
    clicks = pd.read_parquet(contract.view("fashion_item_clicks").path).sort_values("event_timestamp")
    newest = clicks.groupby("item_id").tail(1).set_index("item_id")["shown"]
    assert served["shown"].to_list() == newest.loc[keys["item_id"]].to_list()
    assert np.max(np.abs(scores_in(answer) - load_trained(shop).scores(served))) < 1e-6
    assert (scores_in(by_rows) == scores_in(answer)).all()
