"""Further evaluations, by the names that `[evaluate.extra.<name>]` gives.

A new one is a module here and a line below. An evaluation gets everything that `evaluate` has, and adds
measures, plots and words to what it writes. It is for use cases whose question accuracy does not answer: how
a model holds over the years, what a ranking policy earns.
"""

from ferrocast_training.errors import SettingsError
from ferrocast_training.evaluations.baseline import evaluate_baseline
from ferrocast_training.evaluations.by_year import evaluate_by_year
from ferrocast_training.evaluations.cold_start import evaluate_cold_start
from ferrocast_training.evaluations.evaluation import Evaluated, Evaluation, Extra
from ferrocast_training.evaluations.ranking import evaluate_off_policy

__all__ = ["Evaluated", "Extra", "evaluate_extra"]

EVALUATIONS: dict[str, Evaluation] = {
    "baseline": evaluate_baseline,
    "cold_start": evaluate_cold_start,
    "off_policy": evaluate_off_policy,
    "walk_forward": evaluate_by_year,
}


def evaluate_extra(evaluated: Evaluated) -> dict[str, Extra]:
    """Run every evaluation that the settings name."""
    found = {}
    for name, params in evaluated.use_case.evaluate.extra.items():
        if name not in EVALUATIONS:
            known = ", ".join(sorted(EVALUATIONS))
            raise SettingsError(f"[evaluate.extra] there is no {name}; there are {known}")
        found[name] = EVALUATIONS[name](evaluated, params)
    return found
