"""How every benchmark measures: whole processes, interleaved runs, medians, ratios.

Machines are noisy and differ, so only ratios within one run are worth comparing.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


def comparison(samples: Mapping[str, Sequence[Sample]], *, ours: str) -> str:
    """A Markdown table of medians with the ratio other/ours: above 1 we are better."""
    base = median(samples[ours])
    lines = ["| | wall s | ratio | CPU s | ratio | peak MB |", "|---|---|---|---|---|---|"]
    for name, runs in samples.items():
        m = median(runs)
        label = f"**{name}**" if name == ours else name
        lines.append(
            f"| {label} | {m.wall_s:.2f} | {m.wall_s / base.wall_s:.2f} | {m.cpu_s:.2f} "
            f"| {m.cpu_s / max(base.cpu_s, 0.001):.2f} | {m.peak_mb:.0f} |"
        )
    return "\n".join(lines)


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
