"""Training sets are the same of a PostgreSQL database as of the embedded store, and a table in either."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as postgresql
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ferrocast_training.dataset import ROW, SPLIT, set_file
from ferrocast_training.errors import StoreError
from ferrocast_training.set_table import table_name
from ferrocast_training.split import PARTS
from ferrocast_training.steps import STEPS
from ferrocast_training.steps.runner import run_steps
from ferrocast_training.steps.step import STORE, Context
from ferrocast_training.store import Store, called

from .conftest import said
from .serving import postgres

TABLE = "ferrocast_set_german_credit"


def sets_of(context: Context) -> pa.Table:
    """The three Parquet files as one table, each row with its part, in the order of the label file."""
    read = [(part, pq.read_table(set_file(context.result("prepare"), part))) for part in PARTS]
    named = [rows.append_column(SPLIT, pa.array([part] * len(rows))) for part, rows in read]
    return pa.concat_tables(named).sort_by(ROW)


def sets_in(url: str) -> pa.Table:
    """The table of the sets in a PostgreSQL database."""
    with postgresql.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {TABLE} ORDER BY {ROW}")
        return cursor.fetch_arrow_table()


def execute(url: str, statement: str) -> None:
    with postgresql.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.select(sorted(table.column_names)).to_pylist()
    return rows


def test_the_views_go_into_the_named_database_and_the_sets_come_from_it(
    copied: Context, german: Context
) -> None:
    with postgres() as url:
        there = replace(copied, database_url=url)
        run_steps([STEPS["prepare"]], there)
        told = there.store().ferrocast("describe", "credit")
        in_the_database = sets_in(url)
        run_steps([STEPS["prepare"]], there, force=True)
        assert rows_of(sets_in(url)) == rows_of(in_the_database)
    assert "prepare   again: the store changed" in said(there)
    assert "into the feature store, PostgreSQL 127.0.0.1:" in said(there)
    assert f"table {TABLE}: 1,000 rows of the three parts" in said(there)
    assert "1000" in told.replace(",", "")
    assert rows_of(in_the_database) == rows_of(sets_of(german))
    types = {field.name: str(field.type) for field in in_the_database.schema}
    assert types["credit_amount"] == "int64" and types["event_timestamp"].startswith("timestamp[us")
    for part in PARTS:
        made, wanted = (set_file(each.result("prepare"), part).read_bytes() for each in (there, german))
        assert made == wanted


def test_a_database_that_is_away_leaves_the_result_as_it_was(copied: Context) -> None:
    before = sorted(path for path in copied.work.rglob("*"))
    away = replace(copied, database_url="postgres://nobody@127.0.0.1:9/none")
    with pytest.raises(StoreError, match=r"^ferrocast apply: "):
        run_steps([STEPS["prepare"]], away)
    assert sorted(path for path in copied.work.rglob("*")) == before


def test_the_embedded_database_has_the_sets_with_label_and_part(german: Context) -> None:
    sets = sets_of(german)
    columns = sets.column_names
    with closing(sqlite3.connect(german.result("prepare") / STORE / "ferrocast.db")) as database:
        database.row_factory = sqlite3.Row
        found = [dict(row) for row in database.execute(f"SELECT * FROM {TABLE} ORDER BY {ROW}")]
    times = sets.column("event_timestamp").cast(pa.int64())
    wanted = sets.set_column(columns.index("event_timestamp"), "event_timestamp", times)
    assert [{name: row[name] for name in columns} for row in found] == wanted.to_pylist()
    assert {row["creditability"] for row in found} == {"good", "bad"}
    assert sum(row["purpose"] is None for row in found) == 12


def test_a_table_that_cannot_be_replaced_stays_and_is_named(copied: Context) -> None:
    before = sorted(path for path in copied.work.rglob("*"))
    with postgres() as url:
        execute(url, f"CREATE VIEW {TABLE} AS SELECT 'kept' AS {ROW}")
        with pytest.raises(StoreError, match=f"^table {TABLE}: .*not a table"):
            run_steps([STEPS["prepare"]], replace(copied, database_url=url))
        assert sets_in(url).to_pylist() == [{ROW: "kept"}]
    assert sorted(path for path in copied.work.rglob("*")) == before


def test_a_name_that_a_database_would_cut_is_refused() -> None:
    assert table_name("m" * 49) == "ferrocast_set_" + "m" * 49
    with pytest.raises(StoreError, match="63 bytes at most"):
        table_name("m" * 50)


def test_a_database_is_named_without_who_may_use_it() -> None:
    assert called("postgres://ada:hunter2@db.example.com/risk?sslmode=require") == (
        "PostgreSQL db.example.com/risk"
    )
    assert called("sqlite:/var/lib/risk.db") == "SQLite /var/lib/risk.db"
    assert called("") == "embedded"


@pytest.mark.parametrize(
    ("url", "path"),
    [("", "/data/ferrocast.db"), ("sqlite:risk.db", "/data/risk.db"), ("sqlite:/risk.db", "/risk.db")],
)
def test_the_file_of_an_sqlite_database_is_the_one_of_the_program(url: str, path: str) -> None:
    assert Store(Path("models"), Path("/data"), url).sqlite_path == Path(path)
    assert Store(Path("models"), Path("/data"), "postgres://db/risk").sqlite_path is None
