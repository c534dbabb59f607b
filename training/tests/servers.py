"""Real servers for the tests: started on free ports, stopped by their process."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ferrocast_training.store import Store, onnx_runtime, program

START_S_MAX = 300  # MLflow imports for long on a busy machine
STOP_S_MAX = 20


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def call(url: str, body: Any = None) -> Any:
    """Send JSON, or ask where there is no body; return the JSON of the answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@contextmanager
def ferrocast(store: Store, folder: Path) -> Iterator[str]:
    """Serve the models and the store; give the URL of its REST gateway."""
    grpc, http = free_port(), free_port()
    command = [str(program()), "serve", "--models", str(store.models), "--data-dir", str(store.data_dir)]
    command += ["--grpc-addr", f"127.0.0.1:{grpc}", "--http-addr", f"127.0.0.1:{http}"]
    environment = {"PATH": os.environ["PATH"], "FERROCAST_ONNX_LIBRARY_PATH": str(onnx_runtime())}
    with running(command, folder, environment, f"http://127.0.0.1:{http}/health/ready"):
        yield f"http://127.0.0.1:{http}"


@contextmanager
def mlflow(folder: Path) -> Iterator[str]:
    """Serve MLflow on SQLite, with its files behind the proxy; give its tracking URI."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with running(command, folder, environment, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running(command: list[str], folder: Path, environment: dict[str, str], ready: str) -> Iterator[None]:
    """Run a server until the block ends; it begins once `ready` answers."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, ready, log)
        yield
    finally:
        _stop(process)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_S_MAX
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer: {log.read_text(encoding='utf-8', errors='replace')}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the process and its children, which are a group of their own."""
    if process.poll() is None:
        os.killpg(process.pid, 15)
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
