"""The feature store, by its own program: definitions applied, views loaded, training sets joined."""

import os
import subprocess
from dataclasses import dataclass, replace
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from ferrocast_training.contract import Contract
from ferrocast_training.errors import StoreError

ROOT = Path(__file__).resolve().parents[3]
SECONDS_MAX = 3600
ONNX_RUNTIME = "FERROCAST_ONNX_LIBRARY_PATH"
SQLITE = "sqlite:"
EMBEDDED = "ferrocast.db"


@dataclass(frozen=True)
class Store:
    """A feature store: the database of `database_url`, or without one an embedded file in `data_dir`."""

    models: Path
    data_dir: Path
    database_url: str = ""

    @property
    def sqlite_path(self) -> Path | None:
        """The file that it is, if it is one."""
        if self.database_url and not self.database_url.startswith(SQLITE):
            return None
        return self.data_dir / (self.database_url.removeprefix(SQLITE) or EMBEDDED)

    def apply(self, contract: Contract) -> None:
        """Make the store as features.toml says."""
        self.ferrocast("apply", str(contract.folder))

    def materialize(self, contract: Contract) -> None:
        """Load every view of the use case from its file."""
        self.ferrocast("materialize", *contract.views)

    def historical(self, spine: Path, timestamp_field: str, features: list[str], out: Path) -> None:
        """Join `spine`, a Parquet file with a row a label, with the features as they were known then."""
        asked = [
            "--spine",
            str(spine),
            "--timestamp-field",
            timestamp_field,
            "--features",
            ",".join(features),
        ]
        self.ferrocast("historical", *asked, "--out", str(out))

    def check(self, contract: Contract) -> str:
        """Check the use case as the server would at its start; return what it said.

        It is checked alone, so that another one that has no version yet is not in the way.
        """
        with TemporaryDirectory() as alone:
            (Path(alone) / contract.folder.name).symlink_to(contract.folder)
            return replace(self, models=Path(alone)).ferrocast("check")

    def ferrocast(self, *arguments: str) -> str:
        """Run the program and return what it printed; what it complains of becomes a `StoreError`."""
        command = [str(program()), *arguments, "--models", str(self.models), "--data-dir", str(self.data_dir)]
        self.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(
                command,
                cwd=self.data_dir,  # no ferrocast.toml and no .env of anybody else
                env=self._environment(),
                capture_output=True,
                text=True,
                timeout=SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise StoreError(f"ferrocast {arguments[0]} did not end within {SECONDS_MAX} s") from error
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip() or f"ended with code {done.returncode}"
            raise StoreError(f"ferrocast {arguments[0]}: {said.removeprefix('error: ')}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FERROCAST_")}
        kept.pop("DATABASE_URL", None)
        kept[ONNX_RUNTIME] = os.environ.get(ONNX_RUNTIME) or str(onnx_runtime())
        # Not on the command line, where everyone could read the password.
        return kept | ({"DATABASE_URL": self.database_url} if self.database_url else {})


def called(database_url: str) -> str:
    """Name a database for people: neither user nor password."""
    if not database_url or database_url.startswith(SQLITE):
        return f"SQLite {database_url.removeprefix(SQLITE)}" if database_url else "embedded"
    url = urlsplit(database_url)
    return f"PostgreSQL {url.netloc.rpartition('@')[2]}{url.path}"


def program() -> Path:
    """Find the program: FERROCAST_BIN, or what `make build historical` has built."""
    if stated := os.environ.get("FERROCAST_BIN"):
        path = Path(stated).resolve()
        if not path.is_file():
            raise StoreError(f"FERROCAST_BIN: {path} is not there")
        return path
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    for path in (target / profile / "ferrocast" for profile in ("release", "debug")):
        if path.is_file() and path.with_name("ferrocast-historical").is_file():
            return path
    raise StoreError("ferrocast is not built: run `make build historical`, or set FERROCAST_BIN")


def onnx_runtime() -> Path:
    """Find ONNX Runtime's library in its Python package: the one that the graphs were checked with."""
    capi = Path(str(distribution("onnxruntime").locate_file("onnxruntime/capi")))
    found = sorted([*capi.glob("libonnxruntime.so*"), *capi.glob("libonnxruntime*.dylib")])
    if not found:
        raise StoreError(f"{capi}: ONNX Runtime's library is not there; set {ONNX_RUNTIME}")
    return found[0]
