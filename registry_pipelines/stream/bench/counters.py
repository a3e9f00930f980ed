"""What a machine did while something ran, from the kernel's counters: who kept it waiting."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_SECTOR_BYTES = 512
_BUSY_COLUMNS = (0, 1, 2, 5, 6, 7)
"""Of ``/proc/stat``: user, nice, system, irq, softirq, steal; not idle and not waiting for a disk."""

BINDS = 0.8
"""Share of what there is from which on it is what something waits for."""


@dataclass(frozen=True)
class Counters:
    """Of the whole machine, since it was started: the program that is measured has daemons."""

    at: float
    cpu_s: float
    received_bytes: int
    """Over all devices but loopback."""
    loopback_bytes: int
    disk_bytes: int
    """Read and written, all disks."""
    disk_busy_s: float
    """Of the disk that was busy longest."""


def read_counters() -> Counters:
    """As of now. Counters that this machine does not have are 0."""
    ticks = os.sysconf("SC_CLK_TCK")
    words = _text("stat").partition("\n")[0].split()[1:]
    cpu_s = sum(int(words[column]) for column in _BUSY_COLUMNS if column < len(words)) / ticks
    received = {"lo": 0}
    for line in _text("net/dev").splitlines()[2:]:
        name, _, row = line.partition(":")
        received[name.strip()] = int(row.split()[0])
    loopback = received.pop("lo")
    disks = [line.split() for line in _text("diskstats").splitlines()]
    disks = [row for row in disks if len(row) > 12 and _is_disk(row[2])]
    sectors = sum(int(row[5]) + int(row[9]) for row in disks)
    busy_ms = max((int(row[12]) for row in disks), default=0)
    return Counters(time.monotonic(), cpu_s, sum(received.values()), loopback, sectors * _SECTOR_BYTES, busy_ms / 1000)


@dataclass(frozen=True)
class Spent:
    """What a machine spent between two looks."""

    seconds: float
    cpu_s: float
    received_bytes: int
    disk_bytes: int
    disk_busy_s: float

    def shares(self, link_bytes_per_s: float) -> dict[str, float]:
        """How much of what there is was used: of all processors, of the disk's time, and of the link where its rate is
        known (else 0 is given for it)."""
        span = max(self.seconds, 1e-9)
        return {
            "processor": self.cpu_s / span / (os.cpu_count() or 1),
            "network": self.received_bytes / span / link_bytes_per_s if link_bytes_per_s else 0.0,
            "disk": self.disk_busy_s / span,
        }

    def bound(self, link_bytes_per_s: float) -> str:
        """What it waited for: ``processor``, ``network``, ``disk``, ``one core`` (a program that uses no second one),
        or ``none of them`` (latency, the registry, a link whose rate nobody named)."""
        shares = self.shares(link_bytes_per_s)
        most = max(shares, key=lambda name: shares[name])
        if shares[most] >= BINDS:
            return most
        return "one core" if BINDS <= self.cpu_s / max(self.seconds, 1e-9) <= 1 / BINDS else "none of them"


def spent(before: Counters, after: Counters, *, loopback: bool) -> Spent:
    """loopback: the registry is on this machine, so its bytes come over that device."""
    received = "loopback_bytes" if loopback else "received_bytes"
    return Spent(
        after.at - before.at,
        after.cpu_s - before.cpu_s,
        getattr(after, received) - getattr(before, received),
        after.disk_bytes - before.disk_bytes,
        after.disk_busy_s - before.disk_busy_s,
    )


def link_bits_per_s() -> float:
    """Of the fastest network device that says its rate; 0 where none does."""
    speeds = [0.0]
    for path in Path("/sys/class/net").glob("*/speed"):
        try:
            speeds.append(float(path.read_text()) * 1e6)
        except (OSError, ValueError):  # down, or of no rate
            continue
    return max(speeds)


def _is_disk(name: str) -> bool:
    """Whether it is a whole disk: a part's numbers are in its disk's, and a loop's in both."""
    return not name.startswith(("loop", "ram", "dm-", "md")) and Path("/sys/block", name).exists()


def _text(name: str) -> str:
    try:
        return (_PROC / name).read_text()
    except OSError:
        return ""


__all__ = ["Counters", "Spent", "link_bits_per_s", "read_counters", "spent"]
