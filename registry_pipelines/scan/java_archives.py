"""Java archives and the archives inside them: what they say they are, bounded whatever is in them.

Sources: Maven Archiver (``pom.properties``: groupId, artifactId, version), the JAR File Specification and OSGi Core 8
(headers of MANIFEST.MF). Inner archives are found by their names, wherever they lie. Only archives with
``pom.properties`` tell what advisories call them; the others have a name at most.
"""

from __future__ import annotations

import posixpath
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from registry_pipelines.scan.facts import JavaArchive, JavaArtifact

MAX_ARCHIVE_BYTES = 2 * 1024**3
"""One file of a layer; the largest assemblies of Spark and Flink stay below 1 GiB."""
MAX_MEMORY_BYTES = 8 * 1024 * 1024
"""Held of one archive; a larger one is put into a temporary file while it is read."""
MAX_DIRECTORY_BYTES = 8 * 1024 * 1024
"""An archive's list of members, all in memory: 80,000 members. Spark's largest has 60,000."""
MAX_MEMBERS = 200_000
"""Of one file and the archives inside it, together."""
MAX_DEPTH = 4
"""Archives inside archives: an ear holds a war holds a jar, which may hold one more."""
MAX_INNER = 2_000
"""Archives inside one file."""
MAX_INNER_BYTES = 1024**3
"""What all of them may unpack to, with the texts that are read, together."""
MAX_LAYER_BYTES = 4 * 1024**3
"""The same of all files of a layer: Spark with its jars in jars stays below 1 GiB."""
MAX_RATIO = 200
MAX_TEXT_BYTES = 256 * 1024
"""A MANIFEST.MF or pom.properties; what is signed lists every class in it."""
MAX_PROBLEMS = 20

SUFFIXES = (".jar", ".war", ".ear", ".par", ".jpi", ".hpi", ".sar", ".nar", ".kar")

_READ_BYTES = 1024 * 1024
_POM = re.compile(r"META-INF/maven/[^/]+/[^/]+/pom\.properties\Z")
_MANIFEST = "META-INF/MANIFEST.MF"
_COORDINATE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}\Z")
_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~-]{0,254}\Z")
_PROPERTY = re.compile(r"\s*+([A-Za-z]++)\s*+[=:]")
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)
"""What zipfile raises; NotImplementedError: a compression of which it knows nothing; RuntimeError: encrypted."""


def too_large(name: str, size: int) -> JavaArchive:
    """Of an archive beyond the limit."""
    problem = f"the file has {size} bytes, at most {MAX_ARCHIVE_BYTES} are read"
    return JavaArchive(name=name, artifacts=(JavaArtifact(name=name),), problems=(problem,))


@dataclass
class Unpacked:
    """What several files were unpacked to, so that together they cost no more than one may."""

    left: int = field(default_factory=lambda: MAX_LAYER_BYTES)


def read_java(pieces: Iterable[bytes | memoryview], name: str, unpacked: Unpacked | None = None) -> JavaArchive:
    """A Java archive as it passes; all of it is taken. unpacked: of the files before it. Raises OSError: no room for a
    copy of a large one."""
    with tempfile.SpooledTemporaryFile(MAX_MEMORY_BYTES) as file:
        for piece in pieces:
            file.write(piece)
        return read_java_file(file, name, unpacked)


def read_java_file(file: IO[bytes], name: str, unpacked: Unpacked | None = None) -> JavaArchive:
    """A Java archive that can be read at any place."""
    work = _Work(unpacked or Unpacked())
    work.read(file, name, "", 0)
    if len(work.problems) > MAX_PROBLEMS:
        work.problems[MAX_PROBLEMS:] = [f"and {len(work.problems) - MAX_PROBLEMS} more"]
    return JavaArchive(name=name, artifacts=tuple(work.artifacts), problems=tuple(work.problems))


class _Said(NamedTuple):
    """What pom.properties say."""

    group: str
    name: str
    version: str


@dataclass
class _Work:
    unpacked: Unpacked
    artifacts: list[JavaArtifact] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    inner: int = 0
    inner_bytes: int = 0
    members: int = 0

    def read(self, file: IO[bytes], name: str, path: str, depth: int) -> None:
        try:
            check_directory(file)
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                self.members += len(members)
                if self.members > MAX_MEMBERS:
                    raise ValueError(f"more than {MAX_MEMBERS} members, the archives inside included")
                self._describe(archive, members, name, path)
                for member in members:
                    if member.filename.lower().endswith(SUFFIXES):
                        self._enter(archive, member, path, depth + 1)
        except _DAMAGE as error:
            self._problem(path, f"the archive cannot be read: {error}")
            if not path:
                self.artifacts.append(JavaArtifact(name=name))

    def _problem(self, path: str, reason: str) -> None:
        text = f"{path}: {reason}" if path else reason
        self.problems.append(text.encode("utf-8", "backslashreplace").decode()[:300])

    def _describe(self, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], name: str, path: str) -> None:
        """The archive itself, and other projects that were packed into it."""
        headers: dict[str, str] = {}
        said: dict[_Said, None] = {}
        for member in members:
            if member.filename == _MANIFEST:
                headers = _headers(self._text(archive, member, path))
            elif _POM.match(member.filename):
                stated = _properties(self._text(archive, member, path))
                if stated is None:
                    self._problem(path, f"{member.filename} has no usable groupId, artifactId and version")
                else:
                    said[stated] = None
        stem = name.rpartition(".")[0]
        main = next((each for each in said if stem in (each.name, f"{each.name}-{each.version}")), None)
        main = main or next((each for each in said if stem.startswith(f"{each.name}-{each.version}")), None)
        if main is None and len(said) == 1:
            main = next(iter(said))
        licenses = _licenses(headers)
        if main is None:
            self.artifacts.append(_by_manifest(headers, name, path, licenses))
        for each in said:
            own = each is main
            self.artifacts.append(
                JavaArtifact(
                    group=each.group,
                    name=each.name,
                    version=each.version,
                    path=path,
                    main=own,
                    licenses=licenses if own else (),
                )
            )

    def _text(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: str) -> str:
        with archive.open(member) as stream:
            raw = stream.read(MAX_TEXT_BYTES)
        self._count(len(raw))
        return raw.decode("utf-8", "replace")

    def _enter(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: str, depth: int) -> None:
        """An archive inside the archive."""
        shown = member.filename.encode("utf-8", "backslashreplace").decode()[:500]
        inside = f"{path}!/{shown}" if path else shown
        self.inner += 1
        reason = ""
        if depth > MAX_DEPTH:
            reason = f"more than {MAX_DEPTH} archives inside each other"
        elif self.inner > MAX_INNER:
            reason = f"more than {MAX_INNER} archives inside one file"
        elif self.inner_bytes + member.file_size > MAX_INNER_BYTES:
            reason = f"the archives inside unpack to more than {MAX_INNER_BYTES} bytes"
        elif member.file_size > self.unpacked.left:
            reason = f"all archives of the layer unpack to more than {MAX_LAYER_BYTES} bytes"
        elif member.file_size > max(MAX_RATIO * member.compress_size, _READ_BYTES):
            reason = "a decompression bomb"
        if reason:
            if self.inner <= MAX_INNER + 1:
                self._problem(inside, f"{reason}: it was not read")
            return
        with tempfile.SpooledTemporaryFile(MAX_MEMORY_BYTES) as file:
            try:
                self._unpack(archive, member, file)
            except _DAMAGE as error:
                self._problem(inside, f"it cannot be unpacked: {error}")
                return
            self.read(file, posixpath.basename(shown), inside, depth)

    def _unpack(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: IO[bytes]) -> None:
        with archive.open(member) as stream:
            while piece := stream.read(_READ_BYTES):
                self._count(len(piece))
                file.write(piece)

    def _count(self, size: int) -> None:
        self.inner_bytes += size
        self.unpacked.left -= size
        if self.unpacked.left < 0:
            raise ValueError(f"all archives of the layer unpack to more than {MAX_LAYER_BYTES} bytes")
        if self.inner_bytes > MAX_INNER_BYTES:
            raise ValueError(f"what is inside unpacks to more than {MAX_INNER_BYTES} bytes")


def check_directory(file: IO[bytes]) -> None:
    """Refuse a list of members that would not fit into memory, before zipfile reads it whole (APPNOTE.TXT 4.3.16 and
    4.3.14). Raises ValueError."""
    size = file.seek(0, 2)
    tail_bytes = min(size, 65_557)
    file.seek(size - tail_bytes)
    tail = file.read(tail_bytes)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise ValueError("it has no list of members")
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    locator = tail[max(0, at - 20) : at]
    if locator.startswith(b"PK\x06\x07"):
        file.seek(min(size, struct.unpack_from("<Q", locator, 8)[0]))
        record = file.read(56)
        # zipfile looks for it right before the locator, whatever this one says.
        record = record if record.startswith(b"PK\x06\x06") else tail[max(0, at - 76) : max(0, at - 20)]
        if len(record) == 56 and record.startswith(b"PK\x06\x06"):
            directory = max(struct.unpack_from("<Q", record, 40)[0], directory if directory < 0xFFFFFFFF else 0)
    if directory > MAX_DIRECTORY_BYTES:
        raise ValueError(f"its list of members has {directory} bytes, at most {MAX_DIRECTORY_BYTES} are read")
    file.seek(0)


def _headers(text: str) -> dict[str, str]:
    """The main section of a MANIFEST.MF; a line that begins with a blank goes on with the one before."""
    headers: dict[str, list[str]] = {}
    last = ""
    for line in re.split(r"\r\n|\n|\r", text):
        if not line.strip():
            if headers:
                break
        elif line.startswith(" ") and last:
            headers[last].append(line[1:])
        else:
            name, colon, value = line.partition(":")
            last = name.strip().lower() if colon else ""
            if last:
                headers[last] = [value.strip()]
    return {name: "".join(parts) for name, parts in headers.items()}


def _properties(text: str) -> _Said | None:
    values = dict(_lines(text))
    group, name, version = (values.get(key, "") for key in ("groupId", "artifactId", "version"))
    if not _COORDINATE.match(group) or not _COORDINATE.match(name) or not _VERSION.match(version):
        return None
    return _Said(group, name, version)


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Without an expression for the blanks around: looking for them backwards takes the square of their number."""
    for line in text.splitlines():
        match = _PROPERTY.match(line)
        if match:
            yield match[1], line[match.end() :].strip()


def _licenses(headers: dict[str, str]) -> tuple[str, ...]:
    """OSGi's ``Bundle-License``: names or addresses, with attributes behind a semicolon."""
    stated = (part.partition(";")[0].strip().strip('"') for part in headers.get("bundle-license", "").split(","))
    return tuple(dict.fromkeys(text[:200] for text in stated if text and text != "<<EXTERNAL>>"))


def _by_manifest(headers: dict[str, str], name: str, path: str, licenses: tuple[str, ...]) -> JavaArtifact:
    """An archive that Maven did not make, or that does not say which of several projects it is: its manifest may have a
    name and a version, which is not what advisories call it."""
    versions = (headers.get(key, "") for key in ("bundle-version", "implementation-version"))
    version = next((text for text in versions if _VERSION.match(text)), "")
    if not version:
        return JavaArtifact(name=name, path=path, licenses=licenses)
    called = headers.get("bundle-symbolicname", "").partition(";")[0].strip() or headers.get(
        "automatic-module-name", ""
    )
    stem = name.rpartition(".")[0].removesuffix(f"-{version}")
    return JavaArtifact(
        name=called if _COORDINATE.match(called) else stem or name, version=version, path=path, licenses=licenses
    )
