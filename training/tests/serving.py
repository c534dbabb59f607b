"""Real servers for the tests: started on free ports, stopped by their process."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from ferrocast_training.store import ROOT, Store, onnx_runtime, program

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
    installed = {each.name for each in distributions()}
    assert "mlflow" in installed, "MLflow's server is not installed: `uv sync --group mlflow-server`"
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    # Without its job runner, which starts six more processes.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    environment.pop("MLFLOW_TRACKING_URI", None)
    with running(command, folder, environment, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def postgres() -> Iterator[str]:
    """Run a throw-away PostgreSQL; give the URL of an empty database."""
    programs = _postgres_programs()
    with tempfile.TemporaryDirectory() as folder:
        data, log, port = Path(folder) / "data", Path(folder) / "postgres.log", free_port()
        data.mkdir()
        Path(folder).chmod(0o755)
        # PostgreSQL refuses to run as root.
        owner = pwd.getpwnam("postgres").pw_uid if os.getuid() == 0 else None
        if owner is not None:
            os.chown(data, owner, -1)
        initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--locale=C"]
        subprocess.run([*initdb, "-E", "UTF8"], check=True, capture_output=True, cwd=data, user=owner)
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", ""]
        command += ["-c", "listen_addresses=127.0.0.1"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=data, user=owner, stdout=output, stderr=output)
        try:
            ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            _until(lambda: subprocess.run(ready, check=False).returncode == 0, process, log)
            yield f"postgres://postgres@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(STOP_S_MAX)


def _postgres_programs() -> Path:
    """Find the folder of the server's programs, which `make test-rust` brings where there are none."""
    subprocess.run([ROOT / "scripts" / "postgres.sh"], check=True, capture_output=True)
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return debian[-1] if debian else Path(str(shutil.which("pg_isready"))).parent


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
        _until(lambda: _answers(ready), process, log)
        yield
    finally:
        _stop(process)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S_MAX
    while not ready():
        said = log.read_text(encoding="utf-8", errors="replace")
        assert process.poll() is None, said
        assert time.monotonic() < end, f"not ready after {START_S_MAX} s: {said}"
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the process and its children, which are a group of their own."""
    if process.poll() is None:
        os.killpg(process.pid, 15)
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
