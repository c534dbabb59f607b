"""`evaluate`: how good the model is, in numbers, plots and words."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ferrocast_training import plots
from ferrocast_training.card import model_card
from ferrocast_training.compare import MASKED_SHARE, compare, variants
from ferrocast_training.evaluations import Evaluated, Extra, evaluate_extra
from ferrocast_training.explain import contributions
from ferrocast_training.files import write_json, write_text
from ferrocast_training.measures import importance, measure
from ferrocast_training.steps.step import Context, Outcome, Step
from ferrocast_training.steps.train import load_trained, parts_of
from ferrocast_training.tensors import model_frame

METRICS = "metrics.json"
CARD = "MODEL_CARD.md"
PLOTS = "plots"
EXPLAINED_ROWS_MAX = 20_000


def _run(context: Context, folder: Path) -> Outcome:
    use_case, contract, dataset = context.use_case, context.contract, context.dataset()
    trained = load_trained(context)
    frame = model_frame(dataset.features, contract)
    scores = trained.scores(frame)
    metrics = measure(use_case, dataset, trained, scores)
    explained = frame.iloc[dataset.parts.test[:EXPLAINED_ROWS_MAX]]
    metrics["test_importance"] = importance(contributions(explained, contract, trained)[0], contract)
    if use_case.evaluate.compare:
        metrics["comparisons"] = _comparisons(context)
    evaluated = Evaluated(use_case, contract, dataset, frame, trained, scores, metrics["threshold"]["value"])
    extras = evaluate_extra(evaluated)
    metrics |= {name: extra.metrics for name, extra in extras.items()}

    (folder / PLOTS).mkdir()
    drawn = _plots(evaluated, metrics, extras)
    for name, made in drawn.items():
        plots.save(made, folder / PLOTS / f"{name}.png")
    write_json(folder / METRICS, metrics)
    prepared = context.result("prepare")
    write_text(folder / CARD, model_card(evaluated, metrics, extras, list(drawn), prepared))
    test = metrics["test"]
    said = f"test ROC-AUC {test['roc_auc']:.4f}, PR-AUC {test['pr_auc']:.4f}, log-loss {test['log_loss']:.4f}"
    context.terminal.say("evaluate", said)
    return Outcome({name: test[name] for name in ("roc_auc", "pr_auc", "log_loss", "brier")})


def _comparisons(context: Context) -> dict[str, Any]:
    parts, settings = parts_of(context.dataset(), context), context.use_case.train
    total = len(variants(settings)) + len(context.contract.categorical)
    with context.terminal.bar("evaluate", "variants", total) as bar:
        compared = compare(parts["train"], parts["validation"], context.contract, settings, bar.at)
    return {
        "note": f"validation part only; masked: {MASKED_SHARE:.0%} of the numbers made missing",
        "variants": compared,
    }


def _plots(evaluated: Evaluated, metrics: dict[str, Any], extras: dict[str, Extra]) -> dict[str, Figure]:
    dataset, label = evaluated.dataset, evaluated.use_case.label
    labels, scores = dataset.labels[dataset.parts.test], evaluated.scores[dataset.parts.test]
    watched = dataset.labels[dataset.parts.validation]
    watched_scores = evaluated.scores[dataset.parts.validation]
    test, cost = metrics["test"], evaluated.use_case.evaluate.missed_positive_cost
    return {
        "roc": plots.roc(labels, scores, test["roc_auc"]),
        "precision_recall": plots.precision_recall(labels, scores, test["pr_auc"]),
        "calibration": plots.calibrated(metrics["test_calibration"]),
        "scores": plots.score_distribution(labels, scores, label.negative, label.positive),
        "confusion": plots.confusion(test["at_threshold"], label.negative, label.positive),
        "cost": plots.cost_curve(watched, watched_scores, cost, evaluated.threshold),
        "importance": plots.importances(metrics["test_importance"]),
    } | {name: made for extra in extras.values() for name, made in extra.plots.items()}


EVALUATE = Step(
    name="evaluate",
    does="measures the model, chooses the threshold, draws the plots, writes the model card",
    run=_run,
    needs=("prepare", "train"),
    sections=("evaluate", "label", "split", "train", "export"),
)
