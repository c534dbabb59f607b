"""Training sets are the same of a PostgreSQL database as of the embedded store."""

from dataclasses import replace

import pytest

from ferrocast_training.dataset import set_file
from ferrocast_training.errors import StoreError
from ferrocast_training.split import PARTS
from ferrocast_training.steps import STEPS
from ferrocast_training.steps.runner import run_steps
from ferrocast_training.steps.step import Context

from .conftest import said
from .serving import postgres


def test_the_views_go_into_the_named_database_and_the_sets_come_from_it(
    copied: Context, german: Context
) -> None:
    with postgres() as url:
        there = replace(copied, database_url=url)
        run_steps([STEPS["prepare"]], there)
        told = there.store().ferrocast("describe", "credit")
    assert "prepare   again: the store changed" in said(there)
    assert "into the feature store, PostgreSQL" in said(there)
    assert "1000" in told.replace(",", "")
    for part in PARTS:
        made, wanted = (set_file(each.result("prepare"), part).read_bytes() for each in (there, german))
        assert made == wanted


def test_a_database_that_is_away_leaves_the_result_as_it_was(copied: Context) -> None:
    before = sorted(path for path in copied.work.rglob("*"))
    away = replace(copied, database_url="postgres://nobody@127.0.0.1:9/none")
    with pytest.raises(StoreError, match=r"^ferrocast apply: "):
        run_steps([STEPS["prepare"]], away)
    assert sorted(path for path in copied.work.rglob("*")) == before
