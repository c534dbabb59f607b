"""The features of every item that could have been shown, at the moment of each impression."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ferrocast_training.contract import Contract, View
from ferrocast_training.dtypes import PANDAS_TYPES
from ferrocast_training.errors import DataError
from ferrocast_training.views import EVENT_TIMESTAMP

ROW, SHOWN = "row", "shown_then"
ROWS_A_CHUNK = 500


@dataclass(frozen=True)
class Candidates:
    """The views that speak of items, joined as the store joins them; views here have no TTL."""

    contract: Contract
    item: str  # the items' join key
    views: dict[str, pd.DataFrame]

    @staticmethod
    def of(contract: Contract, item: str) -> "Candidates":
        """Read the files of all views whose entity has the join key `item`."""
        speaking = [view for view in contract.views.values() if item in view.keys]
        if not speaking:
            raise DataError(f"features.toml: no entity has the join key {item}")
        return Candidates(contract, item, {view.name: _read(view) for view in speaking})

    def chunks(
        self, impressions: pd.DataFrame, features: pd.DataFrame, items: pd.DataFrame, group: str
    ) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """Yield what could have been shown, some impressions at a time, and its features [rows, inputs].

        `impressions` [rows] has join keys, `event_timestamp` and `group`; `features` [rows, inputs] those
        of what was shown; `items` names the items of each group. What is yielded names the impression's
        `row`, the item, and whether it was `shown_then`.
        """
        for first in range(0, len(impressions), ROWS_A_CHUNK):
            rows = impressions.iloc[first : first + ROWS_A_CHUNK]
            numbered = rows.assign(**{ROW: np.arange(first, first + len(rows))})
            every = numbered.rename(columns={self.item: SHOWN}).merge(items, on=group)
            every = every.sort_values([EVENT_TIMESTAMP, ROW, self.item], ignore_index=True)
            every[SHOWN] = every[SHOWN] == every[self.item]
            joined = self._joined(every, features)
            _check(joined[every[SHOWN].to_numpy()], features, every.loc[every[SHOWN], ROW])
            yield every[[ROW, self.item, SHOWN]], joined

    def _joined(self, every: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
        known = features.iloc[every[ROW]].reset_index(drop=True)
        for name, frame in self.views.items():
            view = self.contract.views[name]
            found = pd.merge_asof(
                every[[EVENT_TIMESTAMP, *view.keys]],
                frame,
                left_on=EVENT_TIMESTAMP,
                right_on=view.timestamp_field,
                by=list(view.keys),
            )
            of_view = [each for each in self.contract.inputs if each.view == name]
            known = known.assign(
                **{each.name: found[each.name].astype(known[each.name].dtype) for each in of_view}
            )
        return known


def _read(view: View) -> pd.DataFrame:
    frame = pd.read_csv(view.path) if view.path.suffix == ".csv" else pd.read_parquet(view.path)
    for name, kind in (view.keys | view.features).items():
        frame[name] = frame[name].astype(PANDAS_TYPES[kind])  # type: ignore[call-overload]
    frame[view.timestamp_field] = pd.to_datetime(frame[view.timestamp_field], utc=True)
    return frame.sort_values(view.timestamp_field, kind="stable")


def _check(shown: pd.DataFrame, features: pd.DataFrame, rows: "pd.Series[int]") -> None:
    """What was shown has to have the features that the store's own join gave it."""
    expected = features.iloc[rows].reset_index(drop=True)
    found = shown.reset_index(drop=True)
    for name in features.columns:
        same = (found[name] == expected[name]).fillna(False) | (found[name].isna() & expected[name].isna())
        if not same.all():
            raise DataError(
                f"off-policy: {name} of what was shown is not what the feature store joined: "
                "the views' files have changed since prepare, or have a TTL"
            )
