"""Requests, prepared once as JSON and sent in turn, so that users come in no order."""

from __future__ import annotations

import json
import random
from pathlib import Path

from usecase import NAME, user

REQUESTS_OF_ONE = 50_000
REQUESTS_OF_MANY = 1_000
USERS_OF_MANY = 100


class Requests:
    """Prepared requests, as JSON arrays in files of a folder."""

    def __init__(self, folder: Path, users: int) -> None:
        """Writes all of them, for so many users."""
        self.folder = folder
        chosen = random.Random(3)
        ones = [user(chosen.randrange(users)) for _ in range(REQUESTS_OF_ONE)]
        many = [
            [user(at) for at in chosen.sample(range(users), USERS_OF_MANY)] for _ in range(REQUESTS_OF_MANY)
        ]
        in_turn = [[user(at) for at in range(first, first + 1000)] for first in range(0, users, 1000)]
        self.empty = self._write("empty", [{}])
        self.predict = self._write(
            "predict", [{"model": NAME, "entities": [{"user_id": one}]} for one in ones]
        )
        entities = [[{"user_id": one} for one in asked] for asked in many]
        self.predict_many = self._write(
            "predict_many", [{"model": NAME, "entities": asked} for asked in entities]
        )
        self.predict_rest = self._write("predict_rest", [{"entities": [{"user_id": one}]} for one in ones])
        self.predict_peer = self._write("predict_peer", [{"user_id": one} for one in ones])
        singles = [[one] for one in ones]
        self.one = self._write("one", [_columns(asked) for asked in singles])
        self.one_packed = self._write("one_packed", [_packed(asked) for asked in singles])
        self.many = self._write("many", [_columns(asked) for asked in many])
        self.many_packed = self._write("many_packed", [_packed(asked) for asked in many])
        self.one_feast = self._write("one_feast", [_feast(asked) for asked in singles])
        self.many_feast = self._write("many_feast", [_feast(asked) for asked in many])
        self.everyone = self._write("everyone", [_packed(asked) for asked in in_turn])

    def _write(self, name: str, requests: list[dict[str, object]]) -> Path:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(requests))
        return path


def _columns(users: list[str]) -> dict[str, object]:
    return {"feature_service": NAME, "entities": [{"user_id": one} for one in users]}


def _packed(users: list[str]) -> dict[str, object]:
    keys = [{"name": "user_id", "strings": users}]
    return {"feature_service": NAME, "format": "PACKED", "entity_columns": keys}


def _feast(users: list[str]) -> dict[str, object]:
    return {"feature_service": NAME, "entities": {"user_id": users}}
