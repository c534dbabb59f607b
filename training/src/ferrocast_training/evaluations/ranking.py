"""The evaluation `off_policy`: what the model would earn if it chose what is shown, from others' logs.

At each impression of the test part every item of its group is scored as it would have been then, and the
greedy policy shows the best. So does one by the baseline's score, and one by a plain number such as a click
rate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferrocast_training.errors import SettingsError
from ferrocast_training.evaluations import baseline
from ferrocast_training.evaluations.candidates import ROW, SHOWN, Candidates
from ferrocast_training.evaluations.evaluation import Evaluated, Extra, params_of
from ferrocast_training.evaluations.off_policy import click_rate
from ferrocast_training.tensors import model_frame
from ferrocast_training.views import EVENT_TIMESTAMP

Follows = NDArray[np.bool_]
Floats = NDArray[np.float64]
Score = Callable[[pd.DataFrame, pd.DataFrame], Floats]  # features, model frame -> [rows]
LOGGED = "as logged"


@dataclass(frozen=True)
class Params:
    """Columns of the label file: the item's key, the log's policy and its propensity.

    Inputs of the model: the group of items that one is chosen from, and `plain`, the number that the
    simplest policy goes by.
    """

    item: str
    group: str
    policy: str
    propensity: str
    plain: str
    resamples: int = 1000
    seed: int = 0


def evaluate_off_policy(evaluated: Evaluated, params: Mapping[str, Any]) -> Extra:
    """Estimate the click rate of each policy, from the log of each logging policy."""
    settings = params_of(Params, "off_policy", params)
    _check(evaluated, settings)
    dataset, tested = evaluated.dataset, evaluated.dataset.parts.test
    log, clicks = dataset.kept.iloc[tested], dataset.labels[tested]
    follows = _follows(evaluated, _scores(evaluated, settings), settings)
    metrics: dict[str, Any] = {}
    for logging in sorted(log[settings.policy].unique()):
        rows = (log[settings.policy] == logging).to_numpy()
        propensities = log[settings.propensity].to_numpy(dtype=np.float64)[rows]
        sampled = {"resamples": settings.resamples, "seed": settings.seed}
        certain = np.ones(int(rows.sum()))
        metrics[logging] = {LOGGED: click_rate(clicks[rows], certain, certain > 0, **sampled)} | {
            name: click_rate(clicks[rows], propensities, chosen[rows], **sampled)
            for name, chosen in follows.items()
        }
    return Extra(metrics, _card(metrics))


def _check(evaluated: Evaluated, settings: Params) -> None:
    for key in ("item", "policy", "propensity"):
        if (column := getattr(settings, key)) not in evaluated.dataset.kept:
            raise SettingsError(f"[evaluate.extra.off_policy] {key}: the label file has no column {column}")
    if settings.plain not in {each.name for each in evaluated.contract.numeric}:
        raise SettingsError(f"[evaluate.extra.off_policy] plain: {settings.plain} is no number of the model")
    if settings.group not in {each.name for each in evaluated.contract.inputs}:
        raise SettingsError(f"[evaluate.extra.off_policy] group: {settings.group} is no input of the model")


def _scores(evaluated: Evaluated, settings: Params) -> dict[str, Score]:
    """Return what each policy goes by."""

    def plain(features: pd.DataFrame, frame: pd.DataFrame) -> Floats:
        return np.asarray(features[settings.plain].astype("Float64").fillna(-np.inf), dtype=np.float64)

    policies: dict[str, Score] = {
        f"best {settings.plain}": plain,
        f"best by {evaluated.trained.library_name}": lambda features, frame: evaluated.trained.scores(frame),
    }
    if (params := evaluated.use_case.evaluate.extra.get(baseline.NAME)) is not None:
        wanted = params_of(baseline.Params, baseline.NAME, params)
        other = baseline.train_baseline(evaluated, wanted)
        policies[f"best by {other.library_name}"] = lambda features, frame: other.scores(frame)
    return policies


def _follows(evaluated: Evaluated, policies: dict[str, Score], settings: Params) -> dict[str, Follows]:
    """Return by policy and test row whether the policy would have shown what was shown.

    Which of the items that score the same is the best is drawn by lot: by name, some would always win.
    """
    dataset, tested = evaluated.dataset, evaluated.dataset.parts.test
    of_all = dataset.kept.assign(
        **{EVENT_TIMESTAMP: dataset.times, settings.group: dataset.features[settings.group]}
    )
    impressions, features = (
        frame.iloc[tested].reset_index(drop=True) for frame in (of_all, dataset.features)
    )
    items = of_all[[settings.group, settings.item]].drop_duplicates()
    follows = {name: np.zeros(len(tested), dtype=bool) for name in policies}
    chosen = np.random.default_rng(settings.seed)
    every_item = Candidates.of(evaluated.contract, settings.item)
    for shown, joined in every_item.chunks(impressions, features, items, settings.group):
        frame, tie = model_frame(joined, evaluated.contract), chosen.random(len(shown))
        for name, score in policies.items():
            ranked = shown.assign(score=score(joined, frame), tie=tie).sort_values(
                ["score", "tie"], ascending=False
            )
            first = ranked.drop_duplicates(ROW)
            follows[name][first[ROW].to_numpy()] = first[SHOWN].to_numpy()
    return follows


def _card(metrics: dict[str, Any]) -> str:
    lines = [
        "Clicks per impression on the test part, estimated from the log of a logging policy; 95 % intervals "
        "by bootstrap over impressions, without a shared click by the rule of three. Shared: impressions at "
        "which the policy would have shown what was shown; worth: as many that weigh the same.",
        "",
        "| log | policy | impressions | shared | clicks | worth | IPW | 95 % | self-normalised | 95 % |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for logging, policies in metrics.items():
        for name, found in policies.items():
            lines.append(
                f"| {logging} | {name} | {found['rows']:,} | {found['rows_shared']:,} "
                f"| {found['clicks_shared']} | {found['effective_rows']:,} "
                f"| {_percent(found['ipw'])} | {_between(found['ipw_95'])} "
                f"| {_percent(found['self_normalised'])} | {_between(found['self_normalised_95'])} |"
            )
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return f"{value:.2%}" if value is not None else "not known"


def _between(interval: list[float] | None) -> str:
    return f"{interval[0]:.2%} to {interval[1]:.2%}" if interval else "not known"
