"""Every model, in one list."""

from pathlib import Path

from exports import of_catboost, of_lightgbm, of_sklearn, of_xgboost, refused
from exports.export import Export, check, write


def models() -> list[Export]:
    """Train and export what the server has to serve."""
    return [
        of_xgboost.binary(),
        of_xgboost.multiclass(),
        of_xgboost.regression(),
        of_xgboost.ranking(),
        *of_lightgbm.binary(),
        of_lightgbm.multiclass(),
        of_lightgbm.ranking(),
        *of_lightgbm.categories(),
        of_catboost.multiclass(),
        of_catboost.regression(),
        of_catboost.codes(),
        of_sklearn.logistic(),
        of_sklearn.logistic_doubles(),
        of_sklearn.forest(),
        of_sklearn.one_probability(),
        of_sklearn.forest_regression(),
        of_sklearn.forest_columns(),
    ]


def write_all(folder: Path) -> None:
    """Write `models/`, which is served, and `refused/`, which is not."""
    for export in models():
        worst = check(export) if export.runtime == "onnx" else 0.0
        write(export, folder / "models")
        rows, size = len(export.golden.rows), len(export.content)
        print(f"{export.name:28} {rows:4} golden rows, {size:7} bytes, {worst:.1e}")
    for export in refused.models():
        write(export, folder / "refused")
        print(f"{export.name:28} is refused")
