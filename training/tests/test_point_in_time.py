"""The point-in-time join of `ferrocast historical`, against pandas' merge_asof on real stock prices."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ferrocast_training.store import program

TTL = pd.Timedelta(days=3)
SPINE_ROWS = 20_000

DEFINITIONS = """
project = "stocks"
[[entities]]
name = "ticker"
join_keys = [{ name = "ticker", type = "string" }]
[[feature_views]]
name = "daily"
entity = "ticker"
ttl = "3d"
source = { path = "daily.parquet", timestamp_field = "closed_at" }
features = [
  { name = "close", type = "double" },
  { name = "volume", type = "int64" },
]
[[feature_views]]
name = "adjusted"
entity = "ticker"
source = { path = "adjusted/", timestamp_field = "closed_at" }
features = [{ name = "adj_close", type = "double" }]
"""


def run(folder: Path, *arguments: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FERROCAST_")}
    kept.pop("DATABASE_URL", None)
    command = [str(program()), *arguments, "--models", str(folder / "models")]
    command += ["--data-dir", str(folder / "data")]
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    """Daily prices of five stocks, 2000 to 2013; each is known when the market closes."""
    found = [path for path in files("bokeh-sampledata") or [] if path.name == "stocks.csv.gz"]
    raw = pd.read_csv(str(found[0].locate()))
    return pd.DataFrame(
        {
            "ticker": raw["Ticker"],
            "closed_at": pd.to_datetime(raw["Date"], utc=True) + pd.Timedelta(hours=21),
            "close": raw["Close"].astype("float64"),
            "volume": raw["Volume"].astype("int64"),
            "adj_close": raw["Adj Close"].astype("float64"),
        }
    )


@pytest.fixture(scope="module")
def spine(prices: pd.DataFrame) -> pd.DataFrame:
    """Moments at random, exact closes and the microseconds around them among them, and an unknown ticker."""
    chosen = np.random.default_rng(7)
    rows = prices.iloc[chosen.integers(0, len(prices), SPINE_ROWS)]
    kinds = chosen.integers(0, 4, SPINE_ROWS)
    micros = np.where(kinds == 0, 0, np.where(kinds == 1, -1, np.where(kinds == 2, 1, 0)))
    wander = np.where(kinds == 3, chosen.integers(-(10**12), 10**12, SPINE_ROWS), micros)
    tickers = rows["ticker"].where(chosen.random(SPINE_ROWS) > 0.02, "NOBODY")
    return pd.DataFrame(
        {
            "ticker": tickers.to_numpy(),
            "at": rows["closed_at"].reset_index(drop=True) + pd.to_timedelta(wander, unit="us"),
            "label": chosen.integers(0, 2, SPINE_ROWS),
        }
    )


def expected(spine: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    """What pandas makes of it, in the spine's order."""
    left = spine.assign(row=np.arange(len(spine))).sort_values("at", kind="stable")
    right = prices.sort_values("closed_at", kind="stable")

    def newest(columns: list[str], tolerance: pd.Timedelta | None) -> pd.DataFrame:
        history = right[["ticker", "closed_at", *columns]]
        return pd.merge_asof(
            left, history, left_on="at", right_on="closed_at", by="ticker", tolerance=tolerance
        )

    fresh, ageless = newest(["close", "volume"], TTL), newest(["adj_close"], None)
    joined = fresh.assign(adj_close=ageless["adj_close"]).sort_values("row", kind="stable")
    return joined.reset_index(drop=True)


def test_the_join_is_that_of_pandas(tmp_path: Path, prices: pd.DataFrame, spine: pd.DataFrame) -> None:
    models = tmp_path / "models" / "stocks"
    (models / "adjusted").mkdir(parents=True)
    (models / "features.toml").write_text(DEFINITIONS)
    # Microseconds, as Ferrocast keeps them.
    stored = prices.assign(closed_at=prices["closed_at"].astype("datetime64[us, UTC]"))
    stored[["ticker", "closed_at", "close", "volume"]].to_parquet(models / "daily.parquet")
    for ticker, part in stored.groupby("ticker"):
        part[["ticker", "closed_at", "adj_close"]].to_parquet(models / "adjusted" / f"{ticker}.parquet")
    labels, out = tmp_path / "labels.parquet", tmp_path / "train.parquet"
    spine.assign(at=spine["at"].astype("datetime64[us, UTC]")).to_parquet(labels)
    run(tmp_path, "apply")
    features = "daily:close,daily:volume,adjusted:adj_close"
    asked = ["--spine", str(labels), "--timestamp-field", "at", "--features", features]
    run(tmp_path, "historical", *asked, "--out", str(out))

    made, wanted = pd.read_parquet(out), expected(spine, prices)
    assert list(made.columns) == ["ticker", "at", "label", "close", "volume", "adj_close"]
    for column in ("ticker", "label"):
        assert (made[column].to_numpy() == spine[column].to_numpy()).all()
    for column in ("close", "volume", "adj_close"):
        ours, theirs = made[column].astype("float64"), wanted[column].astype("float64")
        assert ours.isna().equals(theirs.isna()), column
        assert (ours.dropna() == theirs.dropna()).all(), column
    # The comparison is of something: some are too old, some unknown, most are there.
    assert 0.01 < made["close"].isna().mean() < 0.5
    assert made["adj_close"].isna().sum() < made["close"].isna().sum()
