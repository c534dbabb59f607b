"""The report finds what was put there, and is one file."""

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ferrocast_training.contract import Contract, Input
from ferrocast_training.dataset import Dataset
from ferrocast_training.explore import Found, correlations, look
from ferrocast_training.settings import UseCase
from ferrocast_training.split import Parts
from ferrocast_training.steps.explore import REPORT
from ferrocast_training.steps.step import Context

ROWS = 1000


@pytest.fixture
def leaky(contract: Contract) -> tuple[Contract, Dataset]:
    """A thousand rows: one column gives the label away, others are ids, constant, or copies."""
    random = np.random.default_rng(3)
    labels = (np.arange(ROWS) % 5 == 0).astype(np.int64)
    age = random.normal(40, 10, ROWS)
    columns: dict[str, tuple[str, Any]] = {
        "age": ("double", np.where(np.arange(ROWS) % 10 == 0, np.nan, age)),
        "twice_age": ("double", 2 * age),
        "settled_amount": ("double", labels + random.normal(0, 0.1, ROWS)),
        "reason": ("string", np.where(labels == 1, "default", random.choice(["a", "b"], ROWS))),
        "reference": ("string", [f"R{number}" for number in range(ROWS)]),
        "country": ("string", ["DE"] * ROWS),
    }
    features = pd.DataFrame(
        {
            name: pd.Series(values, dtype="Float64" if kind == "double" else "string")
            for name, (kind, values) in columns.items()
        }
    )
    times = pd.Series(pd.date_range("2020-01-01", periods=ROWS, freq="h", tz="UTC"))
    numbers = np.random.default_rng(4).permutation(ROWS)
    parts = Parts(np.sort(numbers[:600]), np.sort(numbers[600:800]), np.sort(numbers[800:]))
    dataset = Dataset(np.arange(ROWS).astype(object), times, features, labels, parts)
    inputs = [Input(name, "view", kind) for name, (kind, _) in columns.items()]
    return replace(contract, inputs=inputs), dataset


def found(use_case: UseCase, leaky: tuple[Contract, Dataset]) -> Found:
    return look(use_case, *leaky)


def test_columns_that_give_the_label_away_are_hinted_at(
    use_case: UseCase, leaky: tuple[Contract, Dataset]
) -> None:
    hints = "\n".join(found(use_case, leaky).hints)
    assert "settled_amount alone ranks with ROC-AUC 1.000" in hints
    assert "reason alone ranks with ROC-AUC 1.000" in hints
    assert "age alone" not in hints
    assert "reference is different in nearly every row" in hints
    assert "country is the same in every row" in hints


def test_rows_of_the_training_part_elsewhere_are_counted(
    use_case: UseCase, leaky: tuple[Contract, Dataset]
) -> None:
    contract, dataset = leaky
    features = dataset.features.copy()
    features.iloc[dataset.parts.test[:7]] = features.iloc[dataset.parts.train[:7]].to_numpy()
    hints = found(use_case, (contract, replace(dataset, features=features))).hints
    assert "7 of 200 rows of the test part have the very values of a training row" in hints


def test_features_that_are_known_too_late_are_hinted_at(
    use_case: UseCase, leaky: tuple[Contract, Dataset]
) -> None:
    late = replace(use_case, rows=replace(use_case.rows, created_after_s=7200, event_column="day"))
    hints = "\n".join(found(late, leaky).hints)
    assert "features are known (created_at) 3600 s after they are looked up" in hints
    assert "the split is at random" in hints
    assert "the split is at random" not in "\n".join(found(use_case, leaky).hints)


def test_columns_are_described(use_case: UseCase, leaky: tuple[Contract, Dataset]) -> None:
    _, dataset = leaky
    looked = found(use_case, leaky)
    by_name = {column.name: column for column in looked.columns}
    trained = dataset.features.iloc[dataset.parts.train]
    age = by_name["age"]
    assert age.missing_share == pytest.approx(trained["age"].isna().mean())
    assert sum(each.share for each in age.bins) == pytest.approx(1 - age.missing_share)
    assert by_name["reason"].distinct == 3
    assert {each.name: each.positive_rate for each in by_name["reason"].bins}["default"] == 1.0
    assert len(by_name["reference"].bins) == 13
    assert looked.correlated[0] == ("age", "twice_age", 1.0)
    # The weak ones, too: of three numbers there are three pairs.
    assert len(looked.correlated) == 3
    assert all(abs(rank) < 0.2 for _, _, rank in looked.correlated[1:])
    assert [part["rows"] for part in looked.balance] == [600, 200, 200]


def test_all_strong_correlations_are_named_and_as_many_weak_ones_as_make_ten() -> None:
    random = np.random.default_rng(5)
    base = random.normal(size=200)
    alike = pd.DataFrame({f"copy_{n}": base * (n + 1) for n in range(6)})
    assert len(correlations(alike, 0.95)) == 15
    other = pd.DataFrame({f"own_{n}": random.normal(size=200) for n in range(6)} | {"same": np.ones(200)})
    assert len(correlations(other, 0.95)) == 10


class Outside(HTMLParser):
    """Collects what a page asks for from elsewhere, and its texts."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asked += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href")]
        if tag not in ("meta", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("circle",):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_report_is_one_whole_file(retrained: Context) -> None:
    page = Outside()
    page.feed((retrained.result("explore") / REPORT).read_text(encoding="utf-8"))
    assert page.asked == [] and page.open == []
    shown = set(page.texts)
    assert {each.name for each in retrained.contract.inputs} <= shown
    assert any("9,857 rows read, 9,857 kept" in text for text in page.texts)
    assert "645" in shown
    assert "Rank correlation, strongest first; 0.95 or more is bold." in page.texts
