"""MLflow: a run for each version with its parameters, measures and files, and the model that an alias means.

The only module that knows MLflow, which only the dependency group `mlflow` installs.
"""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrocast_training.errors import RegisterError

# The folder of a run that holds the version: the source of the registered model version.
VERSION_FOLDER = "version"
DIGEST_TAG = "ferrocast.sha256"
VERSION_TAG = "ferrocast.version"
SECONDS_MAX = 30
RETRIES_MAX = 3
SEARCHED_VERSIONS_MAX = 1000


@dataclass(frozen=True)
class Entry:
    """What is registered: the names, and what the run is given.

    `files` are folders and files by the folder of the run that they go to.
    """

    experiment: str
    model: str
    alias: str
    version: str
    digest: str  # of model.onnx
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    files: list[tuple[Path, str]]


@dataclass(frozen=True)
class Registered:
    """The version in MLflow's registry, and whether it was there before."""

    number: str
    run_id: str
    is_new: bool


def register(uri: str, entry: Entry) -> Registered:
    """Log the run and register its version, unless that very version is registered; let the alias mean it."""
    client = _client(uri)
    from mlflow.exceptions import MlflowException

    try:
        found = _find(client, entry)
        registered = found or _log(client, entry)
        client.set_registered_model_alias(entry.model, entry.alias, registered.number)
    except (MlflowException, OSError) as error:
        raise RegisterError(f"{uri}: {error}") from error
    return registered


def _client(uri: str) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(SECONDS_MAX))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(RETRIES_MAX))
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise RegisterError("MLflow is not installed: run `uv sync --group mlflow`") from error
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # we tell ourselves what is done
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _find(client: Any, entry: Entry) -> Registered | None:
    """Return the version that was registered with the same graph under the same number."""
    asked = f"name='{entry.model}'"
    for each in client.search_model_versions(asked, max_results=SEARCHED_VERSIONS_MAX):
        if each.tags.get(DIGEST_TAG) == entry.digest and each.tags.get(VERSION_TAG) == entry.version:
            return Registered(str(each.version), each.run_id, is_new=False)
    return None


def _log(client: Any, entry: Entry) -> Registered:
    from mlflow.entities import Metric, Param

    tags = {DIGEST_TAG: entry.digest, VERSION_TAG: entry.version}
    run = client.create_run(
        _experiment(client, entry.experiment), run_name=f"{entry.model} {entry.version}", tags=tags
    )
    run_id = run.info.run_id
    try:
        now_ms = int(time.time() * 1000)
        client.log_batch(
            run_id,
            params=[Param(name, value) for name, value in entry.params.items()],
            metrics=[Metric(name, value, now_ms, 0) for name, value in entry.metrics.items()],
        )
        for path, folder in entry.files:
            (client.log_artifacts if path.is_dir() else client.log_artifact)(run_id, str(path), folder)
    except BaseException:
        client.set_terminated(run_id, status="FAILED")
        raise
    client.set_terminated(run_id)
    _make_model(client, entry.model)
    made = client.create_model_version(
        entry.model, source=f"{run.info.artifact_uri}/{VERSION_FOLDER}", run_id=run_id, tags=tags
    )
    return Registered(str(made.version), run_id, is_new=True)


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def _make_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
