"""Whether everybody answers the same: the scores of the same users, the values of the same features."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from bench import FEAST_READ, PEER_PREDICT, REST_PREDICT, Bench
from servers import LoadTestError
from usecase import FEATURES, NAME, NAMES, user

SCORE_TOLERANCE = 1e-5
HTTP_SECONDS_MAX = 60.0
STRIDE = 997


def scores(bench: Bench, ours: str, theirs: str) -> None:
    """Ferrocast's REST and the FastAPI service; some users.

    Raises:
        LoadTestError: they differ.
    """
    for one in _some(bench):
        answer = post(f"http://{ours}{REST_PREDICT}", {"entities": [{"user_id": one}]})
        score, other = (
            answer["predictions"][0]["score"],
            post(f"http://{theirs}{PEER_PREDICT}", {"user_id": one})["score"],
        )
        if abs(score - other) > SCORE_TOLERANCE:
            raise LoadTestError(f"the score of {one} is {score} here and {other} of the FastAPI service")


def features(bench: Bench, ours: str, theirs: str) -> None:
    """Ferrocast's REST and Feast's server; some users.

    Raises:
        LoadTestError: they differ.
    """
    users = _some(bench)
    asked = {"feature_service": NAME, "entities": [{"user_id": one} for one in users]}
    columns = post(f"http://{ours}/v1/features:get", asked)["columns"]
    here = {each["feature"].split(":")[1]: each["values"] for each in columns}
    answer = post(f"http://{theirs}{FEAST_READ}", {"feature_service": NAME, "entities": {"user_id": users}})
    names = answer["metadata"]["feature_names"]
    there = {name: each["values"] for name, each in zip(names, answer["results"], strict=True)}
    if len(here) != FEATURES or any(here[name] != there.get(name) for name in NAMES):
        raise LoadTestError(f"the features of {users} are {here} here, and of Feast {there}")


def post(url: str, body: Mapping[str, object], method: str = "POST") -> Any:
    """Calls REST once; what is refused is an error.

    Raises:
        LoadTestError: it is refused.
    """
    return _ask(
        urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
        )
    )


def get(url: str) -> Any:
    """As `post`, without a body."""
    return _ask(urllib.request.Request(url))


def _ask(request: urllib.request.Request) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=HTTP_SECONDS_MAX) as answer:
            return json.loads(answer.read())
    except OSError as fault:
        raise LoadTestError(f"{request.get_method()} {request.full_url}: {fault}") from fault


def _some(bench: Bench) -> list[str]:
    return [user(at * STRIDE % bench.effort.users) for at in range(1, 6)]
