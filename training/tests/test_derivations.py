"""Derivations: rows with labels, and views that have rows of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from ferrocast_training.contract import Contract, load_contract
from ferrocast_training.derivations import derive
from ferrocast_training.derivations.derivation import Derived
from ferrocast_training.errors import DataError, SettingsError
from ferrocast_training.schema import clean, clean_view
from ferrocast_training.settings import Column, UseCase, load_use_case
from ferrocast_training.source import Raw
from ferrocast_training.views import label_rows, write_csv, write_labels, write_own_view

from .conftest import TRAINING

STOCKS = TRAINING.parent / "models" / "stock_direction"
CLOSES = pd.to_datetime(["2020-01-02T21:00Z", "2020-01-03T21:00Z"])


@pytest.fixture
def stocks() -> UseCase:
    """The use case with one feature only."""
    use_case = load_use_case(TRAINING / "usecases" / "stock_direction.toml")
    return replace(use_case, schema={"rsi_14": Column("float", min=0, max=100)})


@pytest.fixture
def definitions(tmp_path: Path) -> Contract:
    contract = load_contract(STOCKS)
    view = contract.views["stock_direction"]
    less = replace(view, path=tmp_path / "days.parquet", features={"rsi_14": "float"})
    inputs = [each for each in contract.inputs if each.name == "rsi_14"]
    return replace(contract, folder=tmp_path, views={view.name: less}, inputs=inputs)


def days(*rsi: float) -> pd.DataFrame:
    return pd.DataFrame({"ticker": "A", "event_timestamp": CLOSES[: len(rsi)], "rsi_14": list(rsi)})


def labelled(count: int = 1) -> pd.DataFrame:
    return pd.DataFrame(
        {"ticker": "A", "direction": "up", "known_at": CLOSES[1], "event_timestamp": CLOSES[:count]}
    )


def test_without_a_derivation_the_rows_are_the_raw_ones() -> None:
    raw = Raw(pd.DataFrame({"a": ["1"]}))
    assert derive(raw, None) == Derived(raw.rows)


def test_a_views_own_rows_are_cleaned_and_counted(stocks: UseCase, definitions: Contract) -> None:
    view = definitions.view("stock_direction")
    kept, report = clean(labelled(), stocks, {"rsi_14"})
    assert list(kept) == ["known_at", "direction"]
    missing = replace(stocks, schema={"rsi_14": replace(stocks.schema["rsi_14"], on_invalid="missing")})
    rows = clean_view(days(50.0, 170.0), view, missing, report)
    assert list(rows) == ["ticker", "event_timestamp", "rsi_14"]
    assert rows["rsi_14"].to_list() == [50.0, pd.NA]
    assert report.columns["rsi_14"].invalid == 1
    assert "rsi_14: 1 invalid entries made missing" in "\n".join(report.lines())
    dropping = replace(stocks, schema={"rsi_14": replace(stocks.schema["rsi_14"], on_invalid="drop_row")})
    assert clean_view(days(50.0, 170.0), view, dropping, report)["rsi_14"].to_list() == [50.0]
    with pytest.raises(
        DataError, match=r"column rsi_14: 1 invalid entries, first row 2: 170\.0 is above 100"
    ):
        clean_view(days(50.0, 170.0), view, stocks, report)


def test_a_view_without_its_key_is_refused(stocks: UseCase, definitions: Contract) -> None:
    _, report = clean(labelled(), stocks, {"rsi_14"})
    with pytest.raises(DataError, match="column ticker is missing"):
        clean_view(days(50.0).drop(columns="ticker"), definitions.view("stock_direction"), stocks, report)


def test_two_rows_of_one_moment_are_refused(definitions: Contract) -> None:
    twice = pd.concat([days(50.0), days(60.0)])
    with pytest.raises(DataError, match=r"days\.parquet: 1 rows have the key and time of others"):
        write_own_view(twice, definitions.view("stock_direction"))
    assert not (definitions.folder / "days.parquet").exists()


def test_a_view_that_is_not_defined_is_refused(definitions: Contract) -> None:
    with pytest.raises(SettingsError, match="there is no feature view weeks"):
        definitions.view("weeks")


def test_labels_keep_what_evaluations_need(stocks: UseCase, definitions: Contract) -> None:
    kept, _ = clean(labelled(), stocks, {"rsi_14"})
    rows = kept.assign(ticker="A", event_at=CLOSES[:1])
    path = write_labels(label_rows(rows, stocks, definitions), stocks, definitions)
    table = pq.read_table(path)
    assert table.column_names == ["ticker", "event_timestamp", "direction", "known_at"]
    assert str(table.schema.field("event_timestamp").type) == "timestamp[us, tz=UTC]"
    assert table.schema.metadata is None
    assert table["known_at"][0].as_py() == CLOSES[1].to_pydatetime()


def test_a_label_column_that_is_not_there_is_refused(stocks: UseCase) -> None:
    with pytest.raises(DataError, match="column known_at is missing"):
        clean(labelled().drop(columns="known_at"), stocks, {"rsi_14"})


def test_labels_of_another_form_are_refused(stocks: UseCase, definitions: Contract) -> None:
    other = replace(stocks, label=replace(stocks.label, file="labels.xlsx"))
    with pytest.raises(SettingsError, match=r"\[label\] file has to be \.parquet or \.csv"):
        write_labels(labelled(), other, definitions)


def test_points_in_time_lose_nothing_in_csv(tmp_path: Path) -> None:
    moments = pd.DataFrame(
        {"at": pd.to_datetime(["2020-01-02T03:04:05.000006Z", "2020-01-02T03:04:05.000000Z"])}
    )
    write_csv(moments, tmp_path / "moments.csv")
    assert (pd.to_datetime(pd.read_csv(tmp_path / "moments.csv")["at"]) == moments["at"]).all()
    write_csv(moments.tail(1), tmp_path / "seconds.csv")
    assert (tmp_path / "seconds.csv").read_text() == "at\n2020-01-02T03:04:05Z\n"
