"""`train`: the training set to a fitted pipeline."""

from pathlib import Path

import joblib

from ferrocast_training.dataset import Dataset
from ferrocast_training.pipeline import Part, Trained, train
from ferrocast_training.steps.step import Context, Outcome, Step
from ferrocast_training.tensors import model_frame

MODEL = "model.joblib"


def parts_of(dataset: Dataset, context: Context) -> dict[str, Part]:
    """Return model frame and labels of each part, by its name."""
    frame = model_frame(dataset.features, context.contract)
    return {name: (frame.iloc[rows], dataset.labels[rows]) for name, rows in vars(dataset.parts).items()}


def load_trained(context: Context) -> Trained:
    """Return the model that the train step has left; the runner has checked its digest."""
    trained: Trained = joblib.load(context.result("train") / MODEL)
    return trained


def _run(context: Context, folder: Path) -> Outcome:
    settings = context.use_case.train
    parts = parts_of(context.dataset(), context)
    with context.terminal.bar("train", settings.library, settings.trees_max or 1) as bar:
        trained = train(
            parts["train"],
            parts["validation"],
            context.contract,
            settings,
            told=lambda done, loss: bar.at(done + 1, f"validation log-loss {loss:.5f}"),
        )
    joblib.dump(trained, folder / MODEL)
    called, loss = trained.library.rounds_called, trained.validation_log_loss
    context.terminal.say(
        "train", f"{settings.library}: {trained.rounds} {called}, validation log-loss {loss:.5f}"
    )
    return Outcome({"rounds": trained.rounds, "validation_log_loss": round(loss, 6)})


TRAIN = Step(
    name="train",
    does="fits preprocessing and model, stopping early on the validation part",
    run=_run,
    needs=("prepare",),
    sections=("train",),
)
