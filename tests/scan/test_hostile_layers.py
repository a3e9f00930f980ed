"""Layers that are made to hurt: what a scan keeps of them has an end."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator

import pytest

from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.media_types import OCI_LAYER
from registry_pipelines.scan.collect import read_layer
from registry_pipelines.scan.facts import SoftwareList
from registry_pipelines.scan.os_databases import MAX_BROKEN, read_apk, read_dpkg

READ = """
import sys
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.media_types import OCI_LAYER
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.scan.collect import read_layer
from registry_pipelines.scan.components import find_components
from registry_pipelines.scan.merge import merge_layers
content = read_layer(open_layer(sys.stdin.buffer.raw, OCI_LAYER))
encode_json(content)
found = find_components(merge_layers([content]))
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(found.unattributed.files, bool(content.cut), int(peak) // 1024)
"""

TINY = 1_000_000
MAX_MIB = 150


def header(name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, link: str = "", mode: int = 0o644) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mode = kind, size, link, mode
    return info.tobuf(tarfile.USTAR_FORMAT)


def tiny_files(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield header(f"app/d{number // 1000}/file{number}.txt", size=1) + b"x" + bytes(511)


def folders_of_their_own(count: int) -> Iterator[bytes]:
    yield from (header(f"app/d{number}/deeper/still/file") for number in range(count))


def links(count: int) -> Iterator[bytes]:
    yield from (header(f"app/l{number}", tarfile.SYMTYPE, link=f"../../{number}") for number in range(count))


def whiteouts(count: int) -> Iterator[bytes]:
    yield from (header(f"app/d{number}/.wh.gone") for number in range(count))


def packages(count: int) -> Iterator[bytes]:
    yield from (header(f"n/node_modules/p{number}/package.json") for number in range(count))


def read(parts: Iterator[bytes]) -> tuple[int, bool, int]:
    """Files counted, whether the rest was not looked at, and the most memory in MiB."""
    with subprocess.Popen([sys.executable, "-c", READ], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin and program.stdout
        buffer = io.BytesIO()
        for part in parts:
            buffer.write(part)
            if buffer.tell() > 1 << 20:
                program.stdin.write(buffer.getvalue())
                buffer = io.BytesIO()
        program.stdin.write(buffer.getvalue() + bytes(1024))
        program.stdin.close()
        files, cut, peak = program.stdout.read().decode().split()
    assert program.returncode == 0
    return int(files), cut == "True", int(peak)


@pytest.mark.long
def test_a_million_tiny_files_are_counted_in_little_memory() -> None:
    files, cut, peak = read(tiny_files(TINY))
    assert (files, cut) == (TINY, False) and peak < MAX_MIB


@pytest.mark.long
def test_a_folder_for_each_file_costs_little_memory() -> None:
    files, cut, peak = read(folders_of_their_own(TINY))
    assert (files, cut) == (TINY, False) and peak < MAX_MIB


@pytest.mark.long
@pytest.mark.parametrize("made", [links, whiteouts, packages])
def test_what_is_kept_of_a_layer_has_an_end(made: Callable[[int], Iterator[bytes]]) -> None:
    _, cut, peak = read(made(TINY // 2))
    assert cut and peak < 2 * MAX_MIB


def test_many_files_are_counted_all_the_same() -> None:
    assert read(tiny_files(2_000))[:2] == (2_000, False)


def lists_of_nothing() -> dict[str, bytes]:
    """Small files that say very little very often: each line would be fifty bytes in memory."""
    many = 1_000_001
    return {
        "opt/conda/conda-meta/a-1-0.json": b'{"name":"a","version":"1","files":[' + b'"",' * many + b'""]}',
        "usr/lib/a-1.dist-info/RECORD": b",\n" * many,
        "usr/lib/b-1.dist-info/sboms/b.cdx.json": b'{"components":[' + b"{}," * many + b"{}]}",
        "usr/lib/pip/_vendor/vendor.txt": b"a\n" * many,
        "var/lib/dpkg/info/a.list": b"/\n" * many,
        "var/lib/dpkg/status": b"x\n" * many,
        "lib/apk/db/installed": b"\nP" * many,
        "x/node_modules/a/package.json": b'{"licenses":[' + b"{}," * many + b"{}]}",
    }


def test_lists_of_nothing_are_unknowns_and_cost_little() -> None:
    def parts() -> Iterator[bytes]:
        for name, raw in lists_of_nothing().items():
            yield header(name, size=len(raw)) + raw + bytes(-len(raw) % 512)

    _, cut, peak = read(parts())
    assert not cut and peak < MAX_MIB


def test_each_list_of_nothing_is_named() -> None:
    for name, raw in lists_of_nothing().items():
        tar = header(name, size=len(raw)) + raw + bytes(-len(raw) % 512) + bytes(1024)
        [fact] = read_layer(open_layer(io.BytesIO(tar), OCI_LAYER)).facts.values()
        told = fact.problems[0] if isinstance(fact, SoftwareList) else getattr(fact, "reason", "")
        assert "lines or entries, at most" in told or "may have" in told, name


def test_a_database_of_broken_records_names_the_first() -> None:
    found = read_dpkg(b"x\n\n" * 150_000, status_required=True)
    assert len(found.broken) == MAX_BROKEN + 1 and found.broken[-1].startswith("and 99901 more records")
    assert read_apk(b"P:a\nV:1\n\n" * 100_001).broken == ("it has more than 100000 records; the rest was not read",)
