"""The search for better parameters: Optuna's, seeded, pruned and bounded, on the validation part."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import optuna

from ferrocast_training.contract import Contract
from ferrocast_training.errors import SettingsError
from ferrocast_training.pipeline import Part, train
from ferrocast_training.settings import Range, Train, Tune

STARTUP_TRIALS = 8
WARMUP_ROUNDS = 10


@dataclass(frozen=True)
class Tuned:
    """The best parameters found, and all that was tried."""

    params: dict[str, Any]
    validation_log_loss: float
    chosen_log_loss: float  # of the parameters as they stand
    trials: list[dict[str, Any]]


def tune(
    training: Part,
    validation: Part,
    contract: Contract,
    settings: Train,
    bounds: Tune,
    told: Callable[[int, float], None],
) -> Tuned:
    """Search until `trials_max` or `seconds_max`; the first trial has the parameters as they stand.

    A trial is pruned when it is worse than the median of the earlier ones at the same round. `told` hears of
    the number of finished trials, and the best loss.
    """

    def objective(trial: optuna.Trial) -> float:
        params = settings.params | {name: suggest(trial, name, each) for name, each in bounds.space.items()}

        def watch(done: int, loss: float) -> None:
            trial.report(loss, done)
            if trial.should_prune():
                raise optuna.TrialPruned

        chosen = replace(settings, params=params)
        return train(training, validation, contract, chosen, told=watch).validation_log_loss

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a fault is told by us, without its traceback
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=bounds.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARMUP_ROUNDS),
    )
    standing = {name: value for name, value in settings.params.items() if name in bounds.space}
    if set(standing) == set(bounds.space):
        study.enqueue_trial(standing)
    study.optimize(
        objective,
        n_trials=bounds.trials_max,
        timeout=bounds.seconds_max,
        callbacks=[lambda study, trial: told(trial.number + 1, study.best_value)],
    )
    chosen = train(training, validation, contract, settings).validation_log_loss
    return Tuned(study.best_params, study.best_value, chosen, [_plain(trial) for trial in study.trials])


def suggest(trial: optuna.Trial, name: str, each: Range) -> Any:
    """Return the trial's value of one parameter: whole numbers where both ends are."""
    if each.choices:
        return trial.suggest_categorical(name, each.choices)
    if each.low is None or each.high is None:
        raise SettingsError(f"[tune.space] {name}: low and high, or choices, have to be stated")
    try:
        if isinstance(each.low, int) and isinstance(each.high, int):
            return trial.suggest_int(name, each.low, each.high, log=each.log)
        return trial.suggest_float(name, each.low, each.high, log=each.log)
    except ValueError as error:
        raise SettingsError(f"[tune.space] {name}: {error}") from error


def _plain(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name,
        "log_loss": trial.value,
        "params": trial.params,
    }
