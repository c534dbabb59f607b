"""The peers that Ferrocast is compared with, started from their own uv project in loadtest/peers."""

from __future__ import annotations

import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from servers import ROOT, LoadTestError, Peer, environment, free_port, process
from usecase import NAME

PROJECT = ROOT / "loadtest" / "peers"
WORKERS = 2
NAMED = ["fastapi", "uvicorn", "asyncpg", "xgboost-cpu", "feast"]
# Feast loads some hundred rows a second where the machine is busy.
FEAST_SECONDS_MAX = 900


def install() -> Path:
    """Installs the peers where they are not yet; gives the folder of their programs."""
    uv = subprocess.run([ROOT / "scripts" / "uv.sh"], check=True, capture_output=True, text=True)
    sync = [uv.stdout.strip(), "sync", "--quiet", "--locked", "--project", str(PROJECT)]
    kept = {name: value for name, value in environment().items() if name != "VIRTUAL_ENV"}
    subprocess.run(sync, check=True, env=kept)
    return PROJECT / ".venv" / "bin"


def versions() -> dict[str, str]:
    """The peers' libraries, as they are locked."""
    locked = tomllib.loads((PROJECT / "uv.lock").read_text())["package"]
    return {each["name"]: each["version"] for each in locked if each["name"] in NAMED}


@contextmanager
def fastapi(programs: Path, folder: Path, models: Path, database_url: str) -> Iterator[Peer]:
    """The FastAPI service on two workers."""
    port = free_port()
    command = [str(programs / "python"), "-m", "uvicorn", "fastapi_service:app", "--app-dir", str(PROJECT)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    settings = {
        "DATABASE_URL": database_url,
        "MODEL_PATH": str(models / NAME / "xgboost.json"),
        # As many threads as there are cores, a worker having one.
        "OMP_NUM_THREADS": "1",
    }
    with process("fastapi", command, port, folder, settings) as served:
        yield served


class Feast:
    """A Feast repository on the same PostgreSQL, with the same rows."""

    def __init__(self, programs: Path, folder: Path, models: Path, database_url: str) -> None:
        """Lays the repository out, and does nothing with it yet."""
        self.program = str(programs / "feast")
        self.repository = folder / "feast"
        shutil.copytree(PROJECT / "feast_repo", self.repository, ignore=shutil.ignore_patterns("__pycache__"))
        self.settings = {
            "PGPORT": str(urlsplit(database_url).port),
            "ROWS": str(models / NAME / f"{NAME}.parquet"),
            "FEAST_USAGE": "False",
        }

    def apply(self) -> None:
        """Makes Feast's tables."""
        self._run("apply")

    def materialize(self) -> float:
        """Loads all rows; gives the seconds of the command."""
        begun = time.monotonic()
        self._run("materialize", "2025-12-01T00:00:00", "2026-02-01T00:00:00")
        return time.monotonic() - begun

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [self.program, *arguments],
            cwd=self.repository,
            env=environment(**self.settings),
            capture_output=True,
            text=True,
            timeout=FEAST_SECONDS_MAX,
        )
        if done.returncode != 0:
            raise LoadTestError(f"feast {arguments[0]}: {done.stderr[-2000:]}")

    @contextmanager
    def serve(self) -> Iterator[Peer]:
        """Feast's own Python server on two workers, which it would else start anew after 1,000 requests."""
        port = free_port()
        command = [self.program, "serve", "--port", str(port), "--workers", str(WORKERS)]
        command += ["--no-access-log", "--max-requests", "0", "--max-requests-jitter", "0"]
        with process("feast-server", command, port, self.repository, self.settings) as served:
            yield served
