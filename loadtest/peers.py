"""The peers that Ferrocast is compared with, started from their own uv project in loadtest/peers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import ROOT, environment, free_port, process
from usecase import NAME

PROJECT = ROOT / "loadtest" / "peers"
WORKERS = 2


def install() -> Path:
    """Installs the peers where they are not yet; gives the folder of their programs."""
    uv = subprocess.run([ROOT / "scripts" / "uv.sh"], check=True, capture_output=True, text=True)
    sync = [uv.stdout.strip(), "sync", "--quiet", "--locked", "--project", str(PROJECT)]
    subprocess.run(sync, check=True, env=environment(VIRTUAL_ENV=""))
    return PROJECT / ".venv" / "bin"


@contextmanager
def fastapi(programs: Path, folder: Path, models: Path, database_url: str) -> Iterator[tuple[str, int]]:
    """The FastAPI service on two workers; gives its address and process id."""
    port = free_port()
    command = [str(programs / "python"), "-m", "uvicorn", "fastapi_service:app", "--app-dir", str(PROJECT)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    settings = {
        "DATABASE_URL": database_url,
        "MODEL_PATH": str(models / NAME / "xgboost.json"),
        # One thread of XGBoost a worker, as there is one core a worker.
        "OMP_NUM_THREADS": "1",
    }
    with process("fastapi", command, port, folder, settings) as pid:
        yield f"127.0.0.1:{port}", pid
