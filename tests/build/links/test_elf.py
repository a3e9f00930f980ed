from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.oci.elf import MAGIC, ElfFacts, ElfStream
from tests.build.links.compiled import Compiler

FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/bin")


def real_files() -> Iterator[Path]:
    for folder in FOLDERS:
        files = (path for path in sorted(Path(folder).glob("*")) if path.is_file() and not path.is_symlink())
        yield from islice((path for path in files if path.read_bytes()[:4] == MAGIC), 20)


def streamed(raw: bytes, step: int = 65_536, **room: int) -> ElfFacts:
    stream = ElfStream(len(raw), **room)
    for start in range(0, len(raw), step):
        stream.feed(memoryview(raw)[start : start + step])
    return stream.finish()


def told_by_readelf(program: str, path: Path) -> ElfFacts:
    out = subprocess.run(
        [program, "-W", "-h", "-l", "-d", "-V", path], capture_output=True, text=True, check=True
    ).stdout
    sections = re.split(r"^Version (needs|definition) section.*$", out, flags=re.MULTILINE)
    texts = dict(zip(sections[1::2], sections[2::2], strict=True))
    versions: dict[str, list[str]] = {}
    library = ""
    for line in texts.get("needs", "").splitlines():
        if file := re.search(r"File: (\S+)", line):
            library = file[1]
        elif (name := re.search(r"Name: (\S+)\s+Flags: (.*?)\s+Version", line)) and "WEAK" not in name[2]:
            versions.setdefault(library, []).append(name[1])
    given_ = re.findall(r"Flags: (\S+)\s+Index: \d+\s+Cnt: [1-9]\d*\s+Name: (\S+)", texts.get("definition", ""))

    raw = path.read_bytes()

    def values(tag: str) -> list[str]:
        return re.findall(rf"\({tag}\)[^\[]*\[(.*)\]", out)

    def folders(tag: str) -> tuple[str, ...]:
        return tuple(part for text in values(tag) for part in text.split(":") if part)

    return ElfFacts(
        machine=(raw[4], raw[5], int.from_bytes(raw[18:20], "little")),
        interpreter=next(iter(re.findall(r"program interpreter: (.*)\]", out)), ""),
        soname=next(iter(values("SONAME")), ""),
        needed=tuple(values("NEEDED")),
        rpath=folders("RPATH"),
        runpath=folders("RUNPATH"),
        versions={name: tuple(below) for name, below in versions.items()},
        gives=tuple(name for flags, name in given_ if "BASE" not in flags),
        dynamic="Dynamic section at offset" in out,
    )


def test_files_of_this_machine_are_read_as_readelf_reads_them(peer: Callable[[str], str]) -> None:
    program, files = peer("readelf"), list(real_files())
    assert len(files) > 20
    for path in files:
        assert streamed(path.read_bytes()) == told_by_readelf(program, path), path


def test_a_file_of_any_size_is_read_from_its_head_and_its_loaded_parts() -> None:
    """The dynamic section of a large file stands far behind what is kept of its head."""
    whole = kept = 0
    for path in islice((path for path in real_files() if path.stat().st_size > 100_000), 20):
        raw = path.read_bytes()
        facts = streamed(raw, head_bytes=64 * 1024, parts_bytes=16 * 1024)
        whole += 1
        kept += facts == streamed(raw)
        assert facts == streamed(raw) or facts.problem
    assert kept > whole / 2


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, peer: Callable[[str], str]) -> bytes:
    compiler = Compiler(peer("gcc"), tmp_path_factory.mktemp("elf"))
    compiler.library("libbelow.so.1", function="below", version="BELOW_1")
    flags = ["-Wl,-rpath,$ORIGIN/../lib:/opt/lib"]
    return compiler.library("libx.so.1", function="x", needs=["libbelow.so.1"], version="X_1", flags=flags)


def test_what_a_library_needs_and_gives(library: bytes) -> None:
    facts = streamed(library)
    assert (facts.soname, facts.gives, facts.runpath) == ("libx.so.1", ("X_1",), ("$ORIGIN/../lib", "/opt/lib"))
    assert "libbelow.so.1" in facts.needed
    assert not facts.interpreter and not facts.problem


@given(
    changes=st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(0, 255)), max_size=12), cut=st.integers(0, 1 << 14)
)
def test_damaged_files_are_read_or_have_a_problem(library: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    raw = bytearray(library[:cut] if cut % 3 == 0 else library)
    for place, value in changes:
        if place < len(raw):
            raw[place] = value
    facts = streamed(bytes(raw), step=1000)
    assert facts.problem or facts.machine


@given(step=st.integers(1, 20_000), head=st.integers(64, 20_000), parts=st.integers(0, 20_000))
def test_pieces_and_room_change_nothing_but_whether_it_is_read(
    library: bytes, step: int, head: int, parts: int
) -> None:
    facts = streamed(library, step=step, head_bytes=head, parts_bytes=parts)
    assert facts == streamed(library) or facts.problem


def test_huge_counts_are_refused_at_once() -> None:
    header = MAGIC + bytes([2, 1, 1]) + bytes(9) + (3).to_bytes(2, "little") + (62).to_bytes(2, "little") + bytes(12)
    raw = header + (64).to_bytes(8, "little") + bytes(14) + (56).to_bytes(2, "little") + b"\xff\xff" + bytes(4096)
    assert streamed(raw).problem == "its number of program headers is 65535"
