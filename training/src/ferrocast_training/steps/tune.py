"""`tune`: better parameters, proposed in a file; a person takes them over, or `--apply` does."""

from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError

from ferrocast_training.errors import SettingsError
from ferrocast_training.files import write_json, write_text
from ferrocast_training.steps.step import Context, Outcome, Step
from ferrocast_training.steps.train import parts_of
from ferrocast_training.tune import tune

BEST = "best.toml"
DIGITS = 4


def _run(context: Context, folder: Path) -> Outcome:
    bounds, settings = context.use_case.tune, context.use_case.train
    if bounds is None:
        raise SettingsError(f"{context.use_case.name}: there is no [tune], which says what to search")
    parts = parts_of(context.dataset(), context)
    with context.terminal.bar("tune", "trials", bounds.trials_max) as bar:
        tuned = tune(
            parts["train"],
            parts["validation"],
            context.contract,
            settings,
            bounds,
            lambda done, best: bar.at(done, f"best validation log-loss {best:.5f}"),
        )
    params = settings.params | {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in tuned.params.items()
    }
    table = tomlkit.inline_table()
    table.update(params)
    document = tomlkit.document()
    document.add("train", tomlkit.table().add("params", table))
    write_text(folder / BEST, tomlkit.dumps(document))
    write_json(folder / "trials.json", tuned.trials)
    pruned = sum(trial["state"] == "PRUNED" for trial in tuned.trials)
    say = context.terminal.say
    say("tune", f"{len(tuned.trials)} trials, {pruned} pruned")
    say(
        "tune",
        f"validation log-loss {tuned.validation_log_loss:.5f}, as it stands {tuned.chosen_log_loss:.5f}",
    )
    say("tune", f"params = {table.as_string()}")
    return Outcome({"params": params, "validation_log_loss": round(tuned.validation_log_loss, 6)})


def apply(context: Context) -> None:
    """Write the best parameters into the settings file, and leave everything else of it as it is."""
    path = context.use_case.folder / f"{context.use_case.name}.toml"
    best = (context.result("tune") / BEST).read_text(encoding="utf-8")
    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
    except TOMLKitError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error
    document["train"]["params"] = tomlkit.parse(best)["train"]["params"]
    write_text(path, tomlkit.dumps(document))
    context.terminal.say("tune", f"{path}: [train] params written")


TUNE = Step(
    name="tune",
    does="searches better parameters within bounds; --apply writes them into the settings",
    run=_run,
    needs=("prepare",),
    sections=("train", "tune"),
)
