"""How every benchmark measures: whole processes, interleaved runs, medians, ratios, and what the machine gave then.

Machines are noisy and differ, so only ratios within one run are worth comparing.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import random
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs" / "benchmarks"


@dataclass(frozen=True)
class Sample:
    """One run: wall seconds, CPU seconds (user and system, waited-for children too), peak MB of the largest process."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Sample:
    """Run to the end and measure; a non-zero exit raises RuntimeError with the end of its output."""
    started = time.perf_counter()
    # Threads would be simpler, but wait4 is the only call that gives this one child's own usage.
    process = subprocess.Popen(
        command,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise RuntimeError(f"{command[0]} exited {process.returncode}: {output[-2000:].decode(errors='replace')}")
    return Sample(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def interleave(
    contenders: Mapping[str, Callable[[], Sample]], *, runs: int = 3, warm_up: bool = True
) -> dict[str, list[Sample]]:
    """A B C, B C A, ...: drift of the machine, and what each leaves to the next, hit all alike. The warm-up round is
    not counted."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for turn in range(runs + warm_up):
        order = list(contenders.items())
        at = turn % len(order)
        for name, measure in (*order[at:], *order[:at]):
            sample = measure()
            print(
                f"  {name:24} {sample.wall_s:8.2f} s  {sample.cpu_s:8.2f} CPU-s  {sample.peak_mb:7.0f} MB", flush=True
            )
            if turn or not warm_up:
                samples[name].append(sample)
    return samples


def median(samples: Sequence[Sample]) -> Sample:
    """The median of each figure by itself."""
    return Sample(*(statistics.median(getattr(s, field) for s in samples) for field in ("wall_s", "cpu_s", "peak_mb")))


@dataclass(frozen=True)
class Machine:
    """What this machine gives at one moment. gunzip: what comes out of ``gzip -dc``, its start included. loopback: one
    TCP connection between two threads, 1 MiB a piece; round trip: one byte there and back on such a connection."""

    sha256_mb_per_s: float
    gunzip_mb_per_s: float
    loopback_mb_per_s: float
    round_trip_us: float

    def __str__(self) -> str:
        return (
            f"sha256 {self.sha256_mb_per_s:,.0f} MB/s, `gzip -dc` {self.gunzip_mb_per_s:,.0f} MB/s, "
            f"loopback {self.loopback_mb_per_s:,.0f} MB/s and {self.round_trip_us:.0f} us a round trip"
        )


MIB = 1 << 20
ROUND_TRIPS = 2000


def machine() -> Machine:
    """Measure the machine itself; about two seconds. In a process of its own: what this one once held would be the
    least peak memory of every program it starts later."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True)
    return Machine(*json.loads(done.stdout))


def _measure_machine() -> Machine:
    block = random.Random(1).randbytes(MIB)
    sha256_s = _seconds(lambda: [hashlib.sha256(block) for _ in range(128)])
    # Half of it compresses, as in a layer of libraries.
    text = b"".join(block[at : at + 512] + bytes(512) for at in range(0, MIB, 512)) * 32
    packed = gzip.compress(text, 6)
    gunzip_s = _seconds(lambda: subprocess.run(["gzip", "-dc"], input=packed, stdout=subprocess.DEVNULL, check=True))
    loopback_s, trips_s = _loopback(block, 512)
    return Machine(
        128 * MIB / 1e6 / sha256_s,
        len(text) / 1e6 / gunzip_s,
        512 * MIB / 1e6 / loopback_s,
        trips_s / ROUND_TRIPS * 1e6,
    )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _loopback(block: bytes, blocks: int) -> tuple[float, float]:
    """Seconds for so many blocks one way, and for the round trips."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def answer() -> None:
            left, buffer = len(block) * blocks, bytearray(len(block))
            while left:
                left -= far.recv_into(buffer, min(left, len(buffer)))
            for _ in range(ROUND_TRIPS + 1):
                far.sendall(b".")
                far.recv(1)

        def send() -> None:
            for _ in range(blocks):
                near.sendall(block)
            near.recv(1)

        answering = threading.Thread(target=answer)
        answering.start()
        sent_s = _seconds(send)
        trips_s = _seconds(lambda: [near.sendall(b".") or near.recv(1) for _ in range(ROUND_TRIPS)])
        near.sendall(b".")
        answering.join()
    return sent_s, trips_s


def beside(table: str) -> str:
    """A table and, below it, what the machine gave when it was measured: call it right then."""
    return f"{table}\n\nThis machine at that moment: {machine()}."


def comparison(samples: Mapping[str, Sequence[Sample]], *, ours: str) -> str:
    """A Markdown table of medians with the ratio other/ours: above 1 we are better. Call it when all is measured: the
    machine's figures of that moment stand below. Peak memory is written as ``<=`` where it may be this process's own,
    which is the least that a program is told to have had."""
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    base = median(samples[ours])
    lines = ["| | wall s | ratio | CPU s | ratio | peak MB |", "|---|---|---|---|---|---|"]
    for name, runs in samples.items():
        m = median(runs)
        label = f"**{name}**" if name == ours else name
        lines.append(
            f"| {label} | {m.wall_s:.2f} | {m.wall_s / base.wall_s:.2f} | {m.cpu_s:.2f} "
            f"| {m.cpu_s / max(base.cpu_s, 0.001):.2f} | {'<= ' if m.peak_mb <= floor else ''}{m.peak_mb:.0f} |"
        )
    return beside("\n".join(lines))


def bars(name: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Draw ``docs/benchmarks/<name>.svg``: for each group the wall times of its members, as many times the first's.
    Returns the line that shows it on the page."""
    from registry_pipelines.pictures import bars as drawn

    DOCS.mkdir(parents=True, exist_ok=True)
    (DOCS / f"{name}.svg").write_text(drawn(groups))
    return f"![Wall times, as many times that of the first of each group]({name}.svg)"


def write_page(name: str, title: str, command: str, *sections: str) -> Path:
    """Write ``docs/benchmarks/<name>.md``; says when, on what machine and by which command."""
    DOCS.mkdir(parents=True, exist_ok=True)
    page = DOCS / f"{name}.md"
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )
    head = (
        f"# {title}\n\nWritten by `{command}` ({machine}). Ratios are other/ours of medians: above 1 we are better.\n"
    )
    page.write_text("\n\n".join([head.rstrip(), *sections]) + "\n")
    print(f"wrote {page}")
    return page


if __name__ == "__main__":
    print(json.dumps(astuple(_measure_machine())))
