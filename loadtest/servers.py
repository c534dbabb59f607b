"""The servers that a load test needs, started on free loopback ports and ended by process id.

Standard library only. PostgreSQL runs with its defaults but for the memory that it may use: what a commit
acknowledges is on the disk.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS_MAX = 60.0
# Python's servers import for some seconds, and longer where others use the machine.
PEER_START_SECONDS_MAX = 180.0


class LoadTestError(Exception):
    """Something that a load test needs is not there, or broke off."""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def ferrocast_binary() -> Path:
    """The release build of the server."""
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    binary = target / "release" / "ferrocast"
    if not binary.is_file():
        raise LoadTestError(f"{binary} is not there; `make build` makes it")
    return binary


@contextmanager
def kept_build(folder: Path) -> Iterator[None]:
    """Everything in the block runs a copy of the release build; another build meanwhile changes nothing."""
    copied = folder / "target" / "release" / "ferrocast"
    copied.parent.mkdir(parents=True)
    shutil.copy2(ferrocast_binary(), copied)
    before = os.environ.get("CARGO_TARGET_DIR")
    os.environ["CARGO_TARGET_DIR"] = str(folder / "target")
    try:
        yield
    finally:
        if before is None:
            del os.environ["CARGO_TARGET_DIR"]
        else:
            os.environ["CARGO_TARGET_DIR"] = before


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without settings of somebody else's server."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FERROCAST_") and name != "DATABASE_URL"
    }
    return kept | settings


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that everybody may enter, taken away at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ferrocast-load-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs(names: list[str], folders: str) -> Path:
    """The folder that has all of some programs: one of the system's, newest first, or one on the PATH."""
    candidates = sorted(Path("/").glob(folders), key=lambda path: path.as_posix(), reverse=True)
    candidates += [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    for folder in candidates:
        if all((folder / name).is_file() for name in names):
            return folder
    raise LoadTestError(f"not installed: {', '.join(names)}")


def _wait(
    what: str,
    is_up: Callable[[], bool],
    process: subprocess.Popen[bytes],
    log: Path,
    seconds_max: float = START_SECONDS_MAX,
) -> None:
    give_up_at = time.monotonic() + seconds_max
    while not is_up():
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise LoadTestError(f"{what} did not come up:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.02)


def _answers(port: int) -> bool:
    with socket.socket() as caller:
        caller.settimeout(0.5)
        return caller.connect_ex(("127.0.0.1", port)) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL of its own; gives the URL of an empty database."""
    subprocess.run([ROOT / "scripts" / "postgres.sh"], check=True)
    programs = _programs(["initdb", "postgres", "pg_isready"], "usr/lib/postgresql/*/bin")
    data, log = folder / "postgres", folder / "postgres.log"
    data.mkdir()
    owner: int | None = None
    if os.getuid() == 0:
        # PostgreSQL refuses to run as root.
        owner = pwd.getpwnam("postgres").pw_uid
        os.chown(data, owner, -1)
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres"]
    initdb += ["--auth=trust", "--locale=C", "-E", "UTF8"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=data, user=owner)
    port = free_port()
    command = [
        str(programs / "postgres"),
        *("-D", str(data), "-p", str(port), "-k", ""),
        *("-c", "listen_addresses=127.0.0.1"),
        *("-c", "shared_buffers=512MB", "-c", "max_wal_size=4GB", "-c", "max_connections=200"),
    ]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd=data, user=owner)
    try:
        ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        _wait("PostgreSQL", lambda: subprocess.run(ready).returncode == 0, server, log)
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"
    finally:
        _end(server)


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis of its own that keeps nothing on the disk; gives its URL."""
    program = _programs(["redis-server"], "usr/bin") / "redis-server"
    port, log = free_port(), folder / "redis.log"
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        _wait("Redis", lambda: _answers(port), server, log)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        _end(server)


@dataclass(frozen=True)
class Served:
    """A server that is up: where gRPC and REST are, its process, and how long the start took."""

    grpc: str
    http: str
    pid: int
    start_seconds: float


@contextmanager
def serve(
    folder: Path, models: Path, settings: dict[str, str], binary: Path | None = None
) -> Iterator[Served]:
    """The server, ready; the release build unless another is given."""
    log = folder / "ferrocast.log"
    grpc, http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    settings = {"server.http_addr": http} | onnx_runtime() | settings
    command = [str(binary or ferrocast_binary()), "serve", "--models", str(models), "--grpc-addr", grpc]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    begun = time.monotonic()
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env=environment())
    try:
        _wait("ferrocast", lambda: "Ferrocast is up" in log.read_text(errors="replace"), server, log)
        yield Served(grpc, http, server.pid, time.monotonic() - begun)
    finally:
        _end(server)


def onnx_runtime() -> dict[str, str]:
    """The setting that names ONNX Runtime, which `make runtime` brings and only the root is searched for."""
    libraries = sorted((ROOT / ".tools").glob("onnxruntime/**/libonnxruntime.so*"))
    return {"onnx.library_path": str(libraries[-1])} if libraries else {}


@contextmanager
def ferrocast(folder: Path, models: Path, settings: dict[str, str]) -> Iterator[str]:
    """The server without REST; gives its gRPC address."""
    with serve(folder, models, {"server.http_addr": "off"} | settings) as served:
        yield served.grpc


@dataclass(frozen=True)
class Peer:
    """Another server that is up: its address, its first process, and how long the start took."""

    address: str
    pid: int
    start_seconds: float


@contextmanager
def process(
    what: str, command: list[str], port: int, folder: Path, settings: dict[str, str]
) -> Iterator[Peer]:
    """Any other server, once it listens on its port; gives its process and how long the start took."""
    log = folder / f"{what}.log"
    begun = time.monotonic()
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=folder, env=environment(**settings)
        )
    try:
        _wait(what, lambda: _answers(port), server, log, PEER_START_SECONDS_MAX)
        yield Peer(f"127.0.0.1:{port}", server.pid, time.monotonic() - begun)
    finally:
        _end(server)


def run_ferrocast(*arguments: str | Path, cwd: Path) -> None:
    """Runs a command of the server to its end."""
    done = subprocess.run([ferrocast_binary(), *arguments], cwd=cwd, env=environment(), capture_output=True)
    if done.returncode != 0:
        raise LoadTestError(done.stderr.decode(errors="replace"))


def ghz(address: str, call: str, data: Path, seconds: int, load: list[str]) -> dict[str, Any]:
    """Calls an rpc for some seconds with prepared requests, one after the other; gives ghz's own report."""
    protos = sorted((ROOT / "proto" / "ferrocast" / "v1").glob("*_service.proto"))
    service = call.rsplit(".", 1)[0].rsplit(".", 1)[-1]
    proto = next(path for path in protos if f"service {service} " in path.read_text())
    command = [str(ROOT / ".tools" / "bin" / "ghz"), "--insecure", "--call", call]
    command += ["--import-paths", str(ROOT / "proto"), "--proto", str(proto)]
    command += ["--data-file", str(data), "--duration", f"{seconds}s", "--duration-stop", "wait"]
    command += ["--format", "json", *load, address]
    done = subprocess.run(command, check=True, capture_output=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def grpcurl(address: str, call: str) -> dict[str, Any]:
    """Calls an rpc that takes no fields once, by reflection; gives its answer."""
    command = [str(ROOT / ".tools" / "bin" / "grpcurl"), "-plaintext", address, call]
    done = subprocess.run(command, check=True, capture_output=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
