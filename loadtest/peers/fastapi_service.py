"""Predictions by entity, as an able user of FastAPI writes them: what Ferrocast is measured against.

Features stand in typed columns of PostgreSQL, the same table that Ferrocast fills, and are read by asyncpg
through a pool, each connection with its statement prepared. XGBoost predicts in place, on one thread, in the
process. Requests are checked by Pydantic and answers written by orjson; uvicorn runs it with uvloop and
httptools. Nothing is logged and no prediction is kept.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import numpy as np
import orjson
import xgboost
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response
from pydantic import BaseModel

FEATURES = [f"f{index}" for index in range(30)]
QUERY = f"SELECT {', '.join(FEATURES)} FROM fv_wide WHERE user_id = $1"
CONNECTIONS_MAX = 16
THRESHOLD = 0.5


class PredictRequest(BaseModel):
    """Who to predict for."""

    user_id: str


def load_model(path: str) -> xgboost.Booster:
    """Gives the trees, which use the thread that calls them."""
    model = xgboost.Booster()
    model.load_model(path)
    model.set_param({"nthread": 1})
    return model


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Opens what requests need, and closes it."""
    app.state.model = load_model(os.environ["MODEL_PATH"])
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=CONNECTIONS_MAX, max_size=CONNECTIONS_MAX
    ) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, str]:
    """Tells that it is up."""
    return {"status": "ok"}


@app.post("/predict")
async def predict(asked: PredictRequest, request: Request) -> Response:
    """Predicts for one user."""
    # asyncpg keeps the statement prepared on each connection of the pool.
    row = await request.app.state.pool.fetchrow(QUERY, asked.user_id)
    if row is None:
        raise HTTPException(404, f"no features of user {asked.user_id}")
    values = np.array([tuple(row)], dtype=np.float32)
    score = float(request.app.state.model.inplace_predict(values)[0])
    answer: dict[str, Any] = {"score": score, "label": "yes" if score >= THRESHOLD else "no"}
    return Response(orjson.dumps(answer), media_type="application/json")
