"""What the server's time goes to while it is called: perf's samples, in groups that one can act on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import EMPTY, PREDICT, REST_PREDICT, Bench
from generators import Seen, in_flight
from machine import TICKS_PER_SECOND
from servers import LoadTestError, Served
from turns import failures, say, table

SAMPLES_A_SECOND = 997
SYMBOLS_SHOWN = 25
# The first group whose mark is in the library's or the function's name has the sample.
GROUPS = {
    "the model: ONNX Runtime": ("libonnxruntime",),
    "the model: trees": ("runtimes::compiled",),
    "the kernel: network, threads, memory": ("[kernel", "[vdso]", "[unknown]"),
    "HTTP/2, TLS and TCP: h2, hyper, tonic, tower, axum": (
        *("h2::", "hyper", "tonic::", "tower", "axum", "http::", "matchit", "mio::", "httparse", "rustls"),
    ),
    "threads and tasks: tokio": ("tokio", "futures_util", "parking_lot", "futures_core"),
    "memory: the allocator": ("mi_", "mimalloc", "malloc", "free"),
    "memory: copies": ("memcpy", "memmove", "memset", "memcmp", "bcmp"),
    "messages: prost, serde, JSON": ("prost", "serde", "bytes::", "ferrocast_gateway"),
    "the store's client": ("postgres", "deadpool"),
    "Ferrocast": ("ferrocast",),
}
REST_OF_IT = "others"


@dataclass(frozen=True)
class Profile:
    """What was seen of one call."""

    name: str
    seen: Seen
    cpu_micros_a_call: float
    # (library, function): samples.
    samples: Counter[tuple[str, str]]

    def shares(self) -> dict[str, float]:
        """Of all samples, by group."""
        total = max(self.samples.total(), 1)
        found = dict.fromkeys([*GROUPS, REST_OF_IT], 0.0)
        for (library, function), count in self.samples.items():
            found[group_of(library, function)] += count / total
        return found


def group_of(library: str, function: str) -> str:
    """Where a sample belongs."""
    for group, marks in GROUPS.items():
        if any(mark in library or mark in function for mark in marks):
            return group
    return REST_OF_IT


def measure(bench: Bench) -> str:
    """The calls side by side, as tables."""
    with ExitStack() as stack:
        cached = stack.enter_context(bench.server("postgres", cached=True))
        walked = stack.enter_context(bench.server("postgres", cached=True, runtime="trees"))
        bare = stack.enter_context(bench.server("postgres", cached=False))
        requests = bench.requests
        calls = {
            "empty call": (cached, EMPTY, requests.empty),
            "PredictByEntity, cached": (cached, PREDICT, requests.predict),
            "the same, runtime trees": (walked, PREDICT, requests.predict),
            "the same, cache off": (bare, PREDICT, requests.predict),
            "REST, cached": (cached, REST_PREDICT, requests.predict_rest),
        }
        profiles = [_profile(bench, name, served, what, data) for name, (served, what, data) in calls.items()]
    return _told(profiles)


def _profile(bench: Bench, name: str, served: Served, what: str, data: Path) -> Profile:
    is_rest = what == REST_PREDICT
    address = served.http if is_rest else served.grpc

    def load() -> Seen:
        return bench.call(address, what, data, in_flight(64))

    recorded = bench.new_folder() / "perf.data"
    load()
    begun = _cpu_seconds(served.pid)
    # The warm-up is in the server's time, and so in the calls that it is divided by.
    seen, samples = _recorded(served.pid, recorded, load, bench.effort.seconds)
    answered = seen.calls * (1 + bench.effort.warm_seconds / bench.effort.seconds)
    micros = 1e6 * (_cpu_seconds(served.pid) - begun) / max(answered, 1)
    told = f"{seen.calls_per_second:,.0f} calls/s, {micros:.1f} µs of the server's a call"
    say(f"{name}: {told}, {failures(seen)}")
    return Profile(name, seen, micros, samples)


def _recorded(
    pid: int, file: Path, load: Callable[[], Seen], seconds: float
) -> tuple[Seen, Counter[tuple[str, str]]]:
    perf = shutil.which("perf")
    if perf is None:
        raise LoadTestError("there is no perf, which Debian's linux-perf has")
    command = [perf, "record", "-q", "-F", str(SAMPLES_A_SECOND), "-p", str(pid), "-o", str(file)]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(load)
        done = subprocess.run([*command, "--", "sleep", str(seconds)], capture_output=True, text=True)
        seen = running.result()
    if done.returncode != 0:
        raise LoadTestError(f"perf may not look at the server: {done.stderr.strip()}")
    fields = [perf, "report", "-i", str(file), "--stdio", "-q", "--field-separator=\t"]
    said = subprocess.run(
        [*fields, "--sort", "dso,symbol", "-F", "sample,dso,symbol"],
        capture_output=True,
        text=True,
        check=True,
    )
    samples: Counter[tuple[str, str]] = Counter()
    for line in said.stdout.splitlines():
        parts = [part.strip() for part in line.split("\t")]
        # Newer ones add columns.
        if len(parts) >= 3 and parts[0].isdecimal():
            function = parts[2].split("] ", 1)[-1]
            # An address, of a library that does not tell its functions' names.
            is_named = not function.startswith("0x")
            samples[parts[1], function if is_named else "without a name"] += int(parts[0])
    return seen, samples


def _cpu_seconds(pid: int) -> float:
    values = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(values[11]) + int(values[12])) / TICKS_PER_SECOND


def _told(profiles: list[Profile]) -> str:
    header = ["64 in flight", *(each.name for each in profiles)]
    rows = [
        ["calls a second", *(f"{each.seen.calls_per_second:,.0f}" for each in profiles)],
        ["the server's time a call, µs", *(f"{each.cpu_micros_a_call:.1f}" for each in profiles)],
    ]
    shares = [each.shares() for each in profiles]
    for group in [*GROUPS, REST_OF_IT]:
        cells = zip(profiles, shares, strict=True)
        rows.append([group, *(f"{share[group] * each.cpu_micros_a_call:.1f}" for each, share in cells)])
    text = table(header, rows)
    processors = os.cpu_count()
    text += f"\nµs of the server's processor time, of {processors} processors. perf slows what it looks at.\n"
    for each in profiles[1:3]:
        text += f"\nWhere the samples fell most often, {each.name}:\n\n" + _symbols(each)
    return text


def _symbols(profile: Profile) -> str:
    total = max(profile.samples.total(), 1)
    rows = [
        [f"{count / total:.1%}", library, f"`{function[:100]}`"]
        for (library, function), count in profile.samples.most_common(SYMBOLS_SHOWN)
    ]
    return table(["share", "where", "function"], rows)
