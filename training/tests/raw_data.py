"""The raw files of the packages in the group `data`, as the tests read them."""

from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pandas as pd

from ferrocast_training.source import Raw


def packaged(package: str, file: str) -> Path:
    return Path(str(distribution(package).locate_file(file)))


@cache
def stock_prices() -> pd.DataFrame:
    return pd.read_csv(packaged("bokeh-sampledata", "bokeh_sampledata/_data/stocks.csv.gz"))


@cache
def open_bandit_raw() -> Raw:
    """Every file of the source, in the names that the derivation knows; both item files of each campaign."""

    def table(policy: str, campaign: str, name: str) -> pd.DataFrame:
        return pd.read_csv(packaged("obp", f"obp/dataset/obd/{policy}/{campaign}/{name}.csv"), dtype=str)

    campaigns = ("all", "men", "women")
    logs = {
        f"{policy}_{name}": table(policy, name, name) for policy in ("random", "bts") for name in campaigns
    }
    items = {f"{name}_items": table("random", name, "item_context") for name in campaigns}
    return Raw(logs.pop("random_all"), logs | items)


def items_in_the_other_policys_file(campaign: str) -> pd.DataFrame:
    return pd.read_csv(packaged("obp", f"obp/dataset/obd/bts/{campaign}/item_context.csv"))
