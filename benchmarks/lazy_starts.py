"""Several starts of one image at once: from a mount that has all that they read, and from the same image unpacked on
the same disk. For ``benchmarks/lazy_reads.py``."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.start import place
from registry_pipelines.progress import Silent
from registry_pipelines.stream.bench.clocks import time_command
from registry_pipelines.stream.bench.local_program import local_command
from registry_pipelines.stream.bench.machine import drop_caches, read_in
from registry_pipelines.stream.bench.preparing import OURS, PACK, PLAIN, Prepared, prepare
from registry_pipelines.stream.bench.serving import CountingRegistry
from registry_pipelines.stream.lazy.mounting import mount, unmount

PROGRAM = ("/usr/local/bin/python3", "/app/matmul.py")
TOGETHER = 8
COPIED_S = 5.0
"""After which the server has made the kernel's own copies of large files that were read."""


def prepared(work: Path) -> Prepared:
    """The image of ``benchmarks/start.py``, with its hot pack, and unpacked."""
    with place(work, PLAIN) as (source, host):
        name = f"{host}/{source.repository}:v1"
        forms = (PLAIN, PACK)
        image = prepare(source, "v1", name, work, forms=forms, command=PROGRAM, unpack=True, progress=Silent())
    if image.why_not:
        raise SystemExit(f"the image cannot be measured: {image.why_not}")
    return image


@contextmanager
def mounted(image: Prepared, address: str, folder: Path) -> Iterator[Path]:
    """The image on a folder, by FUSE, nothing fetched but what is read."""
    top = folder / "top"
    options = ["--config", str(image.config(folder, address)), "--key", str(image.public_key), "--no-fill"]
    words = [*OURS, "stream", "mount", *options, f"bench/{image.name(PACK)}", str(top), "--detach", "--json"]
    said = subprocess.run(words, capture_output=True, check=True).stdout
    try:
        yield Path(json.loads(said)["result"]["mount"]["folder"])
    finally:
        subprocess.run(["umount", "--lazy", str(top)], check=True)


@contextmanager
def writable(lower: Path, folder: Path) -> Iterator[Path]:
    """What a container sees of a tree: an overlay over it."""
    upper, work, top = (folder / name for name in ("upper", "work", "merged"))
    for each in (upper, work, top):
        each.mkdir(parents=True)
    mount("overlay", top, "overlay", data=f"lowerdir={lower},upperdir={upper},workdir={work}")
    try:
        yield top
    finally:
        unmount(top, detach=True)


def start(folder: Path, image: Prepared, count: int) -> float:
    """Seconds until the last of so many has answered, all begun at once, of files that are in no cache."""
    command = local_command(folder, image.image.config.config, PROGRAM)
    drop_caches()
    read_in([Path(sys.executable).resolve()])
    begin = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        return max(pool.map(lambda _: time_command(command, since=begin).result_s, range(count)))


def measure_starts(work: Path, pairs: int, say: Callable[[str], object]) -> str:
    """A table. pairs: alternating, of medians."""
    image = prepared(work)
    found: dict[tuple[str, int], list[float]] = {}
    with (
        tempfile.TemporaryDirectory(dir=work) as folder,
        CountingRegistry(image.root) as registry,
        mounted(image, registry.address, Path(folder)) as lazy,
        writable(image.unpacked, Path(folder) / "of-disk") as disk,
        writable(lazy, Path(folder) / "of-mount") as top,
    ):
        start(top, image, 1)
        time.sleep(COPIED_S)
        ways = {"disk": disk, "mounted": top}
        for turn in range(pairs):
            for count in (1, TOGETHER):
                for way in sorted(ways, reverse=bool(turn % 2)):
                    took = start(ways[way], image, count)
                    found.setdefault((way, count), []).append(took)
                    say(f"  {count} starts: {way} {took:.2f} s")
        registry.take()
    return table(found)


def table(found: dict[tuple[str, int], Sequence[float]]) -> str:
    """Of seconds by way and number of starts."""
    median = {key: statistics.median(times) for key, times in found.items()}
    rows = [f"| | one start s | {TOGETHER} starts, the last s | times one |", "|---|---|---|---|"]
    for way in ("disk", "mounted"):
        one, all_of_them = median[way, 1], median[way, TOGETHER]
        rows.append(f"| {way} | {one:.2f} | {all_of_them:.2f} | **{all_of_them / one:.2f}** |")
    rows += [
        "",
        f"{TOGETHER} at once from the mount take {median['mounted', TOGETHER] / median['disk', TOGETHER]:.2f}x of as "
        f"many from the disk; one {median['mounted', 1] / median['disk', 1]:.2f}x. They share {os.cpu_count()} cores, "
        "and each computes by itself.",
    ]
    return "\n".join(rows)


__all__ = ["measure_starts", "prepared"]
