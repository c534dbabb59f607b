"""The steps from raw data to a registered model, in their order.

What a step is, `step.py` tells; `runner.py` runs them.
"""

from ferrocast_training.steps.evaluate import EVALUATE
from ferrocast_training.steps.explore import EXPLORE
from ferrocast_training.steps.export import EXPORT
from ferrocast_training.steps.prepare import PREPARE
from ferrocast_training.steps.register import REGISTER
from ferrocast_training.steps.step import Context, Outcome, Step
from ferrocast_training.steps.train import TRAIN
from ferrocast_training.steps.tune import TUNE

__all__ = ["RUN", "STEPS", "Context", "Outcome", "Step"]

# `tune` proposes and a person decides: it is not part of a run.
RUN = (PREPARE, EXPLORE, TRAIN, EVALUATE, EXPORT, REGISTER)
STEPS = {step.name: step for step in (PREPARE, EXPLORE, TRAIN, TUNE, EVALUATE, EXPORT, REGISTER)}
