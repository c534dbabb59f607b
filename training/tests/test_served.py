"""What was trained on is what is served: the running server's features and scores are those of training."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ferrocast_training.golden import plain_rows
from ferrocast_training.steps.step import STORE, Context
from ferrocast_training.steps.train import load_trained
from ferrocast_training.store import Store
from ferrocast_training.tensors import model_frame

from .conftest import Fitted
from .serving import call, ferrocast

ROWS = 200


@pytest.fixture(scope="module")
def chosen(fitted: Fitted) -> np.ndarray:
    """Two hundred rows at random, of all three parts."""
    return np.sort(np.random.default_rng(1).choice(len(fitted.dataset.ids), ROWS, replace=False))


def store_of(context: Context) -> Store:
    """The store that the prepare step has loaded, of which the training set was joined."""
    return Store(context.models, context.result("prepare") / STORE)


def test_features_and_scores_of_200_rows_are_those_of_training(
    retrained: Context, fitted: Fitted, chosen: np.ndarray, tmp_path: Path
) -> None:
    inputs, dataset = retrained.contract.inputs, fitted.dataset
    names = [f"{each.view}:{each.name}" for each in inputs]
    entities = [{"loan_id": name} for name in dataset.ids[chosen]]
    with ferrocast(store_of(retrained), tmp_path) as url:
        served = call(f"{url}/v1/features:get", {"features": names, "entities": entities, "format": "ROWS"})
        asked = {"entities": entities}
        predicted = call(f"{url}/v1/models/credit_risk:predictByEntity", asked)["predictions"]

    trained_on = plain_rows(dataset.features, chosen, retrained.contract)
    rows = [[row["values"][name] for name in names] for row in served["rows"]]
    assert len(rows) == ROWS
    assert rows == trained_on
    assert sum(value is None for row in rows for value in row) > 0
    statuses = {row["statuses"][name] for row in served["rows"] for name in names}
    assert statuses == {"PRESENT", "NULL"}
    scores = pd.Series([each["score"] for each in predicted])
    assert np.max(np.abs(scores - fitted.trained.scores(fitted.frame.iloc[chosen]))) < 1e-5


def test_a_new_csv_is_served_from_its_toml_file_alone(german: Context, tmp_path: Path) -> None:
    asked = {"entities": [{"credit_id": name} for name in german.dataset().ids[:50]]}
    with ferrocast(store_of(german), tmp_path) as url:
        answer = call(f"{url}/v1/models/german_credit:predictByEntity", asked)
    frame = model_frame(german.dataset().features.head(50), german.contract)
    scores = np.array([each["score"] for each in answer["predictions"]])
    assert answer["version"] == "1"
    assert np.max(np.abs(scores - load_trained(german).scores(frame))) < 1e-5
    assert all(each["violations"] == [] for each in answer["predictions"])
