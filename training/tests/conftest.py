"""What the tests share: the committed use case, and one training run into a folder of its own."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ferrocast_training.run import run_use_case

from ferrocast_training.contract import Contract, load_contract
from ferrocast_training.dataset import Dataset, load_dataset
from ferrocast_training.pipeline import Trained, train
from ferrocast_training.settings import UseCase, load_use_case
from ferrocast_training.split import Parts, split_rows
from ferrocast_training.tensors import model_frame

TRAINING = Path(__file__).resolve().parents[1]
SETTINGS = TRAINING / "usecases" / "credit_risk.toml"
COMMITTED = TRAINING.parent / "models" / "credit_risk"


@dataclass(frozen=True)
class Fitted:
    """A model trained on the committed data, with everything it came from."""

    dataset: Dataset
    parts: Parts
    frame: pd.DataFrame
    trained: Trained


def copy_definitions(models: Path) -> Path:
    """Copy the hand-written files of the use case to a fresh model repository; return its folder."""
    folder = models / "credit_risk"
    folder.mkdir(parents=True)
    for name in ("features.toml", "model.toml"):
        shutil.copy(COMMITTED / name, folder)
    return folder


@pytest.fixture(scope="session")
def use_case() -> UseCase:
    return load_use_case(SETTINGS)


@pytest.fixture(scope="session")
def contract() -> Contract:
    return load_contract(COMMITTED)


@pytest.fixture(scope="session")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All steps, from the raw file on, into an empty folder."""
    models = tmp_path_factory.mktemp("models")
    folder = copy_definitions(models)
    run_use_case(SETTINGS, models)
    return folder


@pytest.fixture(scope="session")
def fitted(use_case: UseCase, contract: Contract) -> Fitted:
    dataset = load_dataset(use_case, contract)
    parts = split_rows(dataset.labels, use_case.split)
    frame = model_frame(dataset.features, contract)
    training, validation = (
        (frame.iloc[rows], dataset.labels[rows]) for rows in (parts.train, parts.validation)
    )
    return Fitted(dataset, parts, frame, train(*training, validation, contract, use_case.train))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A use case's folder with its definitions and the committed data, free to be damaged."""
    folder = copy_definitions(tmp_path)
    shutil.copytree(COMMITTED / "data", folder / "data")
    return folder


@pytest.fixture
def raw() -> pd.DataFrame:
    """Forty rows as the raw file has them; every tenth is bad, the second has no known employment."""
    count = 40
    numbers = {
        name: np.arange(count)
        for name in (
            *("funded_amnt", "total_bal_il", "total_il_high_credit_limit", "delinq_amnt", "all_util"),
            *("delinq_2yrs", "acc_now_delinq", "inq_last_6mths", "inq_last_12m", "inq_fi"),
            *("open_il_6m", "open_il_12m", "open_il_24m", "num_il_tl"),
        )
    }
    money = {name: np.linspace(0.5, 99.5, count) for name in ("annual_inc", "int_rate", "revol_util")}
    words = {
        "term": ["term_36", "term_60"] * 20,
        "sub_grade": ["A1", "B2"] * 20,
        "addr_state": ["NE", "NA"] * 20,
        "verification_status": ["Verified"] * count,
        "emp_length": ["emp_1", "emp_unk"] + ["emp_5"] * 38,
        "Class": (["bad"] + ["good"] * 9) * 4,
    }
    return pd.DataFrame(numbers | money | words)
