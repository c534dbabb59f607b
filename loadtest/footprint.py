"""The marks of a single server: how soon it is ready, and what memory it keeps."""

from __future__ import annotations

import peers
from bench import PREDICT, Bench
from generators import in_flight
from machine import resident_bytes
from mark import Mark, below
from turns import say, table

STARTS = 5
START_SECONDS = 0.5
IDLE_MB = 60.0
LOADED_MB = 250.0
# What the operating system calls a megabyte here.
MB = 1_000_000
HEADER = ["peer, two workers", "start, s", "resident idle, MB"]


def measure(bench: Bench, feast: peers.Feast) -> tuple[list[Mark], str]:
    """All of it."""
    return [*start(bench), *memory(bench)], of_peers(bench, feast)


def start(bench: Bench) -> list[Mark]:
    """From the start of the process to ready, with the model's file in the system's cache after the first."""
    seconds = []
    for _ in range(STARTS + 1):
        with bench.server("postgres", cached=False) as served:
            seconds.append(served.start_seconds)
    say(f"start to ready: {', '.join(f'{each:.3f}' for each in seconds)} s, the first not counted")
    return [below("start to ready, one model of 200 trees", START_SECONDS, seconds[1:], "s")]


def memory(bench: Bench) -> list[Mark]:
    """Resident, before anybody calls, and after the load with all users in the cache."""
    idle, loaded = [], []
    for _ in range(bench.effort.rounds):
        with bench.server("postgres", cached=True, filled=False) as served:
            idle.append(resident_bytes(served.pid) / MB)
            bench.fill(served)
            filled = resident_bytes(served.pid) / MB
            bench.call(served.grpc, PREDICT, bench.requests.predict, in_flight(64))
            loaded.append(resident_bytes(served.pid) / MB)
            say(f"resident MB: idle {idle[-1]:.0f}, filled {filled:.0f}, after the load {loaded[-1]:.0f}")
    users = bench.effort.users
    return [
        below("resident memory, idle", IDLE_MB, idle, "MB"),
        below(f"resident memory, after the load, {users:,} users in the cache", LOADED_MB, loaded, "MB"),
    ]


def of_peers(bench: Bench, feast: peers.Feast) -> str:
    """Start and memory of the peers, idle, each with two workers, as a table."""
    rows = []
    service = peers.fastapi(peers.install(), bench.new_folder(), bench.models, bench.postgres_url)
    for name, started in (("FastAPI service", service), ("Feast", feast.serve())):
        with started as peer:
            resident = resident_bytes(peer.pid) / MB
            rows.append([name, f"{peer.start_seconds:.1f}", f"{resident:.0f}"])
            say(f"{name}: up after {peer.start_seconds:.1f} s, {resident:.0f} MB")
    return table(HEADER, rows)
