"""stock_direction and propositions through all steps: the same files again, and measures that make sense."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ferrocast_training.derivations.stocks import FEATURES, feature_rows
from ferrocast_training.errors import DataError, SettingsError
from ferrocast_training.evaluations import Evaluated
from ferrocast_training.evaluations.baseline import evaluate_baseline
from ferrocast_training.evaluations.by_year import evaluate_by_year
from ferrocast_training.evaluations.cold_start import evaluate_cold_start
from ferrocast_training.evaluations.ranking import evaluate_off_policy
from ferrocast_training.explore import look
from ferrocast_training.steps.step import Context
from ferrocast_training.steps.train import load_trained
from ferrocast_training.tensors import model_frame
from tests.raw_data import stock_prices

from .conftest import TRAINING

MODELS = TRAINING.parent / "models"
BY_HAND = {"features.toml", "model.toml", "LICENSE.md", "APACHE-2.0.txt"}


def evaluated(context: Context) -> Evaluated:
    dataset, trained = context.dataset(), load_trained(context)
    frame = model_frame(dataset.features, context.contract)
    scores = trained.scores(frame)
    return Evaluated(context.use_case, context.contract, dataset, frame, trained, scores, 0.5)


def metrics_of(context: Context) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((context.version_folder / "metrics.json").read_text())
    return read


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in BY_HAND
    }


@pytest.mark.parametrize("name", ["stocks", "shop"])
def test_the_committed_files_are_what_a_run_makes(name: str, request: pytest.FixtureRequest) -> None:
    context: Context = request.getfixturevalue(name)
    made = files_of(context.contract.folder)
    committed = files_of(MODELS / context.use_case.model)
    assert sorted(made) == sorted(committed)
    assert [path for path, content in made.items() if content != committed[path]] == []


def test_what_is_trained_on_is_what_was_derived(stocks: Context) -> None:
    """The training set has gone through the feature store; at each close it held that day's indicators."""
    dataset = stocks.dataset()
    derived = feature_rows(stock_prices()).rename(columns={"event_timestamp": "at"})
    spine = dataset.kept[["ticker"]].assign(at=dataset.times).astype({"ticker": "object"})
    expected = spine.merge(derived.astype({"ticker": "object"}), on=["ticker", "at"], how="left")
    assert len(expected) == len(dataset.features) == 12_149
    for name in FEATURES:
        found = dataset.features[name].to_numpy(dtype=np.float32, na_value=np.nan)
        np.testing.assert_array_equal(found, expected[name].to_numpy(), err_msg=name)


def test_the_parts_follow_each_other_in_time(stocks: Context, shop: Context) -> None:
    for context in (stocks, shop):
        dataset = context.dataset()
        train_, validation, test = (dataset.times.iloc[rows] for rows in vars(dataset.parts).values())
        assert train_.max() < validation.min() <= validation.max() < test.min()


def test_markets_give_no_more_than_chance(stocks: Context) -> None:
    walked = metrics_of(stocks)["walk_forward"]
    assert [fold["year"] for fold in walked["folds"]] == list(range(2004, 2014))
    low, high = walked["all"]["mean_roc_auc_95"]
    assert low < 0.5 < high
    assert 0.48 < walked["all"]["mean_roc_auc"] < 0.52


def test_shuffled_directions_give_no_more_than_chance(stocks: Context) -> None:
    of = evaluated(stocks)
    shuffled = np.random.default_rng(3).permutation(of.dataset.labels)
    changed = replace(of, dataset=replace(of.dataset, labels=shuffled))
    walked = evaluate_by_year(
        changed, {"first_test_year": 2008, "known_at": "known_at", "resamples": 100}
    ).metrics
    assert abs(walked["all"]["mean_roc_auc"] - 0.5) < 0.025


def leaking(context: Context) -> Evaluated:
    """As if `return_1d` of a day were that of the next one, by a shift in the wrong direction."""
    of = evaluated(context)
    tomorrow = of.dataset.features["return_1d"].groupby(of.dataset.kept["ticker"]).shift(-1)
    dataset = replace(of.dataset, features=of.dataset.features.assign(return_1d=tomorrow))
    return replace(of, dataset=dataset, frame=model_frame(dataset.features, of.contract))


def test_a_leak_is_found_by_explore_and_by_evaluate(stocks: Context) -> None:
    of = leaking(stocks)
    hints = look(stocks.use_case, stocks.contract, of.dataset).hints
    assert any("return_1d alone ranks with ROC-AUC 1.000" in hint for hint in hints)
    assert not look(stocks.use_case, stocks.contract, stocks.dataset()).hints
    walked = evaluate_by_year(of, {"first_test_year": 2010, "known_at": "known_at", "resamples": 100}).metrics
    assert walked["all"]["mean_roc_auc"] > 0.95
    assert walked["all"]["years_above_half"] == walked["all"]["years"]


def test_the_models_of_a_shop_are_held_against_each_other(shop: Context) -> None:
    metrics = metrics_of(shop)
    held = metrics["baseline"]
    assert held["model"]["library"] == "xgboost" and held["baseline"]["library"] == "logistic_regression"
    assert held["model"]["test"] == {name: metrics["test"][name] for name in held["model"]["test"]}
    for measure, kinds in held["test_95"].items():
        for kind in ("model", "baseline"):
            assert kinds[kind][0] < held[kind]["test"][measure] < kinds[kind][1], (measure, kind)
        difference = held["model"]["test"][measure] - held["baseline"]["test"][measure]
        assert kinds["difference"][0] < difference < kinds["difference"][1]
    for logging, rows in (("bts", 8_145), ("random", 8_286)):
        policies = metrics["off_policy"][logging]
        assert set(policies) == {
            *("as logged", "best click_rate"),
            *("best by xgboost", "best by logistic_regression"),
        }
        for name, found in policies.items():
            assert found["rows"] == rows
            assert 0 <= found["ipw_95"][0] <= found["ipw"] <= found["ipw_95"][1], name
    # By chance, a policy shows what a random one of 34 to 80 items was: about one in 50.
    assert 0.01 < metrics["off_policy"]["random"]["best by xgboost"]["rows_shared"] / 8_286 < 0.04


def test_items_without_a_click_in_training_stand_apart(shop: Context) -> None:
    apart, dataset = metrics_of(shop)["cold_start"], shop.dataset()
    assert apart["cold"]["rows"] + apart["warm"]["rows"] == len(dataset.parts.test)
    assert apart["cold"]["positives"] + apart["warm"]["positives"] == dataset.labels[dataset.parts.test].sum()
    learned = dataset.kept["item_id"].iloc[dataset.parts.train]
    clicked = learned[dataset.labels[dataset.parts.train] == 1].nunique()
    assert apart["cold"]["entities"] + clicked >= dataset.kept["item_id"].nunique() - 1
    assert apart["warm"]["entities"] <= clicked


def test_policies_are_not_measured_on_other_data_than_was_trained_on(shop: Context, tmp_path: Path) -> None:
    of = evaluated(shop)
    changed = replace(shop.contract, folder=tmp_path, views=dict(shop.contract.views))
    view = changed.views["fashion_item_clicks"]
    path = tmp_path / "changed.parquet"
    frame = pd.read_parquet(view.path)
    frame["click_rate"] = frame["click_rate"] + 0.1
    frame.to_parquet(path)
    changed.views[view.name] = replace(view, path=path)
    with pytest.raises(DataError, match="click_rate of what was shown is not what the feature store joined"):
        evaluate_off_policy(replace(of, contract=changed), shop.use_case.evaluate.extra["off_policy"])


@dataclass(frozen=True)
class Wrong:
    evaluation: Any
    params: dict[str, Any]
    said: str


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong(evaluate_by_year, {"known_at": "then"}, r"\[evaluate.extra.walk_forward\] first_test_year"),
        Wrong(
            evaluate_by_year,
            {"first_test_year": 2008, "known_at": "then"},
            r"\[evaluate.extra.walk_forward\] known_at: \[label\] keep has no then",
        ),
        Wrong(
            evaluate_baseline,
            {"train": {"library": "forest"}},
            r"\[evaluate.extra.baseline.train\] library: Input should be 'xgboost', 'lightgbm' or",
        ),
        Wrong(
            evaluate_baseline,
            {"train": {"library": "logistic_regression"}, "together": "week"},
            r"\[evaluate.extra.baseline\] together: the label file has no week",
        ),
        Wrong(
            evaluate_cold_start,
            {"key": "item"},
            r"\[evaluate.extra.cold_start\] key: the label file has no column item",
        ),
        Wrong(
            evaluate_off_policy,
            {
                **{"item": "ticker", "group": "return_1d", "policy": "known_at"},
                **{"propensity": "p", "plain": "macd"},
            },
            r"\[evaluate.extra.off_policy\] propensity: the label file has no column p",
        ),
    ],
)
def test_wrong_settings_are_named(stocks: Context, wrong: Wrong) -> None:
    with pytest.raises(SettingsError, match=wrong.said):
        wrong.evaluation(evaluated(stocks), wrong.params)
