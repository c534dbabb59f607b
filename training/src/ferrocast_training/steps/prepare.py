"""`prepare`: raw data to the views of the feature store, and from the store back to the training set."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ferrocast_training.calendars import check_days
from ferrocast_training.dataset import ROW, SPLIT, write_sets
from ferrocast_training.derivations import derive
from ferrocast_training.files import write_json
from ferrocast_training.identity import identify
from ferrocast_training.schema import clean, clean_view
from ferrocast_training.set_table import write_table
from ferrocast_training.source import raw_paths, read_source
from ferrocast_training.split import Parts, split_rows
from ferrocast_training.steps.step import Context, Outcome, Step
from ferrocast_training.store import called
from ferrocast_training.views import (
    EVENT_TIMESTAMP,
    check_schema,
    label_rows,
    write_labels,
    write_own_view,
    write_view,
)

REPORT = "report.json"


def _run(context: Context, folder: Path) -> Outcome:
    use_case, contract, say = context.use_case, context.contract, context.terminal.say
    check_schema(use_case, contract)
    derived = derive(read_source(use_case), use_case.derive)
    raw = derived.rows.reset_index(drop=True)
    views = [(contract.view(name), frame) for name, frame in derived.views.items()]
    kept, report = clean(raw, use_case, {name for view, _ in views for name in view.features})
    rows = identify(raw, use_case.rows).loc[kept.index].join(kept)
    for view, frame in views:
        if view.ttl_calendar and view.name in derived.daily:
            where = f"{contract.folder / 'features.toml'}: {view.name}: ttl_calendar"
            check_days(frame[view.timestamp_field], view.ttl_calendar, where)
    own = {view.name: clean_view(frame, view, use_case, report) for view, frame in views}
    for line in report.lines():
        say("prepare", line)
    write_json(folder / REPORT, report.as_json())

    spine = label_rows(rows, use_case, contract)
    parts = split_rows(
        (spine[use_case.label.column] == use_case.label.positive).to_numpy().astype(np.int64),
        spine[EVENT_TIMESTAMP],
        use_case.split,
    )
    counts = {name: len(numbers) for name, numbers in vars(parts).items()}
    say("prepare", ", ".join(f"{count:,} {name}" for name, count in counts.items()) + " rows")

    wrote = [
        write_own_view(own[view.name], view) if view.name in own else write_view(rows, view, use_case)
        for view in contract.views.values()
    ]
    wrote.append(write_labels(spine, use_case, contract))
    for path in wrote:
        say("prepare", f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    _join(context, spine, parts, folder)
    summary = {"rows_read": report.rows_read, "rows": len(spine), "parts": counts}
    return Outcome(summary, wrote)


def _join(context: Context, spine: pd.DataFrame, parts: Parts, folder: Path) -> None:
    """Load the views into the feature store, and have it join the labels with what it held at their times."""
    store, contract = context.store_in(folder), context.contract
    context.terminal.say("prepare", f"into the feature store, {called(store.database_url)}")
    store.apply(contract)
    store.materialize(contract)
    asked, joined = folder / "spine.parquet", folder / "joined.parquet"
    numbered = spine.assign(**{SPLIT: parts.names(), ROW: np.arange(len(spine))})
    numbered[EVENT_TIMESTAMP] = numbered[EVENT_TIMESTAMP].astype("datetime64[us, UTC]")
    pq.write_table(pa.Table.from_pandas(numbered, preserve_index=False), asked)
    features = [f"{each.view}:{each.name}" for each in contract.inputs]
    store.historical(asked, EVENT_TIMESTAMP, features, joined)
    write_sets(joined, folder)
    table = write_table(store, context.use_case.model, joined)
    context.terminal.say("prepare", f"table {table}: {len(spine):,} rows of the three parts")
    for path in (asked, joined):
        path.unlink()


def _files(context: Context) -> list[Path]:
    definitions = [context.contract.folder / name for name in ("features.toml", "model.toml")]
    return [*raw_paths(context.use_case), *definitions]


def _values(context: Context) -> dict[str, str]:
    return {"the store": called(context.database_url)}


PREPARE = Step(
    name="prepare",
    does="cleans the raw data, loads the feature store, and joins the training set",
    run=_run,
    sections=("source", "derive", "schema", "rows", "label", "split"),
    files=_files,
    values=_values,
)
