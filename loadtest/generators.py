"""The load generators, and what each of them saw, in one form.

`loadgen` (of this folder, in Go) is the one that everything is compared by: it costs little, sends another
request each time, counts what was not answered with OK, and counts an open loop's latency from when a request
was due. `ghz`, `k6` and `h2load` are there to check it by.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from servers import ROOT, LoadTestError

PROGRAM = ROOT / "target" / "loadtest" / "loadgen"
# Beyond the measured time: encoding, connecting, and the last answers, on a machine that may be busy.
SPARE_SECONDS = 180
CONNECTIONS = 8


@dataclass(frozen=True)
class Load:
    """How calls come: so many in flight in a closed loop or, where there is a rate, so many a second."""

    connections: int = CONNECTIONS
    streams: int = 1
    rate: float = 0.0

    @property
    def in_flight(self) -> int:
        """Calls at once, in the closed loop."""
        return self.connections * self.streams

    def __str__(self) -> str:
        """As a report says it."""
        return f"{self.rate:,.0f} a second" if self.rate else f"{self.in_flight} in flight"


def in_flight(calls: int) -> Load:
    """A closed loop of so many calls, on eight connections where there are as many."""
    connections = min(calls, CONNECTIONS)
    return Load(connections, calls // connections)


def rate(calls_per_second: float) -> Load:
    """An open loop, on eight connections."""
    return Load(CONNECTIONS, 1, calls_per_second)


@dataclass(frozen=True)
class Seen:
    """What a generator saw."""

    calls_per_second: float
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    failed: dict[str, int] = field(default_factory=dict)
    # How late the open loop's requests went out, by the generator's own doing.
    sent_late_p99_ms: float = 0.0
    generator_cpu_seconds: float = 0.0

    @property
    def failures(self) -> int:
        """Calls that were not answered with OK."""
        return sum(self.failed.values())


def build() -> None:
    """Builds loadgen where it is not up to date."""
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    go = subprocess.run([ROOT / "scripts" / "go.sh"], check=True, capture_output=True, text=True)
    command = [go.stdout.strip(), "build", "-o", str(PROGRAM), "."]
    done = subprocess.run(command, cwd=ROOT / "loadtest" / "loadgen", capture_output=True, text=True)
    if done.returncode != 0:
        raise LoadTestError(f"loadgen does not build:\n{done.stderr}")


def call(address: str, what: str, data: Path, load: Load, seconds: float, warm_seconds: float = 1.0) -> Seen:
    """Calls an rpc (`package.Service/Method`), or posts JSON to a path (`/predict`)."""
    how = ["--path", what] if what.startswith("/") else ["--call", what, "--protos", str(ROOT / "proto")]
    connections, streams = (load.in_flight, 1) if what.startswith("/") else (load.connections, load.streams)
    command = [str(PROGRAM), "--address", address, *how, "--data", str(data)]
    command += ["--connections", str(connections), "--streams", str(streams), "--rate", str(load.rate)]
    command += ["--warm", f"{warm_seconds}s", "--time", f"{seconds}s"]
    time_max = seconds + warm_seconds + SPARE_SECONDS
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=time_max)
    except subprocess.TimeoutExpired as fault:
        raise LoadTestError(f"loadgen against {address}, {what}: no end after {time_max:.0f} s") from fault
    if done.returncode != 0:
        raise LoadTestError(f"loadgen against {address}, {what}: {done.stderr.strip()}")
    return Seen(**json.loads(done.stdout))
