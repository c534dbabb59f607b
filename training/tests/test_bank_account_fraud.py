"""The settings for the Bank Account Fraud set, on rows of its schema that are made here."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ferrocast_training.definitions import write_definitions
from ferrocast_training.errors import DataError
from ferrocast_training.settings import UseCase, load_use_case
from ferrocast_training.steps import RUN
from ferrocast_training.steps.runner import run_steps
from ferrocast_training.steps.step import Context

from .conftest import TRAINING, context_in, said

SETTINGS = TRAINING / "usecases" / "bank_account_fraud.toml"
ROWS = 8_000
SENTINELS = (
    "prev_address_months_count",
    "current_address_months_count",
    "bank_months_count",
    "session_length_in_minutes",
    "device_distinct_emails_8w",
)


def made_rows() -> pd.DataFrame:
    """Rows with the 32 columns of Base.csv in their order, as its description gives types and ranges."""
    random = np.random.default_rng(11)

    def some(low: int, high: int) -> np.ndarray:
        return random.integers(low, high, ROWS)

    def one_of(*words: str) -> np.ndarray:
        return random.choice(words, ROWS)

    rows = pd.DataFrame(
        {
            "fraud_bool": 0,
            "income": random.integers(1, 10, ROWS) / 10,
            "name_email_similarity": random.random(ROWS),
            "prev_address_months_count": some(5, 380),
            "current_address_months_count": some(0, 420),
            "customer_age": 10 * some(1, 10),
            "days_since_request": random.exponential(1.0, ROWS),
            "intended_balcon_amount": random.uniform(0, 110, ROWS),
            "payment_type": one_of("AA", "AB", "AC", "AD", "AE"),
            "zip_count_4w": some(1, 6700),
            "velocity_6h": random.uniform(-170, 16_700, ROWS),
            "velocity_24h": random.uniform(1300, 9500, ROWS),
            "velocity_4w": random.uniform(2800, 7000, ROWS),
            "bank_branch_count_8w": some(0, 2385),
            "date_of_birth_distinct_emails_4w": some(0, 39),
            "employment_status": one_of("CA", "CB", "CC", "CD", "CE", "CF", "CG"),
            "credit_risk_score": some(-170, 389),
            "email_is_free": some(0, 2),
            "housing_status": one_of("BA", "BB", "BC", "BD", "BE", "BF", "BG"),
            "phone_home_valid": some(0, 2),
            "phone_mobile_valid": some(0, 2),
            "bank_months_count": some(1, 32),
            "has_other_cards": some(0, 2),
            "proposed_credit_limit": random.choice([200.0, 500.0, 1500.0, 2000.0], ROWS),
            "foreign_request": some(0, 2),
            "source": one_of("INTERNET", "TELEAPP"),
            "session_length_in_minutes": random.exponential(7.0, ROWS),
            "device_os": one_of("linux", "macintosh", "other", "windows", "x11"),
            "keep_alive_session": some(0, 2),
            "device_distinct_emails_8w": some(0, 3),
            "device_fraud_count": 0,
            "month": np.sort(some(0, 8)),
        }
    )
    for name in SENTINELS:
        rows.loc[random.random(ROWS) < 0.2, name] = -1
    rows.loc[random.random(ROWS) < 0.7, "intended_balcon_amount"] = random.uniform(-15, -0.01)
    risk = (rows["customer_age"] > 60) + (rows["housing_status"] == "BA") + (rows["bank_months_count"] == -1)
    rows["fraud_bool"] = (random.random(ROWS) < 0.005 * 7.0**risk).astype(int)
    return rows


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, pd.DataFrame]:
    """All steps with a Base.csv, from the settings as they stand."""
    folder, rows = tmp_path_factory.mktemp("fraud"), made_rows()
    assert rows.shape[1] == 32
    rows.to_csv(folder / "Base.csv", index=False)
    context = context_in(folder, with_file(folder / "Base.csv"))
    write_definitions(context.use_case, context.models)
    run_steps(RUN, context)
    return context, rows


def with_file(path: Path) -> UseCase:
    use_case = load_use_case(SETTINGS)
    return replace(use_case, source=replace(use_case.source, file=str(path)))


def test_sentinels_are_missing_and_counted(trained: tuple[Context, pd.DataFrame]) -> None:
    context, rows = trained
    features = context.dataset().features
    report = json.loads((context.result("prepare") / "report.json").read_text(encoding="utf-8"))
    expected = {name: int((rows[name] == -1).sum()) for name in SENTINELS}
    expected["intended_balcon_amount"] = int((rows["intended_balcon_amount"] < 0).sum())
    assert min(expected.values()) > 1000
    for name, count in expected.items():
        assert report["columns"][name]["sentinels"] == count
        assert features[name].isna().sum() == count
    assert features["velocity_6h"].min() < 0 and features["credit_risk_score"].min() < 0
    others = set(features.columns) - set(expected)
    assert features[list(others)].notna().all(axis=None)
    assert report["rows_kept"] == ROWS and report["ignored"] == []


def test_the_split_is_by_month(trained: tuple[Context, pd.DataFrame]) -> None:
    context, rows = trained
    dataset = context.dataset()
    months = {name: set(rows["month"].iloc[part]) for name, part in vars(dataset.parts).items()}
    assert months == {"train": {0, 1, 2, 3, 4, 5}, "validation": {6}, "test": {7}}
    assert "month" not in dataset.features.columns and "fraud_bool" not in dataset.features.columns


def test_the_labels_have_words(trained: tuple[Context, pd.DataFrame]) -> None:
    context, rows = trained
    assert context.dataset().labels.tolist() == rows["fraud_bool"].tolist()
    signature = json.loads((context.version_folder / "signature.json").read_text(encoding="utf-8"))
    assert signature["classes"] == ["genuine", "fraud"] and signature["positive_class"] == "fraud"


def test_the_version_ranks_and_the_server_takes_it(trained: tuple[Context, pd.DataFrame]) -> None:
    context, _ = trained
    metrics = json.loads((context.version_folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["library"] == "lightgbm"
    assert metrics["test"]["roc_auc"] > 0.6
    assert "golden rows reproduced, good" in said(context)
    golden = json.loads((context.version_folder / "golden.json").read_text(encoding="utf-8"))
    assert {"sample", "missing", "unseen", "threshold"} == set(Counter(golden["kinds"]))


def test_without_the_file_it_is_said_what_is_missing(tmp_path: Path) -> None:
    context = context_in(tmp_path, load_use_case(SETTINGS))
    write_definitions(context.use_case, context.models)
    with pytest.raises(DataError, match=r"Base\.csv: no such file; \[source\] file says where"):
        run_steps(RUN, context)
