"""The changelog inside a Debian package, and which CVEs it says were mended in which version.

Sources: deb(5) (an ``ar`` archive with ``data.tar.*``), deb-changelog(5). A package is hostile input like a layer: its
tar passes the same bounded walk.
"""

from __future__ import annotations

import io
import lzma
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import BinaryIO

from registry_pipelines.errors import ContentError, LayerInvalid
from registry_pipelines.oci.layer.tar_bytes import LayerLimits
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.media_types import OCI_LAYER

MAX_CHANGELOG_BYTES = 8 * 1024 * 1024
"""Unpacked; the kernel's has 3 MiB."""

_LZMA_MEMORY_BYTES = 128 * 1024 * 1024
"""``xz -9`` needs 65 MiB to unpack; a hostile header may ask for 4 GiB."""
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = re.compile(rb"([^\n]{16})[^\n]{32}([0-9 ]{10})`\n")
_MAX_MEMBERS = 16
_READ_BYTES = 256 * 1024
_CHANGELOG = re.compile(r"usr/share/doc/[^/]+/changelog(\.Debian)?(\.gz)?\Z")
_HEADING = re.compile(r"([A-Za-z0-9][A-Za-z0-9.+-]*) \(([^()\s]{1,128})\)(?: [^;\n]{1,200})?;")
_TRAILER = re.compile(r" -- .*>  (.{10,60})\Z")
_CVE = re.compile(r"\bCVE-[0-9]{4}-[0-9]{4,7}\b", re.IGNORECASE)
_LIMITS = LayerLimits(max_bytes=8 * 1024**3)


@dataclass(frozen=True)
class Change:
    """One entry of a changelog. cves: sorted. time: RFC 3339, UTC; empty where its date cannot be read."""

    source: str
    version: str
    cves: tuple[str, ...]
    time: str


def read_changes(text: str) -> list[Change]:
    """The entries, the newest first. Lines that are none are passed over: changelogs are written by hand."""
    changes: list[Change] = []
    source = version = time = ""
    cves: set[str] = set()

    def end() -> None:
        if source:
            changes.append(Change(source, version, tuple(sorted(cves)), time))

    for line in text.split("\n"):
        if heading := _HEADING.match(line):
            end()
            source, version, time, cves = heading[1], heading[2], "", set()
        elif trailer := _TRAILER.match(line):
            time = _utc(trailer[1])
        else:
            cves.update(found.upper() for found in _CVE.findall(line))
    end()
    return changes


def _utc(text: str) -> str:
    try:
        moment = parsedate_to_datetime(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return ""
    return f"{moment.replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def changelog_of(package: BinaryIO, source: str, *, where: str) -> str:
    """The Debian changelog of ``source`` in a ``.deb``; empty where it has none of its own (its folder may be a link
    to another package's). Raises ContentError: no package, or a damaged one."""
    native = ""
    try:
        stream = _data_of(package, where)
        walk = open_layer(stream, OCI_LAYER, where=where, limits=_LIMITS)
        for entry in walk:
            match = _CHANGELOG.match(entry.name)
            if entry.kind != "file" or match is None:
                continue
            text = (
                _unpacked(entry.head(MAX_CHANGELOG_BYTES + 1), where)
                if match[2]
                else _plain(entry.head(MAX_CHANGELOG_BYTES + 1), where)
            )
            first = _HEADING.match(text)
            if first is None or first[1] != source:
                continue
            if match[1]:
                return text
            native = native or text
    except LayerInvalid as error:
        raise ContentError(f"the package cannot be read: {error.what}", where=where) from error
    return native


def _plain(raw: bytes, where: str) -> str:
    if len(raw) > MAX_CHANGELOG_BYTES:
        raise ContentError(f"the changelog has more than {MAX_CHANGELOG_BYTES} bytes", where=where)
    return raw.decode("utf-8", "replace")


def _unpacked(raw: bytes, where: str) -> str:
    inflate = zlib.decompressobj(wbits=31)
    try:
        return _plain(inflate.decompress(raw, MAX_CHANGELOG_BYTES + 1), where)
    except zlib.error as error:
        raise ContentError(f"the changelog is damaged: {error}", where=where) from error


def _data_of(package: BinaryIO, where: str) -> io.RawIOBase:
    """The tar with the files, as it is compressed; xz unpacked."""
    if package.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ContentError("this is no Debian package", where=where)
    for name, size in _members(package, where):
        if name.startswith("data.tar"):
            part = _Part(package, size)
            return _Xz(part, where) if name.endswith(".xz") else part
        package.seek(size + size % 2, io.SEEK_CUR)
    raise ContentError("the package has no data.tar", where=where)


def _members(package: BinaryIO, where: str) -> Iterator[tuple[str, int]]:
    for _ in range(_MAX_MEMBERS):
        raw = package.read(60)
        if not raw:
            return
        match = _AR_HEADER.fullmatch(raw)
        if match is None or not match[2].strip().isdigit():
            raise ContentError("the package's archive is damaged", where=where)
        yield match[1].decode("ascii", "replace").strip().rstrip("/"), int(match[2])


class _Part(io.RawIOBase):
    """The next bytes of a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        raw = self._file.read(min(len(buffer), self._left))
        buffer[: len(raw)] = raw
        self._left -= len(raw)
        return len(raw)


class _Xz(io.RawIOBase):
    """The same, unpacked within a bound of memory."""

    def __init__(self, stream: _Part, where: str) -> None:
        self._stream, self._where = stream, where
        self._unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY_BYTES)

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        while not self._unpack.eof:
            raw = bytearray(_READ_BYTES if self._unpack.needs_input else 0)
            count = self._stream.readinto(memoryview(raw)) if raw else 0
            if raw and not count:
                raise ContentError("the package is cut", where=self._where)
            try:
                found = self._unpack.decompress(bytes(raw[:count]), max_length=len(buffer))
            except lzma.LZMAError as error:
                raise ContentError(f"the package is damaged: {error}", where=self._where) from error
            if found:
                buffer[: len(found)] = found
                return len(found)
        return 0
