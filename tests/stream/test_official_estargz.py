"""The official Go package (`.ci/build-go-peers`) with layers that we converted, and what takes many tries to find."""

from __future__ import annotations

import random
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings

from benchmarks.stream_peers import anonymous_peak_mb
from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.estargz import Options
from tests.stream.layers import convert, members, pack
from tests.stream.test_estargz_toc import verify

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

MOST_ANONYMOUS_MIB = 200
"""Of the whole process, at any size of the layer."""

MANY_ENTRIES = """
import tarfile
from contextlib import nullcontext
from registry_pipelines.stream.estargz import Conversion

ENTRIES = 1_500_000

class Many:
    def __init__(self):
        self.made, self.rest = 0, b""

    def readinto(self, view):
        if not self.rest and self.made <= ENTRIES:
            self.rest = b"".join(map(self.entry, range(self.made, min(self.made + 500, ENTRIES)))) or bytes(1024)
            self.made += 500
        count = min(len(view), len(self.rest))
        view[:count], self.rest = self.rest[:count], self.rest[count:]
        return count

    def entry(self, number):
        info = tarfile.TarInfo(f"usr/lib/python3/site-packages/package{number // 1000}/module{number}.py")
        info.size, info.mtime = (100 if number % 3 == 0 else 0), 1_700_000_000 + number
        return info.tobuf(tarfile.USTAR_FORMAT) + (b"%d" % number).ljust(512, b"\\0") * bool(info.size)

conversion = Conversion(lambda: nullcontext(Many()))
conversion.run(lambda piece: None)
assert conversion.result.source.entries == ENTRIES
"""


@pytest.mark.peer("estargz-verify")
def test_the_official_package_verifies_every_chunk(peer: Callable[[str], str], tmp_path: Path) -> None:
    chance = random.Random(7)
    for turn in range(5):
        entries = []
        for number in range(chance.randrange(50, 300)):
            info = tarfile.TarInfo(f"opt/folder{number % 9}/" + "long" * chance.choice([0, 40]) + f"file{number}")
            content = chance.randbytes(chance.randrange(60)) * chance.choice([0, 1, 100, 3000])
            info.size, info.mtime = len(content), chance.randrange(1 << 31)
            entries.append((info, content))
        some = tuple(info.name for info, _ in chance.sample(entries, turn))
        blob, converted = convert(pack(entries), Options(chunk_bytes=32768, prioritized=some))
        path = tmp_path / "blob"
        path.write_bytes(blob)
        command = [peer("estargz-verify"), str(path), str(converted.toc_digest)]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert [int(count) for count in shown.split()] == [converted.files + 1, converted.chunks + 1]
        other = subprocess.run([*command[:-1], str(Digest.of(b"other"))], capture_output=True, text=True)
        assert other.returncode == 1 and "invalid TOC JSON" in other.stderr


def test_memory_does_not_grow_with_the_entries() -> None:
    assert anonymous_peak_mb([sys.executable, "-c", MANY_ENTRIES]) < MOST_ANONYMOUS_MIB


@settings(max_examples=1500)
@given(members())
def test_what_is_converted_is_always_what_its_table_says(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    for some in ((), ("a/one", "c/ü", "two")):
        blob, converted = convert(pack(entries), Options(chunk_bytes=4096, prioritized=some))
        verified = verify(blob)
        assert (verified.digest, verified.diff_id) == (converted.descriptor.digest, converted.diff_id)
