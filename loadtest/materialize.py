"""How fast a view is loaded into PostgreSQL, against `COPY` by psql of the same rows.

    make loadtest-materialize

Makes 1,000,000 rows of a key, two times and 10 doubles as Parquet, CSV and PostgreSQL's binary form. Then, in
turns on one throw-away PostgreSQL: psql copies CSV and binary into a table with the same columns and primary
key, and `ferrocast materialize` loads the Parquet file into the view: empty, and full while it is being read.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from servers import ROOT, environment, ferrocast_binary, postgres, run_ferrocast, scratch

ROWS = 1_000_000
COLUMNS = 10
NAMES = [f"f{index}" for index in range(COLUMNS)]
REPEATS = 3
KEYS_READ = 100


def write_use_case(folder: Path, rows: int) -> None:
    """A view, and its rows as of two days."""
    folder.mkdir(parents=True)
    features = ", ".join(f'{{ name = "{name}", type = "double" }}' for name in NAMES)
    source = 'path = "rows.parquet", created_timestamp_field = "created_at"'
    (folder / "features.toml").write_text(
        f"""project = "load"
[[entities]]
name = "user"
join_keys = [{{ name = "user_id", type = "int64" }}]
[[feature_views]]
name = "wide"
entity = "user"
source = {{ {source} }}
features = [{features}]
"""
    )
    chosen = np.random.default_rng(1)
    keys = chosen.permutation(rows)
    for day in (1, 2):
        moment = np.full(rows, np.datetime64(f"2026-01-0{day}", "us"))
        values = {name: chosen.random(rows) for name in NAMES}
        table = pa.table({"user_id": keys, "event_timestamp": moment, "created_at": moment} | values)
        pa.parquet.write_table(table, folder / f"day{day}.parquet")
        if day == 1:
            pa.csv.write_csv(table, folder / "rows.csv", pa.csv.WriteOptions(include_header=False))


def psql(url: str, sql: str) -> str:
    """Runs SQL by psql, bounded only by the whole."""
    command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url, "-c", sql]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def timed(work: list[str], folder: Path) -> float:
    """Seconds that a command takes."""
    begun = time.perf_counter()
    subprocess.run(work, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def copy_by_psql(url: str, folder: Path, form: str) -> float:
    """Seconds of one COPY into an empty table with the view's columns."""
    columns = ", ".join(f"{name} double precision" for name in NAMES)
    psql(url, "DROP TABLE IF EXISTS plain")
    psql(
        url,
        "CREATE TABLE plain (user_id bigint NOT NULL, event_timestamp timestamptz NOT NULL, "
        f"created_at timestamptz NOT NULL, {columns}, PRIMARY KEY (user_id)) WITH (fillfactor = 80)",
    )
    options = "(FORMAT csv)" if form == "csv" else "(FORMAT binary)"
    copy = f"\\copy plain FROM '{folder / ('rows.' + form)}' {options}"
    return timed(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", url, "-c", copy], folder)


def load(url: str, models: Path, folder: Path, day: int) -> float:
    """Seconds of `ferrocast materialize`, the start of the program with it."""
    source = models / "load" / "rows.parquet"
    source.unlink(missing_ok=True)
    source.symlink_to(f"day{day}.parquet")
    command = [str(ferrocast_binary()), "materialize", "--models", str(models), "--database-url", url]
    return timed(command, folder)


class Readers:
    """Reads random keys from the view while it is loaded, and counts."""

    def __init__(self, url: str, rows: int) -> None:
        """Prepares, and reads nothing yet."""
        self.url, self.rows, self.reads, self.stopped = url, rows, 0, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        """One statement after the other until it is stopped."""
        sql = (
            f"SELECT count(*) FROM fv_wide WHERE user_id IN (SELECT (random() * {self.rows})::bigint "
            f"FROM generate_series(1, {KEYS_READ}))"
        )
        while not self.stopped.is_set():
            psql(self.url, sql)
            self.reads += 1

    def __enter__(self) -> Readers:
        """Begins to read."""
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends."""
        self.stopped.set()
        self.thread.join()


def best(seconds: list[float]) -> float:
    """The least disturbed of some runs."""
    return min(seconds)


def measure(url: str, models: Path, folder: Path, rows: int) -> list[tuple[str, float]]:
    """Everything in turns, so that whatever else the machine does meets all of it."""
    data = models / "load"
    copy_by_psql(url, data, "csv")
    psql(url, f"\\copy plain TO '{data / 'rows.binary'}' (FORMAT binary)")
    found: dict[str, list[float]] = {}
    flags = ["--models", str(models), "--database-url", url]
    for _ in range(REPEATS):
        for form in ("binary", "csv"):
            found.setdefault(f"`COPY` by psql, {form}", []).append(copy_by_psql(url, data, form))
        psql(url, "DROP TABLE plain")
        run_ferrocast("apply", *flags, cwd=folder)
        found.setdefault("`ferrocast materialize`, empty view", []).append(load(url, models, folder, 1))
        with Readers(url, rows) as readers:
            seconds = load(url, models, folder, 2)
        assert readers.reads > 0
        assert psql(url, "SELECT count(*) FROM fv_wide WHERE event_timestamp > '2026-01-01 12:00Z'") == str(
            rows
        )
        found.setdefault("`ferrocast materialize`, every row replaced while it is read", []).append(seconds)
        (data / "none.toml").write_text('project = "load"\n')
        drop = ["--allow-data-loss", "--database-url", url]
        run_ferrocast("apply", data / "none.toml", *drop, cwd=folder)
    return [(name, best(seconds)) for name, seconds in found.items()]


def main() -> None:
    """Starts what is needed, measures, prints."""
    raw = argparse.RawDescriptionHelpFormatter
    options = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    options.add_argument("--rows", type=int, default=ROWS)
    asked = options.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        models = folder / "models"
        write_use_case(models / "load", asked.rows)
        url = stack.enter_context(postgres(folder))
        asked_git = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(asked_git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
        print(
            f"{asked.rows:,} rows of {COLUMNS} doubles, commit {commit}, {os.cpu_count()} cores "
            f"({platform.machine()}) shared by ferrocast or psql and PostgreSQL; the best of {REPEATS} runs\n"
        )
        found = measure(url, models, folder, asked.rows)
        base = found[0][1]
        print("| what | rows/s | time ÷ that of binary `COPY` |\n|---|---|---|")
        for name, seconds in found:
            print(f"| {name} | {asked.rows / seconds:,.0f} | {seconds / base:.2f} |")


if __name__ == "__main__":
    main()
