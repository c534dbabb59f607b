"""The version goes to a real MLflow server, is registered once, and the alias means it."""

import hashlib
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ferrocast_training.errors import RegisterError
from ferrocast_training.settings import Register
from ferrocast_training.steps import STEPS
from ferrocast_training.steps.runner import run_steps
from ferrocast_training.steps.step import Context

from .conftest import said, with_train
from .serving import call, free_port, mlflow


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


def register(context: Context, uri: str, **names: str) -> str:
    """Register under the names; return what was said."""
    use_case = replace(context.use_case, register=Register(**names))
    there = replace(context, use_case=use_case, tracking_uri=uri)
    run_steps([STEPS["register"]], there)
    return said(there)


def meant(uri: str, name: str, alias: str) -> Any:
    query = urllib.parse.urlencode({"name": name, "alias": alias})
    return call(f"{uri}/api/2.0/mlflow/registered-models/alias?{query}")["model_version"]


def test_run_and_version_are_there_with_all_their_files(copied: Context, tracking_uri: str) -> None:
    register(copied, tracking_uri)
    version = meant(tracking_uri, "german_credit", "champion")
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    graph = (copied.version_folder / "model.onnx").read_bytes()
    assert tags == {"ferrocast.version": "1", "ferrocast.sha256": hashlib.sha256(graph).hexdigest()}

    prefix = "mlflow-artifacts:/"
    assert version["source"].startswith(prefix) and version["source"].endswith("/artifacts/version")
    files = f"{tracking_uri}/api/2.0/mlflow-artifacts/artifacts/{version['source'].removeprefix(prefix)}"
    for path in (each for each in copied.version_folder.rglob("*") if each.is_file()):
        name = path.relative_to(copied.version_folder).as_posix()
        with urllib.request.urlopen(f"{files}/{name}", timeout=30) as answer:
            assert answer.read() == path.read_bytes(), name
    with urllib.request.urlopen(f"{files}/definitions/model.toml", timeout=30) as answer:
        assert answer.read() == (copied.contract.folder / "model.toml").read_bytes()

    run = call(f"{tracking_uri}/api/2.0/mlflow/runs/get?run_id={version['run_id']}")["run"]
    assert run["info"]["status"] == "FINISHED"
    params = {each["key"]: each["value"] for each in run["data"]["params"]}
    metrics = {each["key"]: each["value"] for each in run["data"]["metrics"]}
    assert params["train.library"] == "logistic_regression" and params["train.C"] == "0.3"
    assert params["split.train"] == "0.7"
    assert metrics["test.roc_auc"] > 0.75 and metrics["test.f1"] > 0
    listed = call(f"{tracking_uri}/api/2.0/mlflow/artifacts/list?run_id={version['run_id']}")["files"]
    assert {each["path"] for each in listed} == {"explore", "settings", "version"}


def test_the_same_version_is_registered_once_and_every_alias_means_it(
    copied: Context, tracking_uri: str
) -> None:
    names = {"name": "credit_again", "experiment": "again"}
    assert "credit_again version 1 is registered, champion means it" in register(
        copied, tracking_uri, **names
    )
    second = register(copied, tracking_uri, **names, alias="staging")
    assert "credit_again version 1 was registered before, staging means it" in second
    assert meant(tracking_uri, "credit_again", "champion")["version"] == "1"
    assert meant(tracking_uri, "credit_again", "staging")["version"] == "1"


def test_another_model_is_another_version(copied: Context, tracking_uri: str) -> None:
    register(copied, tracking_uri, name="credit_two")
    other = replace(copied, use_case=with_train(copied.use_case, params={"C": 0.1}))
    assert "credit_two version 2 is registered" in register(other, tracking_uri, name="credit_two")
    assert meant(tracking_uri, "credit_two", "champion")["version"] == "2"


def test_a_server_that_is_away_is_named_and_nothing_is_kept(
    copied: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{free_port()}"
    before = (copied.result("register") / "result.json").read_bytes()
    with pytest.raises(RegisterError, match=f"^{uri}: "):
        register(copied, uri)
    assert (copied.result("register") / "result.json").read_bytes() == before


def test_what_the_server_does_not_take_leaves_no_version(copied: Context, tracking_uri: str) -> None:
    with pytest.raises(RegisterError, match="alias"):
        register(copied, tracking_uri, name="credit_bad", alias="not an alias!")
