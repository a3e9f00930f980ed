"""Wheels of our own in the shapes that popular ones have: what they are like is said where each is made."""

from __future__ import annotations

import csv
import io
import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.build.wheels import record_hash

TAG = "py3-none-any"


@dataclass(frozen=True)
class Entry:
    """A member of the archive. ``attributes``: the high half of its external attributes, type bits included."""

    path: str
    content: bytes = b""
    attributes: int = 0o100644
    stored: bool = False
    zip64: bool = False
    system: int = 3
    """Who made the entry: 3 Unix, 0 MS-DOS (which has no permission bits)."""


def write_wheel(
    folder: Path, name: str, entries: Sequence[Entry], *, version: str = "1.0", line_end: str = "\n"
) -> None:
    """RECORD is made of the entries, all hashed; ``line_end`` is the one of its lines."""
    stem = f"{name}-{version}"
    metadata = f"Metadata-Version: 2.4\nName: {name.replace('_', '-')}\nVersion: {version}\n"
    wheel = f"Wheel-Version: 1.0\nGenerator: shapes\nRoot-Is-Purelib: true\nTag: {TAG}\n"
    info = f"{stem}.dist-info"
    entries = [*entries, Entry(f"{info}/METADATA", metadata.encode()), Entry(f"{info}/WHEEL", wheel.encode())]
    record = io.StringIO(newline="")
    writer = csv.writer(record, lineterminator=line_end)
    writer.writerows((e.path, record_hash(e.content), len(e.content)) for e in entries if not e.path.endswith("/"))
    writer.writerow((f"{info}/RECORD", "", ""))
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{stem}-{TAG}.whl", "w") as archive:
        for entry in [*entries, Entry(f"{info}/RECORD", record.getvalue().encode())]:
            item = zipfile.ZipInfo(entry.path, (2024, 1, 2, 3, 4, 6))
            item.compress_type = zipfile.ZIP_STORED if entry.stored else zipfile.ZIP_DEFLATED
            item.create_system = entry.system
            item.external_attr = entry.attributes << 16
            if entry.path.endswith("/"):
                archive.writestr(item, b"")
                continue
            with archive.open(item, "w", force_zip64=entry.zip64) as file:
                file.write(entry.content)


def _pure(folder: Path) -> None:
    """Most wheels; a third of the popular ones have a RECORD with CRLF. Names that RECORD must quote."""
    files = [
        Entry("pure/__init__.py", b"A = 1\r\n"),
        Entry("pure/py.typed"),
        Entry("pure/a name, and \u00e9.txt", b"x"),
        Entry('pure/"quoted".txt', b"y"),
        Entry("pure-1.0.dist-info/licenses/LICENSE", b"free\n"),
        Entry("pure-1.0.dist-info/top_level.txt", b"pure\n"),
    ]
    write_wheel(folder, "pure", files, line_end="\r\n")


def _program(folder: Path) -> None:
    """ruff, uv: a compiled program of many MB in ``.data/scripts``."""
    noise = random.Random(5).randbytes(5 * 1024 * 1024)
    scripts = "program-1.0.data/scripts"
    write_wheel(folder, "program", [Entry(f"{scripts}/program", b"\x7fELF" + noise, 0o100755)])


def _scripts(folder: Path) -> None:
    """torch, boto: scripts whose first line an installer rewrites, and others that it must not touch."""
    scripts = "scripts-1.0.data/scripts"
    contents = {
        "plain.py": b"#!python\nprint(1)\n",
        "windowed.py": b"#!pythonw\nprint(1)\n",
        "flags.py": b"#!python -u\r\nprint(1)\r\n",
        "shell.sh": b"#!/bin/sh\necho python\n",
        "no-line": b"print('#!python')",
        "empty": b"",
    }
    files = [Entry(f"{scripts}/{name}", content, 0o100755) for name, content in contents.items()]
    files += [Entry(f"{scripts}/unmarked", b"#!python\nprint(1)\n"), Entry("scripts.py", b"")]
    write_wheel(folder, "scripts", files)


def _data(folder: Path) -> None:
    """jupyter, cmake, greenlet: files for the prefix, headers, and packages below ``.data``."""
    data = "data_files-1.0.data"
    files = [
        Entry(f"{data}/data/etc/jupyter/config.d/a.json", b"{}"),
        Entry(f"{data}/data/share/man/man1/a.1", b".TH A 1\n"),
        Entry(f"{data}/data/share/run-me", b"#!/bin/sh\n", 0o100755),
        Entry(f"{data}/data/bin/helper", b"#!/bin/sh\n", 0o100755),
        Entry(f"{data}/headers/data_files.h", b"#define A\n"),
        Entry(f"{data}/purelib/data_files/pure.py", b"P = 1\n"),
        Entry(f"{data}/platlib/data_files/native.so", b"\x7fELFx", 0o100755),
        Entry("data_files/__init__.py", b""),
    ]
    write_wheel(folder, "data_files", files)


def _entry_points(folder: Path) -> None:
    """Console and graphical scripts, spaced and commented as they are in the wild."""
    text = """\
# made by hand
[console_scripts]
entry = entry_points.main:run
entry-dotted=entry_points:Main.run
  entry_spaces   =   entry_points.main:run
entry.extra = entry_points:run [color]
Entry-Case = entry_points:run
[gui_scripts]
entry-window = entry_points:run
[other.group]
nonsense = this is:for others
"""
    files = [
        Entry("entry_points/__init__.py", b"class Main:\n    run = print\nrun = print\n"),
        Entry("entry_points/main.py", b"run = print\n"),
        Entry("entry_points-1.0.dist-info/entry_points.txt", text.encode()),
    ]
    write_wheel(folder, "entry_points", files)


def _namespace(folder: Path) -> None:
    """google, nvidia, opentelemetry: two wheels in one folder that has no ``__init__.py``."""
    for part in ("first", "second"):
        files = [Entry(f"company/cloud/{part}/__init__.py", f"# {part}\n".encode()), Entry("company/cloud/py.typed")]
        write_wheel(folder, f"company_cloud_{part}", files)


def _zip64(folder: Path) -> None:
    """protobuf: local headers of small files with zip64 fields; h5py and others: members that are stored."""
    files = [
        Entry("wide/__init__.py", b"W = 1\n" * 100, zip64=True),
        Entry("wide/stored.bin", bytes(range(256)), stored=True),
        Entry("wide/both.bin", b"x" * 1000, stored=True, zip64=True),
    ]
    write_wheel(folder, "wide", files)


def _modes(folder: Path) -> None:
    """nvidia-cuda-nvcc has 0744, pillow 0600, older tools no type bits or none at all, Windows has no permissions."""
    kinds = {"owner": 0o100744, "private": 0o100600, "no-type": 0o755, "none": 0, "all": 0o100777, "odd": 0o104755}
    files = [Entry(f"modes/{name}", name.encode(), attributes) for name, attributes in kinds.items()]
    files += [Entry("modes/windows", b"w", 0, system=0), Entry("modes/", b"", 0o040755), Entry("modes/empty/")]
    write_wheel(folder, "modes", files)


def _single(folder: Path) -> None:
    """six and typing-extensions: one module; setuptools: a ``.pth``; type stubs; sources that do not compile."""
    files = [
        Entry("single.py", b"S = 1\n"),
        Entry("single.pth", b"import os\n"),
        Entry("single-stubs/__init__.pyi", b"S: int\n"),
        Entry("single_data/bad_syntax.py", b"print 'of old'\n"),
        Entry("single_data/latin.py", b"# -*- coding: latin-1 -*-\nE = '\xe9'\n"),
        Entry("single_data/null.py", b"A = 1\0\n"),
        Entry("single_data/not-a-name.py", b"A = 1\n"),
    ]
    write_wheel(folder, "single", files)


def _boms(folder: Path) -> None:
    """PEP 770, and what auditwheel leaves: libraries beside the package, of names that repeat."""
    files = [
        Entry("native/__init__.py", b""),
        Entry("native/core.abi3.so", b"\x7fELFcore", 0o100755),
        Entry("native.libs/libz-1a2b3c4d.so.1", b"\x7fELFz", 0o100755),
        Entry("native-1.0.post1.dist-info/sboms/auditwheel.cdx.json", b"{}"),
    ]
    write_wheel(folder, "native", files, version="1.0.post1")


SHAPES: Sequence[Callable[[Path], None]] = (
    _pure,
    _program,
    _scripts,
    _data,
    _entry_points,
    _namespace,
    _zip64,
    _modes,
    _single,
    _boms,
)
NAMES = (
    *("pure", "program", "scripts", "data-files", "entry-points", "company-cloud-first", "company-cloud-second"),
    *("wide", "modes", "single", "native"),
)


def write_shapes(folder: Path) -> None:
    """All of them into a folder."""
    for write in SHAPES:
        write(folder)
