"""Reading a file of a mounted image whose content is all on this node, beside the same file on the same disk.

    python benchmarks/lazy_reads.py [--mb 1024] [--pairs 7] [--folder DIR] [--starts FOLDER] [--write]

Each read is cold: a new server each time, and the page cache dropped before it. The file was read before, so the kernel
reads a copy of its own (``stream/lazy/passthrough``). Pairs alternate, and the ratio is that
of their medians: local/mounted, so 1 is as fast as the disk. Needs root, and twice the file's size in DIR. With the
FOLDER of ``benchmarks/start.py`` also starts of its image, one and eight at once (``lazy_starts``); it is unpacked
there first, 8 GB, and stays.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from benchmarks.lazy_starts import measure_starts
from benchmarks.wheel_builds import EmbeddedServerProcess
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, encode_json
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.bench.machine import drop_caches, machine_text
from registry_pipelines.stream.bench.preparing import OURS
from tests.stream.releases import put

MIB = 1 << 20
READ = """
import os, sys
file, buffer = os.open(sys.argv[1], os.O_RDONLY), bytearray(1 << 17)
while os.readv(file, [buffer]):
    pass
"""
READERS = 8
TITLE = "Reading a file of a mounted image that is all here"
COMMAND = "python benchmarks/lazy_reads.py --starts FOLDER --write"
STARTS = """\
## Starts of one image at once

`import torch`, one product of two matrices, of an image of public CUDA wheels, from a FUSE mount that has all that they
read, and from the same image unpacked on the same disk; each of files that are in no cache. Medians of alternating
pairs."""
TICKS = os.sysconf("SC_CLK_TCK")


class Tee:
    """Writes a tar and its gzip form, stored, and hashes both."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed, self._compressor = packed, zlib.compressobj(0, wbits=31)
        self.plain, self.digest, self.size = hashlib.sha256(), hashlib.sha256(), 0

    def write(self, content: bytes) -> None:
        self.plain.update(content)
        self._put(self._compressor.compress(content))

    def end(self) -> None:
        self.write(bytes(1024))
        self._put(self._compressor.flush())

    def _put(self, piece: bytes) -> None:
        self.digest.update(piece)
        self.size += self._packed.write(piece)


def push_image(place: Place, local: Path, mb: int) -> None:
    """A file of noise, on the disk and as an image's only one."""
    head = tarfile.TarInfo("file")
    head.size = mb * MIB
    with local.open("wb") as file, tempfile.TemporaryFile(dir=local.parent) as packed:
        tee = Tee(packed)
        tee.write(head.tobuf())
        for _ in range(mb):
            content = os.urandom(MIB)
            file.write(content)
            tee.write(content)
        tee.end()
        packed.seek(0)
        layer = Descriptor(
            media_type=OCI_LAYER_GZIP, digest=Digest.parse(f"sha256:{tee.digest.hexdigest()}"), size=tee.size
        )
        place.registry.upload_blob(place.repository, layer, packed)
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{tee.plain.hexdigest()}"]}
    config = push_blob(
        place, encode_json({"architecture": "amd64", "os": "linux", "rootfs": rootfs}), media_type=OCI_CONFIG
    )
    lines = [{"mediaType": each.media_type, "digest": each.digest, "size": each.size} for each in (config, layer)]
    put(place, {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": lines[0], "layers": lines[1:]}, tag="v1")


@contextmanager
def mounted(reference: str, folder: Path) -> Iterator[int]:
    """The image on a folder, all of it on this node; the number of the process that serves it."""
    top = folder / "top"
    environment = {**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}
    said = subprocess.run(
        [*OURS, "stream", "mount", reference, str(top), "--detach", "--json"],
        env=environment,
        capture_output=True,
        check=True,
    ).stdout
    try:
        yield json.loads(said)["result"]["mount"]["process"]
    finally:
        subprocess.run(["umount", str(top)], check=True)


def read(path: Path, readers: int = 1) -> float:
    """Seconds until the last of some processes has read a file that is in no cache."""
    drop_caches()
    started = time.perf_counter()
    running = [subprocess.Popen([sys.executable, "-c", READ, str(path)]) for _ in range(readers)]
    for each in running:
        assert each.wait() == 0
    return time.perf_counter() - started


def cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measured(folder: Path, mb: int, pairs: int) -> str:
    """A table."""
    local, top = folder / "local", folder / "top" / "file"
    with EmbeddedServerProcess(folder / "registry") as address:
        registry = DistributionRegistry(address)
        push_image(Place(registry, "team/app"), local, mb)
        registry.close()
        with mounted(f"{address}/team/app:v1", folder):
            read(top)
            while not list(folder.glob("state/registry-pipelines/lazy/blocks/v*/*/*/file-*")):
                time.sleep(0.1)  # of what was read and closed a copy is made that the kernel reads alone
        times: dict[tuple[str, int], list[float]] = {}
        used: list[float] = []
        for readers in (1, READERS):
            for turn in range(pairs + 1):
                disk = read(local, readers)
                with mounted(f"{address}/team/app:v1", folder) as server:
                    before = cpu_s(server)
                    took = read(top, readers)
                    if turn:  # the first one only warms up what is not measured
                        used.append(cpu_s(server) - before)
                        times.setdefault(("disk", readers), []).append(disk)
                        times.setdefault(("mounted", readers), []).append(took)
                print(f"  {readers} readers: disk {disk:.2f} s, mounted {took:.2f} s", flush=True)
    median = {key: statistics.median(found) for key, found in times.items()}
    rows = ["| readers | disk s | MB/s | mounted s | MB/s | disk/mounted |", "|---|---|---|---|---|---|"]
    for readers in (1, READERS):
        disk, took = median["disk", readers], median["mounted", readers]
        speeds = [mb * MIB / 1e6 / each for each in (disk, took)]
        rows.append(
            f"| {readers} | {disk:.2f} | {speeds[0]:.0f} | {took:.2f} | {speeds[1]:.0f} | **{disk / took:.2f}** |"
        )
    together = median["mounted", READERS] / median["mounted", 1]
    alone = median["disk", READERS] / median["disk", 1]
    per_gb = statistics.median(used) / (mb * MIB / 1e9)
    return "\n".join(
        [
            *rows,
            "",
            f"{READERS} readers of one mounted file take {together:.2f}x of one; of the file on the disk {alone:.2f}x. "
            f"The server takes {per_gb:.2f} s of the processor for each GB.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--starts", type=Path, metavar="FOLDER", help="that of benchmarks/start.py, with its image")
    parser.add_argument("--start-pairs", type=int, default=3)
    parser.add_argument("--only-starts", action="store_true", help="and nothing else; the page keeps the rest")
    parser.add_argument("--note", default="", help="said above what is measured of starts")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/lazy-reads.md")
    given = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this drops the page cache, and needs root")
    if given.starts and given.only_starts:
        section = measure.beside(measure_starts(given.starts.absolute(), given.start_pairs, print))
        print(section)
        if given.write:
            add_starts(section, given.note)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        table = measured(Path(folder), given.mb, given.pairs)
    starts = [STARTS, measure_starts(given.starts.absolute(), given.start_pairs, print)] if given.starts else []
    sections = [table, *starts]
    sections[-1] = measure.beside(sections[-1])
    print("\n\n".join(sections))
    if given.write:
        about = (
            f"A file of {given.mb} MiB of noise; medians of {given.pairs} alternating pairs, each read cold. It was "
            "read before: the kernel reads a copy of its own."
        )
        measure.write_page("lazy-reads", TITLE, COMMAND, about, *sections)


def add_starts(section: str, note: str) -> None:
    """In place of those on the page, whose other numbers stay."""
    page = measure.DOCS / "lazy-reads.md"
    kept = page.read_text().partition(f"\n\n{STARTS.partition(chr(10))[0]}")[0].rstrip()
    when = f"{datetime.now(UTC):%Y-%m-%d}, {machine_text()}. {note}".rstrip()
    page.write_text("\n\n".join([kept, STARTS, when, section]) + "\n")


if __name__ == "__main__":
    main()
