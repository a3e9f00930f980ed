"""Random layers, and the trees that they unpack to by GNU tar."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import zstandard
from hypothesis import strategies as st

from registry_pipelines.stream.estargz import Conversion, Converted, Options

FOLDERS = ("a", "a/b", "c", "ordner-ä")
LEAVES = ("one", "two", "a/one", "a/b/" + "long" * 30, "c/ü", "a/b/three", "d/no-parent", "c/" + "x" * 99)
DEFAULT = Options()
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def opener(blob: bytes) -> Callable[[], AbstractContextManager[io.BytesIO]]:
    return lambda: nullcontext(io.BytesIO(blob))


def convert(blob: bytes, options: Options = DEFAULT, **more: object) -> tuple[bytes, Converted]:
    written: list[bytes] = []

    def deliver(produce: object) -> None:
        written.clear()
        produce(lambda piece: written.append(bytes(piece)))  # type: ignore[operator]

    open_blob = more.pop("open_blob", opener(blob))
    conversion = Conversion(open_blob, where="layer", options=options, **more)  # type: ignore[arg-type]
    converted = conversion.deliver(deliver)
    return b"".join(written), converted


@st.composite
def members(draw: st.DrawFn) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Entries in an order that tar can unpack; names come more than once, also those that links were made to."""
    found: list[tuple[tarfile.TarInfo, bytes]] = []
    leaves: list[str] = []
    for _ in range(draw(st.integers(0, 14))):
        kind = draw(st.sampled_from("ffffdlhhp"))
        info = tarfile.TarInfo(draw(st.sampled_from(FOLDERS if kind == "d" else LEAVES)))
        info.mode = draw(st.sampled_from([0o644, 0o755, 0o4711, 0o600]))
        info.mtime = draw(st.sampled_from([0, 1, 1_700_000_000, 1_700_000_000.75, 2**34]))
        info.uid, info.gid = draw(st.sampled_from([(0, 0), (1000, 50), (3_000_000, 7)]))
        info.uname = draw(st.sampled_from(["", "root", "jürgen"]))
        content = b""
        if kind == "f":
            size = draw(st.sampled_from([0, 1, 511, 512, 1000, 4096, 8192, 9000]))
            content = draw(st.binary(min_size=3, max_size=9)) * (size // 3 + 1)
            content = content[:size]
            info.size = size
            if draw(st.booleans()):
                info.pax_headers["SCHILY.xattr.user.note"] = draw(st.sampled_from(["x", "größer", ""]))
        elif kind == "d":
            info.type = tarfile.DIRTYPE
        elif kind == "p":
            info.type = tarfile.FIFOTYPE
        elif kind == "l":
            # No `..`: GNU tar sets such links at its end, and then also where another entry took the name.
            info.type, info.linkname = tarfile.SYMTYPE, draw(st.sampled_from(["one", "b/c", "y" * 120]))
        else:
            targets = [name for name in leaves if name != info.name]
            if not targets:
                continue
            info.type, info.linkname = tarfile.LNKTYPE, draw(st.sampled_from(targets))
        if kind != "d":
            leaves.append(info.name)
        found.append((info, content))
    return found


def pack(entries: list[tuple[tarfile.TarInfo, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def unpack(blob: bytes, folder: Path) -> dict[str, Any]:
    """What GNU tar makes of a layer: for each path its kind, mode, time, content, and what other paths are the same."""
    folder.mkdir()
    command = [
        "tar",
        "-x",
        "-f",
        "-",
        "-C",
        str(folder),
        "--no-same-owner",
        "-p",
        "--xattrs",
        "--xattrs-include=user.*",
    ]
    if blob[:2] == b"\x1f\x8b":
        command.append("-z")
    subprocess.run(command, input=blob, check=True, capture_output=True)
    found: dict[str, Any] = {}
    inodes: dict[int, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        status, name = path.lstat(), str(path.relative_to(folder))
        inodes.setdefault(status.st_ino, []).append(name)
        kind = stat.S_IFMT(status.st_mode)
        what = path.read_bytes() if kind == stat.S_IFREG else path.readlink() if kind == stat.S_IFLNK else None
        # Folders that no entry tells of get the time of the unpacking.
        time = None if kind == stat.S_IFDIR else int(status.st_mtime)
        attributes = [] if kind == stat.S_IFLNK else sorted(os.listxattr(path))
        found[name] = [kind, stat.S_IMODE(status.st_mode), time, what, attributes, inodes[status.st_ino]]
    return found
