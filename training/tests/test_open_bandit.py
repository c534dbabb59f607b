"""The rows of `propositions`, from the real logs."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from ferrocast_training import open_bandit
from ferrocast_training.errors import DataError
from ferrocast_training.open_bandit import Log
from tests.raw_data import open_bandit_logs

BEGIN = pd.Timestamp("2019-11-24T00:00:00Z")


@pytest.fixture(scope="module")
def logs() -> list[Log]:
    return list(open_bandit_logs())


@pytest.fixture(scope="module")
def impressions(logs: list[Log]) -> pd.DataFrame:
    return open_bandit.impression_rows(logs)


def test_every_impression_and_click_is_there(logs: list[Log], impressions: pd.DataFrame) -> None:
    assert len(impressions) == sum(len(log.impressions) for log in logs) == 60_000
    assert (impressions["clicked"] == "click").sum() == 287
    assert impressions["event_timestamp"].is_monotonic_increasing
    assert impressions.groupby("campaign")["item_id"].nunique().to_dict() == {
        "all": 80,
        "men": 34,
        "women": 46,
    }
    uniform = impressions[impressions["policy"] == "random"].groupby("campaign")["propensity"].max()
    assert (1 / uniform).round().to_dict() == {"all": 80, "men": 34, "women": 46}


def test_items_have_the_same_groups_in_the_files_of_both_policies(logs: list[Log]) -> None:
    """Why a campaign's items may be taken from one of its files: only the hashes differ."""
    for campaign in ("all", "men", "women"):
        first, second = (log.items.sort_values("item_id") for log in logs if log.campaign == campaign)
        for feature in open_bandit.ITEM_FEATURES:
            assert (pd.factorize(first[feature])[0] == pd.factorize(second[feature])[0]).all()
    items = open_bandit.item_rows(logs, BEGIN)
    assert len(items) == items["item_id"].nunique() == 160


def test_a_shopper_is_one_in_all_that_is_known(impressions: pd.DataFrame) -> None:
    shoppers = open_bandit.shopper_rows(impressions)
    assert shoppers["shopper_id"].is_unique
    joined = impressions.merge(shoppers, on="shopper_id", suffixes=("", "_known"))
    for feature in open_bandit.USER_FEATURES:
        assert (joined[feature] == joined[f"{feature}_known"]).all()
    assert (joined["event_timestamp_known"] <= joined["event_timestamp"]).all()


def test_past_clicks_are_of_the_shopper_on_the_item_shown(impressions: pd.DataFrame) -> None:
    affinities = open_bandit.affinity_rows(impressions)
    joined = impressions.merge(affinities, on=["shopper_id", "item_id"], suffixes=("", "_known"))
    assert len(joined) == len(impressions)
    assert (joined["past_clicks"] == joined["past_clicks_known"]).all()
    assert (joined["event_timestamp_known"] <= joined["event_timestamp"]).all()


def test_a_click_rate_knows_of_no_click_after_its_midnight(impressions: pd.DataFrame) -> None:
    midnight = pd.Timestamp("2019-11-27T00:00:00Z")
    past = impressions[impressions["event_timestamp"] < midnight]
    rows = open_bandit.click_rate_rows(impressions)
    then = rows[rows["event_timestamp"] == midnight].set_index("item_id").to_dict("index")
    rate = (past["clicked"] == "click").mean()
    assert set(then) == set(impressions["item_id"])
    for item, part in past.groupby("item_id"):
        clicks = (part["clicked"] == "click").sum()
        assert then[item]["shown"] == len(part)
        assert then[item]["click_rate"] == pytest.approx((clicks + 100 * rate) / (len(part) + 100))


def test_a_position_that_is_no_place_is_refused(logs: list[Log]) -> None:
    wrong = replace(logs[0], impressions=logs[0].impressions.assign(position=4))
    with pytest.raises(DataError, match="the log random/all: position 4 is none of 1, 2, 3"):
        open_bandit.impression_rows([wrong])
