"""The raw files of the packages in the group `data`, as the tests read them."""

from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pandas as pd

from ferrocast_training.open_bandit import Log


def packaged(package: str, file: str) -> Path:
    return Path(str(distribution(package).locate_file(file)))


@cache
def stock_prices() -> pd.DataFrame:
    return pd.read_csv(packaged("bokeh-sampledata", "bokeh_sampledata/_data/stocks.csv.gz"))


@cache
def open_bandit_logs() -> tuple[Log, ...]:
    def table(policy: str, campaign: str, name: str) -> pd.DataFrame:
        return pd.read_csv(packaged("obp", f"obp/dataset/obd/{policy}/{campaign}/{name}.csv"), index_col=0)

    return tuple(
        Log(campaign, policy, table(policy, campaign, campaign), table(policy, campaign, "item_context"))
        for policy in ("random", "bts")
        for campaign in ("all", "men", "women")
    )
