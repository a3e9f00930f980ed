"""What pip makes of a wheel is what we make of it: any wheel that a sloppy but honest writer may have made."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pip._internal.exceptions import InstallationError
from pip._internal.models.scheme import Scheme as PipScheme
from pip._internal.operations.install.wheel import install_wheel
from pip._vendor.distlib import DistlibException

from registry_pipelines.build.conflicts import take_inventory
from registry_pipelines.build.install import Scheme
from registry_pipelines.build.target import RUNNING_PYTHON
from registry_pipelines.build.wheel import open_wheel
from registry_pipelines.errors import WheelInvalid
from tests.build.layers import entries, wheel_layer

SCHEME = Scheme.of(RUNNING_PYTHON)
SITE = SCHEME.site_packages
CONTENTS = st.one_of(st.binary(max_size=200), st.integers(0, 4000).map(lambda count: b"a line of text\n" * count))
PARTS = st.sampled_from(["pkg", "more", "é", "x y", "deep", "vendored-1.0.dist-info", "a.data", "m.py", "lib.so"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "top/" + "/".join([*parts, "f"]))
MODES = st.sampled_from([0o100644, 0o100755, 0o100744, 0o100600, 0o755, 0o644, 0])
METHODS = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
SCRIPTS = st.sampled_from(
    [
        *(b"#!python\nprint(1)\n", b"#!python -E\r\nprint(1)\r\n", b"#!pythonw\nx", b"#!python", b"#!pytho"),
        *(b"#!/bin/sh\nexit 0\n", b"\x7fELF" + bytes(3000), b"", b" #!python\n", b"#!python3\n" + bytes(300_000)),
    ]
)
ENTRY_POINTS = st.sampled_from(
    [
        "",
        "[console_scripts]\nrun = pkg.mod:main\n",
        "[console_scripts]\n  run=pkg:Class.method\n    other = pkg:f\n",
        "# comment\n[other]\nrun = pkg\n\n[gui_scripts]\nwin = p:q [extra]\n[console_scripts]\nsub/run = p:q # why\n",
        "[console_scripts]\r\nrun = pkg:main [a,b-c]\r\nrun = pkg:other\r\n[gui_scripts]\r\nrun = pkg:third\r\n",
        "[console_scripts]\npip = pip:main\npip3 = pip:main\npip3.7 = pip:main\n",
        "[console_scripts]\neasy_install = a:b\neasy_install-2.7 = a:b\nrun = pkg:main()\n",
        "stray line\n[console_scripts]\n",
    ]
)


@dataclass(frozen=True)
class Entry:
    """A file of the archive: content, mode, method, and how RECORD speaks of it."""

    content: bytes
    mode: int
    method: int
    row: str


def row_of(path: str, content: bytes, style: str) -> list[str]:
    """RECORD's line in one of the ways that are met; none when the file is not mentioned."""
    algorithm = style if style in ("sha384", "sha512", "md5", "blake2b") else "sha256"
    digest = hashlib.new(algorithm, content).digest()
    text = base64.urlsafe_b64encode(digest).decode()
    plain = [path, f"{algorithm}={text.rstrip('=')}", str(len(content))]
    return {
        "padded": [path, f"{algorithm}={text}", plain[2]],
        "hex": [path, f"{algorithm}={digest.hex()}", plain[2]],
        "no size": [*plain[:2], ""],
        "no hash": [path, "", ""],
        "backslash": [path.replace("/", "\\"), *plain[1:]],
        "dot": ["./" + path, *plain[1:]],
        "absolute": ["/" + path, *plain[1:]],
        "short": [path],
        "long": [*plain, "more"],
        "odd size": [*plain[:2], "many"],
        "unknown": [path, "crc32=abc", plain[2]],
        "missing": [],
    }.get(style, plain)


STYLES = st.sampled_from(
    [
        *("plain", "plain", "plain", "padded", "hex", "no size", "no hash", "backslash", "dot", "absolute", "short"),
        *("long", "odd size", "unknown", "missing", "sha384", "sha512", "md5", "blake2b"),
    ]
)


@st.composite
def wheels(draw: st.DrawFn) -> tuple[str, bytes]:
    """A wheel's file name and bytes, written by zipfile."""
    info = draw(
        st.sampled_from(["some_thing-1.0", "Some.Thing-1.0", "some-thing-1.0", "SOME_thing-1", "some_thing-2+l"])
    )
    data = draw(st.sampled_from([info, "some_thing-1.0", "else"])) + ".data"
    contents: dict[str, bytes] = dict(draw(st.dictionaries(PATHS, CONTENTS, max_size=4)))
    for key in draw(st.sets(st.sampled_from(["purelib", "platlib", "data", "headers"]))):
        contents[f"{data}/{key}/spread/{key}.txt"] = draw(CONTENTS)
    if draw(st.booleans()):
        contents[f"{data}/platlib/top/over.txt"] = b"two"
        contents["top/over.txt"] = b"one"
    for name in draw(st.sets(st.sampled_from(["tool", "sub/tool", "run", "run-script.py", "win.exe"]))):
        contents[f"{data}/scripts/{name}"] = draw(SCRIPTS)
    contents[f"{info}.dist-info/METADATA"] = b"Metadata-Version: 2.1\nName: Some.Thing\nVersion: 1.0\n\n\xff not UTF-8"
    minor = draw(st.sampled_from(["1.0", "1.9", "1"]))
    contents[f"{info}.dist-info/WHEEL"] = f"Wheel-Version: {minor}\nTag: \nRoot-Is-Purelib: false\n".encode()
    if text := draw(ENTRY_POINTS):
        contents[f"{info}.dist-info/entry_points.txt"] = text.encode()
    for name in draw(st.sets(st.sampled_from(["RECORD.jws", "INSTALLER", "licenses/LICENSE"]))):
        contents[f"{info}.dist-info/{name}"] = b"there before"
    files = {path: Entry(content, draw(MODES), draw(METHODS), draw(STYLES)) for path, content in contents.items()}
    return "some_thing-1.0-1build-py3-none-any.whl", written(info, files, draw)


def written(info: str, files: Mapping[str, Entry], draw: st.DrawFn) -> bytes:
    rows = [row for path, entry in files.items() if (row := row_of(path, entry.content, entry.row))]
    rows += draw(st.sampled_from([[], [["gone.py", "sha256=x", "1"]], [["top/", "", ""]], [["/abs/gone.py", "", ""]]]))
    if draw(st.booleans()):
        rows.append([f"{info}.dist-info/RECORD", "", ""])
    record = io.StringIO(newline="")
    csv.writer(record, lineterminator=draw(st.sampled_from(["\n", "\r\n"]))).writerows(rows)
    out = io.BytesIO()
    out.write(draw(st.sampled_from([b"", b"#!/bin/sh\nexit 1\n"])))
    with zipfile.ZipFile(out, "w") as archive:
        archive.comment = draw(st.sampled_from([b"", b"a comment"]))
        if draw(st.booleans()):
            archive.writestr(zipfile.ZipInfo("top/"), b"")
            archive.writestr(zipfile.ZipInfo("empty/folder/"), b"")
        for path, entry in files.items():
            info_of = zipfile.ZipInfo(path)
            info_of.compress_type = entry.method
            info_of.external_attr = entry.mode << 16
            with archive.open(info_of, "w", force_zip64=draw(st.booleans())) as file:
                file.write(entry.content)
        archive.writestr(f"{info}.dist-info/RECORD", record.getvalue())
    return out.getvalue() + draw(st.sampled_from([b"", b"trailing bytes"]))


def pip_installs(wheel: Path, root: Path) -> dict[str, Path]:
    """pip's own installer, in this process (a program start for each wheel would take minutes)."""
    site = str(root / SITE)
    headers = str(root / SCHEME.prefix / f"include/python{RUNNING_PYTHON}/some-thing")
    scheme = PipScheme(site, site, headers, str(root / SCHEME.scripts), str(root / SCHEME.prefix))
    install_wheel("some-thing", str(wheel), scheme, "some-thing", pycompile=False, warn_script_location=False)
    return {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}


@settings(deadline=None, max_examples=60)
@given(wheels())
def test_any_wheel_that_pip_installs_gives_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("wheel")
    path = folder / made[0]
    path.write_bytes(made[1])
    theirs = pip_installs(path, folder / "root")
    ours = {name: entry for name, entry in entries(wheel_layer(path, scheme=SCHEME)).items() if entry[0].isfile()}
    assert ours.keys() == theirs.keys()
    record = next(name for name in ours if name.endswith(".dist-info/RECORD"))
    for name, (info, content) in ours.items():
        expected = theirs[name].read_bytes()
        if name.startswith(SCHEME.scripts) and expected.startswith(b"#!") and content != expected:
            same_but_for_the_first_line(content, expected)
        elif name not in (record, record.replace("RECORD", "INSTALLER")):
            assert content == expected
        # We make every script executable, as the format asks for; pip leaves that to the archive.
        executable = bool(theirs[name].stat().st_mode & stat.S_IXUSR) or name.startswith(SCHEME.scripts)
        assert info.mode == (0o755 if executable else 0o644)
    check_record(record, {name: content for name, (_, content) in ours.items()})
    inventory = take_inventory(open_wheel(path), SCHEME)
    assert inventory.paths.keys() == ours.keys()
    shutil.rmtree(folder)


def same_but_for_the_first_line(ours: bytes, theirs: bytes) -> None:
    """The interpreter differs, and the line by which pip's own scripts drop ``.exe``."""
    lines = [line for line in theirs.split(b"\n")[1:] if b"sys.argv[0]" not in line]
    assert [line.replace(b"'", b'"') for line in lines] == ours.split(b"\n")[1:]
    assert ours.startswith(b"#!" + SCHEME.interpreter.encode() + b"\n")


def check_record(record: str, files: Mapping[str, bytes]) -> None:
    rows = {path: (hashed, size) for path, hashed, size in csv.reader(io.StringIO(files[record].decode()))}
    assert {os.path.normpath(f"{SITE}/{path}") for path in rows} == files.keys()
    for path, (hashed, size) in rows.items():
        content = files[os.path.normpath(f"{SITE}/{path}")]
        if path != record.removeprefix(SITE + "/"):
            algorithm, _, text = hashed.partition("=")
            assert algorithm in ("sha256", "sha384", "sha512")
            digest = hashlib.new(algorithm, content).digest()
            assert (text, size) == (base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), str(len(content)))


def small_wheel(folder: Path, files: Mapping[str, bytes]) -> Path:
    path = folder / "some_thing-1.0-py3-none-any.whl"
    info = "some_thing-1.0.dist-info"
    given = {f"{info}/METADATA": b"Name: some-thing\nVersion: 1.0\n", f"{info}/WHEEL": b"Wheel-Version: 1.0\n"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (given | {f"{info}/RECORD": b""} | dict(files)).items():
            archive.writestr(name, content)
    return path


def test_names_without_the_utf8_flag_are_read_as_pip_reads_them(tmp_path: Path) -> None:
    """As code page 437: no name that anybody meant, but the same one; RECORD has another, which is said."""
    path = small_wheel(tmp_path, {"top/é.txt": b"text"})
    raw = path.read_bytes()
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = raw.split(signature)
        raw = signature.join([parts[0], *(unflagged(part, offset - 4) for part in parts[1:])])
    path.write_bytes(raw)
    theirs = pip_installs(path, tmp_path / "root")
    assert f"{SITE}/top/├⌐.txt" in theirs
    assert {
        name for name, entry in entries(wheel_layer(path, scheme=SCHEME)).items() if entry[0].isfile()
    } == theirs.keys()
    assert any("├⌐" in note for note in open_wheel(path).notes)


def unflagged(header: bytes, offset: int) -> bytes:
    return header[: offset + 1] + bytes([header[offset + 1] & ~0x08]) + header[offset + 2 :]


@pytest.mark.parametrize(
    "files",
    [
        {"some_thing-1.0.data/unknown/x": b""},
        {"some_thing-1.0.data/x": b""},
        {"other-1.0.dist-info/METADATA": b"Name: other\nVersion: 1\n"},
        {"some_thing-1.0.dist-info/WHEEL": b"Wheel-Version: 2.0\n"},
        {"some_thing-1.0.dist-info/WHEEL": b"Wheel-Version: one\n"},
        {"some_thing-1.0.dist-info/WHEEL": b"Generator: x\n"},
        {"some_thing-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: \xff\n"},
        {"some_thing-1.0.dist-info/entry_points.txt": b"[console_scripts]\nx = module\n"},
        {"some_thing-1.0.dist-info/entry_points.txt": b"[console_scripts]\nx = a:b [oops\n"},
        {"some_thing-1.0.dist-info/entry_points.txt": b"[console_scripts]\n../x = a:b\n"},
        {"../x": b""},
    ],
)
def test_what_pip_refuses_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    path = small_wheel(tmp_path, files)
    with pytest.raises((InstallationError, DistlibException)):
        pip_installs(path, tmp_path / "root")
    with pytest.raises(WheelInvalid):
        take_inventory(open_wheel(path), SCHEME)
