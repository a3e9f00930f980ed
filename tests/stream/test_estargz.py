"""Conversion to eStargz, against GNU tar, Python's tarfile, the official tool's blobs and ctr-remote."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.estargz import Conversion, Converted, Options
from registry_pipelines.stream.estargz_toc import RESERVED
from tests.stream.layers import COMPRESSIONS, members, opener, pack, unpack

DEFAULT = Options()
Entries = list[tuple[tarfile.TarInfo, bytes]]


def convert(blob: bytes, options: Options = DEFAULT, **more: object) -> tuple[bytes, Converted]:
    written: list[bytes] = []

    def deliver(produce: object) -> None:
        written.clear()
        produce(lambda piece: written.append(bytes(piece)))  # type: ignore[operator]

    conversion = Conversion(opener(blob), where="layer", options=options, **more)  # type: ignore[arg-type]
    converted = conversion.deliver(deliver)
    return b"".join(written), converted


def without_own(tree: dict[str, object]) -> dict[str, object]:
    return {name: found for name, found in tree.items() if name not in RESERVED}


@settings(max_examples=40)
@given(members())
def test_a_converted_layer_unpacks_to_the_same_tree(entries: Entries) -> None:
    source = pack(entries)
    for options in (Options(chunk_bytes=4096), Options(chunk_bytes=4096, prioritized=("a/one", "./c/ü", "/two", "no"))):
        blob, converted = convert(source, options)
        assert converted.descriptor.digest == Digest.of(blob)
        assert converted.diff_id == Digest.of(gzip.decompress(blob))
        assert "no" in converted.missing or not options.prioritized
        with tempfile.TemporaryDirectory() as folder:
            want, have = unpack(source, Path(folder, "want")), unpack(blob, Path(folder, "have"))
            assert without_own(have) == want


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_bytes_depend_on_the_tar_alone(compression: str) -> None:
    names = [f"folder{number % 7}/file{number}" for number in range(300)]
    entries = []
    for number, name in enumerate(names):
        info = tarfile.TarInfo(name)
        info.size = number * 500
        entries.append((info, hashlib.sha256(name.encode()).digest() * (number * 500 // 32 + 1)))
    source = pack(entries)
    expected, _ = convert(source, Options(threads=1))
    blob, converted = convert(COMPRESSIONS[compression](source), Options(threads=3))
    assert blob == expected
    assert converted.source.compression == compression
    assert subprocess.run(["gzip", "-t"], input=blob).returncode == 0
