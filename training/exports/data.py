"""The data to train on: what scikit-learn and this repository bring along; nothing is fetched."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import datasets

LOANS = Path(__file__).resolve().parents[2] / "models" / "credit_risk" / "data"
# Of the cells, so that the libraries learn where to send what is missing.
HIDDEN = 0.1


@dataclass(frozen=True)
class Data:
    """Rows with labels; a missing value is NaN."""

    frame: pd.DataFrame
    labels: NDArray[Any]
    classes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [str(name) for name in self.frame.columns]


def of_sklearn(name: str, *, hidden: bool = True, columns: int | None = None, **options: Any) -> Data:
    """Load one of scikit-learn's own data sets, by the name of its function; hide some of its cells."""
    loaded = getattr(datasets, f"load_{name}")(as_frame=True, **options)
    frame: pd.DataFrame = loaded.data.iloc[:, :columns]
    frame.columns = pd.Index([str(column).replace(" ", "_").replace("/", "_") for column in frame.columns])
    # Names as a TOML key and a column of a table can have them.
    frame.columns = frame.columns.str.replace(r"[^a-z0-9_]", "", regex=True).str.strip("_")
    if hidden:
        frame = frame.mask(np.random.default_rng(7).random(frame.shape) < HIDDEN)
    classes = tuple(str(each) for each in getattr(loaded, "target_names", ()))
    return Data(frame, loaded.target.to_numpy(), classes)


def loans(columns: list[str]) -> Data:
    """Load the loans of the credit_risk use case, every third of them and all that went bad."""
    frame = pd.read_parquet(LOANS / "applicant.parquet")
    frame = frame.merge(pd.read_csv(LOANS / "loan_terms.csv"), on="loan_id")
    frame = frame.merge(pd.read_csv(LOANS / "labels.csv"), on="loan_id")
    is_bad = (frame["outcome"] == "bad").to_numpy()
    chosen = is_bad | (np.arange(len(frame)) % 3 == 0)
    frame = frame[chosen]
    frame["is_long"] = frame["term"] == "term_60"
    return Data(frame[columns].reset_index(drop=True), is_bad[chosen].astype(np.int64), ("good", "bad"))
