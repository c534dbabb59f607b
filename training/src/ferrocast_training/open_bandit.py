"""The logs of Open Bandit to the rows of the views of `propositions`, and to impressions with their clicks.

The log of a campaign (all, men, women) by a policy (random, bts) has an impression a row: which of the
campaign's items was shown at which of three places to whom, how probable that was, and whether it was
clicked.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ferrocast_training.errors import DataError

USER_FEATURES = [f"user_feature_{number}" for number in range(4)]
ITEM_FEATURES = [f"item_feature_{number}" for number in range(4)]
AFFINITY = "user-item_affinity_"
PLACES = {1: "left", 2: "center", 3: "right"}
# A new item's click rate counts as this many impressions at the shop's own rate.
PRIOR_IMPRESSIONS = 100.0
ID_DIGITS = 12


@dataclass(frozen=True)
class Log:
    """One campaign by one policy: impressions, and what is known of the campaign's items."""

    campaign: str
    policy: str
    impressions: pd.DataFrame
    items: pd.DataFrame


def impression_rows(logs: list[Log]) -> pd.DataFrame:
    """Return every impression in the order of time, with the names that the views use.

    Columns: `item_id`, `shopper_id`, `position`, `event_timestamp`, `clicked` ("click" or "none"),
    `propensity`, `campaign`, `policy`; further the shopper's features and `past_clicks` of this shopper on
    this item.
    """
    parts = [_impressions(log) for log in logs]
    rows = pd.concat(parts, ignore_index=True)
    return rows.sort_values(
        ["event_timestamp", "item_id", "position", "policy"], kind="stable", ignore_index=True
    )


def item_rows(logs: list[Log], known_at: pd.Timestamp) -> pd.DataFrame:
    """Return a row an item: `item_id`, `event_timestamp`, `campaign` and the shop's own item features.

    The hashed features have other hashes in the files of other policies; a campaign's items are taken from
    its log by the random policy.
    """
    parts = [_items(log, known_at) for log in logs if log.policy == "random"]
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


def _impressions(log: Log) -> pd.DataFrame:
    raw = log.impressions
    if strange := sorted(set(raw["position"]) - set(PLACES)):
        raise DataError(f"the log {log.policy}/{log.campaign}: position {strange[0]} is none of 1, 2, 3")
    affinities = raw[[f"{AFFINITY}{number}" for number in range(len(log.items))]].to_numpy()
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


def _items(log: Log, known_at: pd.Timestamp) -> pd.DataFrame:
    items = log.items.sort_values("item_id", ignore_index=True)
    rows = pd.DataFrame(
        {
            "item_id": _item_ids(log.campaign, items["item_id"]),
            "event_timestamp": known_at,
            "campaign": log.campaign,
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
