"""The processed sets as one table, beside the views, in the database that the feature store is in."""

from pathlib import Path

import adbc_driver_postgresql.dbapi as postgresql
import adbc_driver_sqlite.dbapi as sqlite
import pyarrow as pa
import pyarrow.parquet as pq
from adbc_driver_manager import dbapi

from ferrocast_training.errors import StoreError
from ferrocast_training.store import Store

PREFIX = "ferrocast_set_"  # no table of a view or of a user is called so
NAME_BYTES_MAX = 63  # PostgreSQL cuts longer ones


def table_name(model: str) -> str:
    """Return the name of the table that holds the sets of `model`."""
    name = PREFIX + model
    if len(name.encode()) > NAME_BYTES_MAX:
        raise StoreError(
            f"{name}: a table's name has {NAME_BYTES_MAX} bytes at most; give the model a shorter one"
        )
    return name


def write_table(store: Store, model: str, joined: Path) -> str:
    """Write the joined rows, each with its outcome and the name of its part, all or nothing.

    An earlier table of the model is replaced. Returns the table's name.
    """
    name, rows = table_name(model), pq.read_table(joined).replace_schema_metadata(None)
    if store.sqlite_path:
        rows = _with_microseconds(rows)
    try:
        with _connect(store) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest(name, rows, mode="replace")
            connection.commit()
    except dbapi.Error as error:
        raise StoreError(f"table {name}: {error}") from error
    return name


def _connect(store: Store) -> dbapi.Connection:
    """Nothing is seen by others before `commit`."""
    if path := store.sqlite_path:
        return sqlite.connect(str(path))
    connection: dbapi.Connection = postgresql.connect(store.database_url)
    return connection


def _with_microseconds(rows: pa.Table) -> pa.Table:
    """SQLite has no type for points in time: they are numbers, as the store writes them in its own tables."""
    for number, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            microseconds = rows.column(number).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
            rows = rows.set_column(number, field.name, microseconds)
    return rows
