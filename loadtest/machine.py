"""What a run was made on: the machine, the versions, the memory of processes, and who else was at work."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

from servers import ROOT, ferrocast_binary

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def commit() -> str:
    """The commit that the tree is at, and whether it was changed since."""
    head = _said("git", "rev-parse", "--short", "HEAD")
    changed = _said("git", "status", "--porcelain", "--untracked-files=no")
    return f"{head}, with changes" if changed else head


def describe() -> dict[str, str]:
    """The machine and the programs, for a report."""
    bytes_total = os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES
    postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return {
        "Machine": f"{_processor()}, {os.cpu_count()} cores, {bytes_total / 2**30:.0f} GB",
        "System": platform.platform(),
        "Commit": commit(),
        "Ferrocast": f"{_said(str(ferrocast_binary()), '--version')}, SHA-256 {_digest(ferrocast_binary())}",
        "PostgreSQL": _said(str(postgres[-1]), "--version") if postgres else "from the PATH",
        "Redis": _said("redis-server", "--version").split(" sha=")[0],
        "Python": platform.python_version(),
    }


def tools() -> dict[str, str]:
    """The load generators' versions."""
    stamps = {name: ROOT / ".tools" / "bin" / f".{name}.version" for name in ("ghz", "k6")}
    found = {name: stamp.read_text() for name, stamp in stamps.items() if stamp.exists()}
    return found | {"h2load": _said("h2load", "--version")}


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:12]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _said(*command: str) -> str:
    program = shutil.which(command[0])
    if program is None:
        return "not installed"
    done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def resident_bytes(pid: int) -> int:
    """The memory of a process and of all that it started."""
    total = 0
    for each in _family(pid):
        try:
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1]) * PAGE_BYTES
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def _family(pid: int) -> set[int]:
    """A process and its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold anything.
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    family = {pid}
    while grown := {each for each, parent in parents.items() if parent in family} - family:
        family |= grown
    return family


class OtherUse:
    """The share of the processors that others than this run and its servers use, from 0 to 1."""

    def __init__(self) -> None:
        """Counts from now on."""
        self.begun_at, self.all, self.ours = time.monotonic(), _busy_seconds(), _own_seconds()

    def share(self) -> float:
        """Since it was made."""
        seconds = (time.monotonic() - self.begun_at) * (os.cpu_count() or 1)
        others = (_busy_seconds() - self.all) - (_own_seconds() - self.ours)
        return min(max(others / max(seconds, 1e-9), 0.0), 1.0)


def _busy_seconds() -> float:
    """All processors' time but that of waiting, since the start of the machine."""
    line = Path("/proc/stat").read_text().splitlines()[0].split()
    user, nice, system, _, _, irq, soft_irq, steal = (int(value) for value in line[1:9])
    return (user + nice + system + irq + soft_irq + steal) / TICKS_PER_SECOND


def _own_seconds() -> float:
    """The time of this process, of all that it started, and of those of them that have ended."""
    total = 0
    for pid in _family(os.getpid()):
        try:
            values = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(value) for value in values[11:15])
    return total / TICKS_PER_SECOND
