"""The same calls by other load generators: whether loadgen can be believed, and what each takes."""

from __future__ import annotations

import json
import re
import resource
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import generators
from bench import EMPTY, PREDICT, REST_PREDICT, Bench
from generators import Load, Seen, in_flight
from servers import ROOT, LoadTestError, Served, ghz
from turns import Rounds, in_turns

LOAD = in_flight(128)
GHZ_LOAD = ["-c", "128", "--connections", "8"]
K6_RATE = 200
K6_SPARE_SECONDS = 60
TOOLS = ROOT / ".tools" / "bin"


def measure(bench: Bench) -> list[Rounds]:
    """An empty call by h2load and ghz, and predictions by k6, each beside loadgen."""
    with bench.server("postgres", cached=True) as served:
        requests, seconds = bench.requests, bench.effort.seconds
        body = bench.folder / "empty.grpc"
        # The prefix of a message, and an empty message.
        body.write_bytes(struct.pack(">BI", 0, 0))
        at = generators.rate(K6_RATE)
        measures: dict[str, Callable[[], Seen]] = {
            "empty call, 128 in flight, loadgen": lambda: bench.call(
                served.grpc, EMPTY, requests.empty, LOAD
            ),
            "empty call, 128 in flight, h2load": lambda: h2load(served.grpc, EMPTY, body, LOAD, seconds),
            "empty call, 128 in flight, ghz": lambda: by_ghz(served.grpc, requests.empty, seconds),
            f"PredictByEntity, {K6_RATE} a second, loadgen": lambda: bench.call(
                served.grpc, PREDICT, requests.predict, at
            ),
            f"PredictByEntity, {K6_RATE} a second, k6": lambda: k6(
                "grpc", served, requests.predict, bench.folder, seconds
            ),
            f"REST, {K6_RATE} a second, k6": lambda: k6(
                "http", served, requests.predict_rest, bench.folder, seconds
            ),
        }
        return list(in_turns(measures, bench.effort.rounds).values())


def h2load(address: str, call: str, body: Path, load: Load, seconds: float) -> Seen:
    """Debian's h2load: one body for all calls.

    An answer of HTTP 200 is a success to it whatever the gRPC status: what it calls is called by others, too.
    """
    command = ["h2load", "--clients", str(load.connections), "--max-concurrent-streams", str(load.streams)]
    command += ["--duration", str(max(round(seconds), 1)), "--warm-up-time", "1", "--data", str(body)]
    command += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
    begun = _children_cpu_seconds()
    said = _output([*command, f"http://{address}/{call}"], seconds)
    times = re.search(r"time for request:\s+\S+\s+(\S+)\s+(\S+)", said)
    counts = re.search(r"requests: \d+ total.* (\d+) succeeded, (\d+) failed, (\d+) errored", said)
    done = re.search(r"finished in .*?, ([\d.]+) req/s", said)
    if times is None or counts is None or done is None:
        raise LoadTestError(f"h2load said what is not understood:\n{said}")
    failed = int(counts[2])
    maximum, mean = (_millis(value) for value in times.groups())
    return Seen(
        calls_per_second=float(done[1]),
        calls=int(counts[1]),
        # It tells no percentiles: this is the mean.
        p50_ms=mean,
        p90_ms=float("nan"),
        p99_ms=float("nan"),
        p999_ms=float("nan"),
        max_ms=maximum,
        failed={"failed": failed} if failed else {},
        generator_cpu_seconds=_children_cpu_seconds() - begun,
    )


def by_ghz(address: str, data: Path, seconds: float) -> Seen:
    """ghz, which encodes and decodes every message."""
    begun = _children_cpu_seconds()
    report = ghz(address, EMPTY.replace("/", "."), data, max(round(seconds), 1), GHZ_LOAD)
    latencies = {entry["percentage"]: entry["latency"] / 1e6 for entry in report["latencyDistribution"] or []}
    codes: dict[str, int] = report["statusCodeDistribution"]
    return Seen(
        calls_per_second=report["rps"],
        calls=codes.get("OK", 0),
        p50_ms=latencies.get(50, 0.0),
        p90_ms=latencies.get(90, 0.0),
        p99_ms=latencies.get(99, 0.0),
        p999_ms=float("nan"),
        max_ms=report["slowest"] / 1e6,
        failed={code: count for code, count in codes.items() if code != "OK"},
        generator_cpu_seconds=_children_cpu_seconds() - begun,
    )


def k6(protocol: str, served: Served, data: Path, folder: Path, seconds: float) -> Seen:
    """k6 at a constant arrival rate, over gRPC or REST."""
    summary = folder / f"k6-{protocol}.json"
    settings = {
        "PROTOCOL": protocol,
        "GRPC": served.grpc,
        "URL": f"http://{served.http}{REST_PREDICT}",
        "CALL": PREDICT,
        "PROTOS": str(ROOT / "proto"),
        "DATA": str(data),
        "RATE": str(K6_RATE),
        "SECONDS": str(max(round(seconds), 1)),
        "SUMMARY": str(summary),
    }
    flags = [flag for name, value in settings.items() for flag in ("--env", f"{name}={value}")]
    command = [str(TOOLS / "k6"), "run", "--quiet", "--no-usage-report", *flags]
    begun = _children_cpu_seconds()
    _output([*command, str(ROOT / "loadtest" / "k6" / "predict.js")], seconds)
    metrics: dict[str, Any] = json.loads(summary.read_text())["metrics"]
    took = metrics["grpc_req_duration" if protocol == "grpc" else "http_req_duration"]["values"]
    checks = metrics["checks"]["values"]
    return Seen(
        calls_per_second=metrics["iterations"]["values"]["rate"],
        calls=checks["passes"],
        p50_ms=took["med"],
        p90_ms=took["p(90)"],
        p99_ms=took["p(99)"],
        p999_ms=took["p(99.9)"],
        max_ms=took["max"],
        failed={"check": checks["fails"]} if checks["fails"] else {},
        generator_cpu_seconds=_children_cpu_seconds() - begun,
    )


def _output(command: list[str], seconds: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + K6_SPARE_SECONDS)
    if done.returncode != 0:
        raise LoadTestError(f"{Path(command[0]).name}: {done.stderr[-2000:]}{done.stdout[-2000:]}")
    return done.stdout


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _millis(text: str) -> float:
    """h2load's "1.23ms", "45us" or "1.2s"."""
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise LoadTestError(f"h2load said {text!r} where a time was expected")
