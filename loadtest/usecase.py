"""The data and the model that everything is measured with, made once and kept in target/loadtest/.

100,000 users of 30 doubles in one Parquet file, and an XGBoost classifier of 200 trees of depth 6 trained on
them, exported as training/ exports. The same seed gives the same files.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from exports.data import Data
from exports.export import check, write
from exports.of_xgboost import classifier
from servers import ROOT, LoadTestError

USERS = 100_000
FEATURES = 30
TREES = 200
DEPTH = 6
NAMES = [f"f{index}" for index in range(FEATURES)]
# The model, its view, its feature service and its project.
NAME = "wide"
CACHE = ROOT / "target" / "loadtest"
# Raised with whatever changes the files.
VERSION = 1
EVENT_AT = np.datetime64("2026-01-01T00:00:00", "us")
SETTINGS = {
    "n_estimators": TREES,
    "max_depth": DEPTH,
    "learning_rate": 0.05,
    "tree_method": "hist",
    "n_jobs": 1,
    "random_state": 0,
}
# Of the cells the model was trained on, so that it knows what to do with missing ones.
HIDDEN = 0.02


def use_case(users: int = USERS) -> Path:
    """Gives the model repository, made where it is not there yet; `wide/wide.parquet` has the rows.

    With fewer users it is the same model, and the first of the rows.
    """
    if users > USERS:
        raise LoadTestError(f"there are {USERS:,} users, and not {users:,}")
    made = CACHE / f"usecase-{VERSION}-{users}"
    if not made.exists():
        being_made = CACHE / f"usecase-being-made-{users}"
        shutil.rmtree(being_made, ignore_errors=True)
        if users == USERS:
            _make(being_made)
        else:
            shutil.copytree(use_case(), being_made)
            _write_rows(being_made / NAME, _rows().head(users))
        being_made.rename(made)
    return made


def run_by(runtime: str, models: Path, copy: Path) -> Path:
    """A copy of the repository whose model another runtime runs; without the rows, which are loaded."""
    shutil.copytree(models, copy, ignore=shutil.ignore_patterns("*.parquet"))
    definition = copy / NAME / "model.toml"
    definition.write_text(f'runtime = "{runtime}"\n{definition.read_text()}')
    return copy


def in_views(views: int, models: Path, copy: Path) -> Path:
    """A copy of the repository whose features are in so many views of the same users; with the rows."""
    shutil.copytree(models, copy)
    folder = copy / NAME
    of = {name: f"{NAME}{at * views // FEATURES}" for at, name in enumerate(NAMES)}
    (folder / "features.toml").write_text(_features(of))
    definition = folder / "model.toml"
    text = definition.read_text()
    for name, view in of.items():
        text = text.replace(f'"{NAME}:{name}"', f'"{view}:{name}"')
    definition.write_text(text)
    return copy


def two_versions(models: Path, copy: Path) -> Path:
    """A repository of its own, with the model as version 1 and as version 2."""
    shutil.copytree(models, copy)
    second = copy / NAME / "2"
    shutil.copytree(copy / NAME / "1", second)
    signature = json.loads((second / "signature.json").read_text())
    (second / "signature.json").write_text(json.dumps(signature | {"version": "2"}))
    return copy


def user(index: int) -> str:
    """The join key of a user."""
    return f"user-{index:07d}"


def _make(models: Path) -> None:
    folder = models / NAME
    folder.mkdir(parents=True)
    rows = _rows()
    _write_rows(folder, rows)
    exported = classifier(_labelled(rows), NAME, "Two classes of users", "yes", SETTINGS)
    check(exported)
    write(exported, models)
    _trees(exported.beside["trees.json"], folder)
    (folder / "features.toml").write_text(_features())


def _write_rows(folder: Path, rows: pd.DataFrame) -> None:
    users = [user(index) for index in range(len(rows))]
    keys = pd.DataFrame({"user_id": users, "event_timestamp": EVENT_AT})
    pd.concat([keys, rows], axis="columns").to_parquet(folder / f"{NAME}.parquet", index=False)


def _rows() -> pd.DataFrame:
    values = np.random.default_rng(1).standard_normal((USERS, FEATURES)).round(6)
    return pd.DataFrame(values, columns=NAMES)


def _labelled(rows: pd.DataFrame) -> Data:
    """Labels that need deep trees: products of features, and chance."""
    chosen = np.random.default_rng(2)
    values = rows.to_numpy()
    signal = sum(values[:, at] * values[:, at + 1] for at in range(0, FEATURES, 2))
    labels = (signal + 2 * chosen.standard_normal(USERS) > 0).astype(np.int64)
    return Data(rows.mask(chosen.random(rows.shape) < HIDDEN), labels, ("no", "yes"))


def _trees(content: bytes, folder: Path) -> None:
    """Keeps the model as XGBoost reads it, for the peer that runs XGBoost, outside the version's folder."""
    model = json.loads(content)
    made = model["learner"]["gradient_booster"]["model"]["trees"]
    assert len(made) == TREES
    (folder / "xgboost.json").write_bytes(content)


def _features(view_of: dict[str, str] | None = None) -> str:
    """The definitions; all features in one view, unless it is said which is in which."""
    of = view_of or dict.fromkeys(NAMES, NAME)
    views = "\n".join(
        _view(view, [name for name in NAMES if of[name] == view]) for view in dict.fromkeys(of.values())
    )
    served = ", ".join(f'"{of[name]}:{name}"' for name in NAMES)
    return f"""project = "{NAME}"

[[entities]]
name = "user"
join_keys = [{{ name = "user_id", type = "string" }}]

{views}
[[feature_services]]
name = "{NAME}"
features = [{served}]
"""


def _view(view: str, names: list[str]) -> str:
    features = "\n".join(f'  {{ name = "{name}", type = "double" }},' for name in names)
    return f"""[[feature_views]]
name = "{view}"
entity = "user"
source = {{ path = "{NAME}.parquet" }}
features = [
{features}
]
"""
