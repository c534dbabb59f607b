"""The logs of Open Bandit to the rows of the views of `propositions`, and to impressions with their clicks.

The log of a campaign (all, men, women) by a policy (random, bts) has an impression a row: which of the
campaign's items was shown at which of three places to whom, how probable that was, and whether it was
clicked.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ferrocast_training.derivations.derivation import Derived, numbers
from ferrocast_training.errors import DataError
from ferrocast_training.source import Raw

USER_FEATURES = [f"user_feature_{number}" for number in range(4)]
ITEM_FEATURES = [f"item_feature_{number}" for number in range(4)]
AFFINITY = "user-item_affinity_"
MAIN_FILE = "random_all"
LOG_NUMBERS = ["item_id", "position", "click", "propensity_score"]
ITEM_NUMBERS = ["item_id", "item_feature_0"]
PLACES = {1: "left", 2: "center", 3: "right"}
# A new item's click rate counts as this many impressions at the shop's own rate.
PRIOR_IMPRESSIONS = 100.0
ID_DIGITS = 12


@dataclass(frozen=True)
class Log:
    """One campaign by one policy: an impression a row."""

    campaign: str
    policy: str
    impressions: pd.DataFrame


@dataclass(frozen=True)
class Shop:
    """All logs, and by campaign what the shop says of its items."""

    logs: list[Log]
    items: dict[str, pd.DataFrame]


def derive(raw: Raw, params: Mapping[str, Any]) -> Derived:
    """Return the impressions as rows, and the views of items, shoppers and places."""
    shop = read_shop(raw)
    impressions = impression_rows(shop)
    begin = impressions["event_timestamp"].min().floor("D")
    views = {
        "fashion_item": item_rows(shop, begin),
        "fashion_item_clicks": click_rate_rows(impressions),
        "shopper": shopper_rows(impressions),
        "shopper_affinity": affinity_rows(impressions),
        "page_place": place_rows(begin),
    }
    return Derived(impressions.drop(columns=[*USER_FEATURES, "past_clicks"]), views)


def read_shop(raw: Raw) -> Shop:
    """Give the raw files their meaning: the main one is the first log, the others say by name what they are.

    Names are `<policy>_<campaign>` and `<campaign>_items`.
    """
    files = {MAIN_FILE: raw.rows} | raw.more
    logs, items = [], {}
    for name, frame in files.items():
        first, _, second = name.partition("_")
        if second == "items":
            items[first] = numbers(frame, ITEM_NUMBERS, name)
        else:
            affinities = [column for column in frame.columns if str(column).startswith(AFFINITY)]
            logs.append(Log(second, first, numbers(frame, [*LOG_NUMBERS, *affinities], name)))
    if absent := sorted({log.campaign for log in logs} - items.keys()):
        raise DataError(f"[source] more: {absent[0]}_items is missing: the items of the campaign {absent[0]}")
    return Shop(logs, items)


def impression_rows(shop: Shop) -> pd.DataFrame:
    """Return every impression in the order of time, with the names that the views use.

    Columns: `item_id`, `shopper_id`, `position`, `event_timestamp`, `clicked` ("click" or "none"),
    `propensity`, `campaign`, `policy`; further the shopper's features and `past_clicks` of this shopper on
    this item.
    """
    parts = [_impressions(log, shop.items[log.campaign]) for log in shop.logs]
    rows = pd.concat(parts, ignore_index=True)
    return rows.sort_values(
        ["event_timestamp", "item_id", "position", "policy"], kind="stable", ignore_index=True
    )


def item_rows(shop: Shop, known_at: pd.Timestamp) -> pd.DataFrame:
    """Return a row an item: `item_id`, `event_timestamp`, `campaign` and the shop's own item features.

    The source hashes the items' texts anew for each policy: one file of a campaign stands for both.
    """
    parts = [_items(campaign, items, known_at) for campaign, items in shop.items.items()]
    return pd.concat(parts, ignore_index=True).sort_values("item_id", ignore_index=True)


def shopper_rows(impressions: pd.DataFrame) -> pd.DataFrame:
    """Return a row a shopper, known from their first impression on."""
    first = impressions.drop_duplicates("shopper_id")  # impressions come in the order of time
    columns = ["shopper_id", "event_timestamp", *USER_FEATURES]
    return first[columns].sort_values("shopper_id", ignore_index=True)


def affinity_rows(impressions: pd.DataFrame) -> pd.DataFrame:
    """Return a row a shopper and item that they were shown: how often they had clicked it before the log."""
    shown = impressions.drop_duplicates(["shopper_id", "item_id"])
    columns = ["shopper_id", "item_id", "event_timestamp", "past_clicks"]
    return shown[columns].sort_values(["shopper_id", "item_id"], ignore_index=True)


def click_rate_rows(impressions: pd.DataFrame) -> pd.DataFrame:
    """Return a row an item and midnight (UTC): what the log had seen of the item until then.

    `shown`: impressions until then; `click_rate`: clicks per impression, drawn to the rate of all items as
    if the item had been shown `PRIOR_IMPRESSIONS` times at it. Nothing of the day that begins is in its
    row.
    """
    day = impressions["event_timestamp"].dt.floor("D")
    is_click = impressions["clicked"].eq("click").astype("int64")
    by_day = is_click.groupby([day, impressions["item_id"]]).agg(["size", "sum"])
    days, items = sorted(day.unique()), sorted(impressions["item_id"].unique())
    every = pd.MultiIndex.from_product([days, items], names=["event_timestamp", "item_id"])
    seen = by_day.reindex(every, fill_value=0).groupby(level="item_id").cumsum()
    all_items = seen.groupby(level="event_timestamp").transform("sum")
    rate = all_items["sum"] / all_items["size"]
    rows = pd.DataFrame(
        {
            "shown": seen["size"].astype("int64"),
            "click_rate": (seen["sum"] + PRIOR_IMPRESSIONS * rate) / (seen["size"] + PRIOR_IMPRESSIONS),
        }
    ).reset_index()
    rows["event_timestamp"] += pd.Timedelta(days=1)
    return rows[["item_id", "event_timestamp", "shown", "click_rate"]].sort_values(
        ["item_id", "event_timestamp"], ignore_index=True
    )


def place_rows(known_at: pd.Timestamp) -> pd.DataFrame:
    """Return a row a place on the page, by its position."""
    return pd.DataFrame(
        {"position": list(PLACES), "event_timestamp": known_at, "place": list(PLACES.values())}
    )


def _impressions(log: Log, items: pd.DataFrame) -> pd.DataFrame:
    raw = log.impressions
    if strange := sorted(set(raw["position"]) - set(PLACES)):
        raise DataError(f"the log {log.policy}/{log.campaign}: position {strange[0]} is none of 1, 2, 3")
    affinities = raw[[f"{AFFINITY}{number}" for number in range(len(items))]].to_numpy()
    shown = raw["item_id"].to_numpy()
    rows = pd.DataFrame(
        {
            "item_id": _item_ids(log.campaign, raw["item_id"]),
            "shopper_id": _shopper_ids(log, affinities),
            "position": raw["position"].astype("int64"),
            "event_timestamp": pd.to_datetime(raw["timestamp"], format="ISO8601", utc=True).astype(
                "datetime64[us, UTC]"
            ),
            "clicked": np.where(raw["click"] == 1, "click", "none"),
            "propensity": raw["propensity_score"].astype("float64"),
            "campaign": log.campaign,
            "policy": log.policy,
            "past_clicks": affinities[np.arange(len(raw)), shown].astype("int64"),
        }
    )
    return rows.join(raw[USER_FEATURES])


def _items(campaign: str, items: pd.DataFrame, known_at: pd.Timestamp) -> pd.DataFrame:
    items = items.sort_values("item_id", ignore_index=True)
    rows = pd.DataFrame(
        {
            "item_id": _item_ids(campaign, items["item_id"]),
            "event_timestamp": known_at,
            "campaign": campaign,
        }
    )
    return rows.join(items[ITEM_FEATURES])


def _item_ids(campaign: str, numbers: "pd.Series[int]") -> "pd.Series[str]":
    return campaign + "-" + numbers.astype("string").str.zfill(2)


def _shopper_ids(log: Log, affinities: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> list[str]:
    """Name the shoppers by what is known of them; the log has no ids, so who is alike in all of it is one."""
    known = log.impressions[USER_FEATURES].to_numpy()
    counts = affinities.astype("<i8")
    names = ["\x1f".join([log.campaign, *features]).encode() for features in known]
    return [
        hashlib.sha256(name + row.tobytes()).hexdigest()[:ID_DIGITS]
        for name, row in zip(names, counts, strict=True)
    ]
