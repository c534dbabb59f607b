"""The rows of `propositions`, from the real logs."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from ferrocast_training.derivations import open_bandit
from ferrocast_training.derivations.open_bandit import Shop
from ferrocast_training.errors import DataError
from ferrocast_training.source import Raw
from tests.raw_data import items_in_the_other_policys_file, open_bandit_raw

BEGIN = pd.Timestamp("2019-11-24T00:00:00Z")


@pytest.fixture(scope="module")
def shop() -> Shop:
    return open_bandit.read_shop(open_bandit_raw())


@pytest.fixture(scope="module")
def impressions(shop: Shop) -> pd.DataFrame:
    return open_bandit.impression_rows(shop)


def test_every_impression_and_click_is_there(shop: Shop, impressions: pd.DataFrame) -> None:
    assert len(impressions) == sum(len(log.impressions) for log in shop.logs) == 60_000
    assert (impressions["clicked"] == "click").sum() == 287
    assert impressions["event_timestamp"].is_monotonic_increasing
    assert impressions.groupby("campaign")["item_id"].nunique().to_dict() == {
        "all": 80,
        "men": 34,
        "women": 46,
    }
    uniform = impressions[impressions["policy"] == "random"].groupby("campaign")["propensity"].max()
    assert (1 / uniform).round().to_dict() == {"all": 80, "men": 34, "women": 46}


def test_items_have_the_same_groups_in_the_files_of_both_policies(shop: Shop) -> None:
    """Why a campaign's items may be taken from one of its files: only the hashes differ."""
    for campaign in ("all", "men", "women"):
        first, second = shop.items[campaign], items_in_the_other_policys_file(campaign)
        assert (first["item_id"].to_numpy() == second["item_id"].to_numpy()).all()
        for feature in open_bandit.ITEM_FEATURES:
            assert (pd.factorize(first[feature])[0] == pd.factorize(second[feature])[0]).all()
    items = open_bandit.item_rows(shop, BEGIN)
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


def test_a_position_that_is_no_place_is_refused(shop: Shop) -> None:
    log = shop.logs[0]
    wrong = replace(shop, logs=[replace(log, impressions=log.impressions.assign(position=4))])
    with pytest.raises(DataError, match="the log random/all: position 4 is none of 1, 2, 3"):
        open_bandit.impression_rows(wrong)


def test_a_log_without_its_items_is_refused() -> None:
    raw = open_bandit_raw()
    less = {name: frame for name, frame in raw.more.items() if name != "men_items"}
    with pytest.raises(DataError, match=r"\[source\] more: men_items is missing"):
        open_bandit.read_shop(Raw(raw.rows, less))


def test_a_cell_that_is_no_number_is_refused() -> None:
    raw = open_bandit_raw()
    wrong = raw.rows.copy()
    wrong.loc[3, "position"] = "left"
    with pytest.raises(DataError, match="random_all: column position is no number in row 4: 'left'"):
        open_bandit.read_shop(Raw(wrong, raw.more))
