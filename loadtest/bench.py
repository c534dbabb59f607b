"""What every measurement stands on: the data in a PostgreSQL of its own, requests, and servers over them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import generators
from generators import Load, Seen, call, rate
from prepared import Requests
from servers import LoadTestError, Served, kept_build, postgres, redis, run_ferrocast, scratch, serve
from usecase import USERS, in_views, run_by, use_case

EMPTY = "ferrocast.v1.PredictionService/GetLedgerStatus"
PREDICT = "ferrocast.v1.PredictionService/PredictByEntity"
READ = "ferrocast.v1.FeatureService/GetOnlineFeatures"
REST_PREDICT = "/v1/models/wide:predictByEntity"
PEER_PREDICT = "/predict"
FEAST_READ = "/get-online-features"
CACHE = {"cache.bytes_max": str(1 << 30), "cache.age_ms_max": str(86_400_000)}
# The peers keep no predictions either.
SETTINGS = {"telemetry.log_filter": "warn", "ledger.enabled": "false"}
# Of a peer whose calls take a second under load.
SLOW_SECONDS_MIN = 5.0
SLOW_WARM_SECONDS = 3.0
STORES = ("postgres", "sqlite", "redis")


@dataclass(frozen=True)
class Effort:
    """How long and how often is measured."""

    seconds: float
    rounds: int
    users: int
    # Whether all loads are measured, or only some of them.
    is_full: bool = True

    @property
    def warm_seconds(self) -> float:
        """Before each."""
        return min(1.0, self.seconds / 3)


FULL = Effort(seconds=4.0, rounds=3, users=USERS)
QUICK = Effort(seconds=1.0, rounds=1, users=5_000, is_full=False)


@dataclass
class Bench:
    """Everything is there and loaded, and nothing but PostgreSQL runs."""

    stack: ExitStack
    folder: Path
    models: Path
    requests: Requests
    postgres_url: str
    effort: Effort
    # The settings of each store that is loaded.
    stores: dict[str, dict[str, str]] = field(default_factory=dict)
    folders: int = 0

    def settings(self, store: str) -> dict[str, str]:
        """Those of a store, which is loaded at its first use."""
        if store not in self.stores:
            self.stores[store] = self._load(store)
        return self.stores[store]

    def _load(self, store: str) -> dict[str, str]:
        if store == "sqlite":
            settings = SETTINGS | {"database.url": f"sqlite:{self.folder / 'store.db'}"}
            self.run("apply", settings)
            self.run("materialize", settings)
            return settings
        settings = SETTINGS | {"database.url": self.postgres_url}
        if store == "redis":
            self.settings("postgres")
            settings["online.redis_urls"] = self.stack.enter_context(redis(self.folder))
            self.run("refill", settings)
            return settings
        self.run("apply", settings)
        self.run("materialize", settings)
        return settings

    def in_views(self, views: int) -> Bench:
        """The same use case with its features in so many views, in a database of its own."""
        models = in_views(views, self.models, self.new_folder() / "models")
        url = self.new_database()
        folder = self.folder / f"views{views}"
        folder.mkdir()
        return Bench(self.stack, folder, models, self.requests, url, self.effort)

    def run(self, command: str, settings: dict[str, str]) -> None:
        """A command of the server, to its end."""
        flags = [flag for name, value in settings.items() for flag in ("--set", f"{name}={value}")]
        run_ferrocast(command, "--models", self.models, *flags, cwd=self.folder)

    def new_folder(self) -> Path:
        """A folder of a server's own."""
        self.folders += 1
        made = self.folder / f"server{self.folders}"
        made.mkdir()
        return made

    def new_database(self) -> str:
        """The URL of an empty database of the same PostgreSQL."""
        self.folders += 1
        name = f"other{self.folders}"
        command = [
            "psql",
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            self.postgres_url,
            "-c",
            f"CREATE DATABASE {name}",
        ]
        subprocess.run(command, check=True)
        return f"{self.postgres_url.rsplit('/', 1)[0]}/{name}"

    @contextmanager
    def server(
        self,
        store: str,
        *,
        cached: bool,
        filled: bool = True,
        runtime: str | None = None,
        more: dict[str, str] | None = None,
        binary: Path | None = None,
    ) -> Iterator[Served]:
        """A server over a store; where it is cached, all users are in the cache unless that is not wanted.

        `runtime`: what runs the model, where it is not ONNX Runtime. `binary`: another build of the server.
        """
        settings = self.settings(store) | (CACHE if cached else {}) | (more or {})
        folder = self.new_folder()
        models = self.models if runtime is None else run_by(runtime, self.models, folder / "models")
        with serve(folder, models, settings, binary) as served:
            if cached and filled:
                self.fill(served)
            yield served

    def fill(self, served: Served) -> None:
        """Reads all users, each at least once."""
        calls = self.effort.users // 1000
        seen = call(served.grpc, READ, self.requests.everyone, rate(calls), seconds=2, warm_seconds=0)
        if seen.failures:
            raise LoadTestError(f"filling the cache failed: {seen.failed}")

    def call(
        self, address: str, what: str, data: Path, load: Load, warm_seconds: float | None = None
    ) -> Seen:
        """For as long as the effort says."""
        warm = self.effort.warm_seconds if warm_seconds is None else warm_seconds
        return call(address, what, data, load, self.effort.seconds, warm)

    def call_slow(self, address: str, what: str, data: Path, load: Load) -> Seen:
        """For longer, so that enough is answered of what takes a second each."""
        seconds = max(self.effort.seconds, SLOW_SECONDS_MIN)
        return call(address, what, data, load, seconds, SLOW_WARM_SECONDS)


@contextmanager
def bench(effort: Effort) -> Iterator[Bench]:
    """Makes what is not there yet, starts PostgreSQL and loads it; ends all that was started."""
    # Whoever stops it gets its servers stopped as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    generators.build()
    models = use_case(effort.users)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        stack.enter_context(kept_build(folder))
        url = stack.enter_context(postgres(folder))
        made = Bench(stack, folder, models, Requests(folder, effort.users), url, effort)
        made.settings("postgres")
        yield made
