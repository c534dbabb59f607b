"""Each library trains on the loans, stops early, explains itself, and gives the scores of its ONNX graph."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from sklearn.metrics import roc_auc_score

from ferrocast_training.contract import Contract
from ferrocast_training.errors import SettingsError
from ferrocast_training.explain import contributions
from ferrocast_training.export import export
from ferrocast_training.graph import convert, run
from ferrocast_training.measures import measure
from ferrocast_training.pipeline import Trained, train
from ferrocast_training.settings import Train, UseCase

from .conftest import Fitted

SETTINGS = {
    "xgboost": Train(seed=3, trees_max=60, early_stopping_rounds=10, params={"max_depth": 3}),
    "lightgbm": Train(
        library="lightgbm",
        numeric_missing="native",
        seed=3,
        trees_max=60,
        early_stopping_rounds=10,
        params={"num_leaves": 8, "learning_rate": 0.05},
    ),
    "logistic_regression": Train(library="logistic_regression", seed=3),
}


@dataclass(frozen=True)
class Learned:
    """A model of one library, and what it was told."""

    name: str
    settings: Train
    trained: Trained
    told: list[tuple[int, float]]


@pytest.fixture(scope="module", params=SETTINGS)
def learned(request: pytest.FixtureRequest, fitted: Fitted, contract: Contract) -> Learned:
    name = str(request.param)
    told: list[tuple[int, float]] = []
    parts = fitted.parts
    trained = train(
        parts["train"],
        parts["validation"],
        contract,
        SETTINGS[name],
        told=lambda number, loss: told.append((number, loss)),
    )
    return Learned(name, SETTINGS[name], trained, told)


def test_it_ranks_better_than_chance(learned: Learned, fitted: Fitted) -> None:
    frame, labels = fitted.parts["test"]
    assert roc_auc_score(labels, learned.trained.scores(frame)) > 0.70


def test_training_again_gives_the_same(learned: Learned, fitted: Fitted, contract: Contract) -> None:
    again = train(fitted.parts["train"], fitted.parts["validation"], contract, learned.settings)
    assert np.array_equal(again.scores(fitted.frame), learned.trained.scores(fitted.frame))
    assert convert(again, contract, "x") == convert(learned.trained, contract, "x")


def test_the_best_round_is_kept(learned: Learned) -> None:
    if learned.name == "logistic_regression":
        assert learned.told == [] and learned.trained.rounds > 1
        return
    losses = [loss for _, loss in learned.told]
    assert [number for number, _ in learned.told] == list(range(len(losses)))
    assert learned.trained.rounds == int(np.argmin(losses)) + 1
    assert learned.trained.validation_log_loss == pytest.approx(min(losses))


def test_the_graph_gives_the_scores_of_all_data_and_of_what_is_missing(
    learned: Learned, fitted: Fitted, contract: Contract
) -> None:
    content = convert(learned.trained, contract, "loans")
    for frame in (fitted.frame, missing(fitted)):
        served = run(content, frame, contract)
        assert np.max(np.abs(served - learned.trained.scores(frame))) < 1e-5
    operators = {node.op_type for node in onnx.load_from_string(content).graph.node}
    assert "ZipMap" not in operators


def missing(fitted: Fitted) -> Any:
    frame = fitted.frame.head(500).copy()
    frame["int_rate"] = np.float32(np.nan)
    frame["sub_grade"] = ""
    return frame


def test_contributions_add_up_to_the_log_odds(learned: Learned, fitted: Fitted, contract: Contract) -> None:
    frame = fitted.parts["test"][0].head(50)
    values, base = contributions(frame, contract, learned.trained)
    scores = learned.trained.scores(frame)
    assert values.shape == (50, 22)
    assert values.sum(axis=1) + base == pytest.approx(np.log(scores / (1 - scores)), abs=1e-4)


def test_a_version_of_it_can_be_written(
    learned: Learned, fitted: Fitted, contract: Contract, use_case: UseCase, tmp_path: Path
) -> None:
    chosen = replace(use_case, train=learned.settings)
    scores = learned.trained.scores(fitted.frame)
    metrics = measure(chosen, fitted.dataset, learned.trained, scores)
    exported = export(chosen, contract, fitted.dataset, learned.trained, metrics, tmp_path)
    assert exported.worst_difference < 1e-5
    golden = json.loads((tmp_path / "golden.json").read_text(encoding="utf-8"))
    has_trees = learned.name != "logistic_regression"
    assert ("threshold" in golden["kinds"]) == has_trees
    assert ("explained" in golden) == (learned.name == "xgboost")
    signature = json.loads((tmp_path / "signature.json").read_text(encoding="utf-8"))
    assert next(iter(signature["training"]["libraries"])) == learned.trained.library.package


def test_the_golden_rows_on_thresholds_tell_the_sides_apart(
    learned: Learned, fitted: Fitted, contract: Contract
) -> None:
    """A server that takes a value on a threshold to the other side would give the score of its neighbour."""
    library, estimator = learned.trained.library, learned.trained.estimator
    splits = library.split_points(estimator, len(contract.numeric))
    if learned.name == "logistic_regression":
        assert splits == []
        return
    matrix = learned.trained.matrix(fitted.frame.head(400))
    moved = 0
    for column, threshold in splits[:40]:
        sides = []
        for value in library.values_at(threshold):
            changed = matrix.copy()
            changed[:, column] = value
            sides.append(estimator.predict_proba(changed)[:, 1])
        moved += not np.array_equal(*sides)
    assert moved == len(splits[:40])


@pytest.mark.parametrize("name", SETTINGS)
def test_weighting_the_classes_raises_the_scores(name: str, fitted: Fitted, contract: Contract) -> None:
    weighted = replace(SETTINGS[name], imbalance="weighted")
    trained = train(fitted.parts["train"], fitted.parts["validation"], contract, weighted)
    assert 0.3 < trained.scores(fitted.frame).mean() < 0.6


@pytest.mark.parametrize("name", SETTINGS)
def test_params_that_the_library_does_not_take_are_told(
    name: str, fitted: Fitted, contract: Contract
) -> None:
    bad: dict[str, dict[str, Any]] = {
        "xgboost": {"max_depth": "deep"},
        "lightgbm": {"num_leaves": -5},
        "logistic_regression": {"C": -1.0},
    }
    wrong = replace(SETTINGS[name], params=bad[name])
    with pytest.raises(SettingsError, match=rf"\[train\] {name} does not take its params"):
        train(fitted.parts["train"], fitted.parts["validation"], contract, wrong)
