"""Packages of Python, conda and npm, read from bytes; bad content gives Unreadable with a reason, never an exception.

Sources: PyPA "Core metadata specifications" and "Recording installed projects", conda's ``conda-meta`` records, npm's
``package.json``.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterable

import msgspec

from registry_pipelines.oci.decoding import ready
from registry_pipelines.scan.facts import (
    AnyFact,
    CondaPackage,
    NpmPackage,
    PythonDistribution,
    Unreadable,
    WheelRecord,
)
from registry_pipelines.scan.java_archives import check_directory
from registry_pipelines.scan.names import names_of
from registry_pipelines.scan.os_databases import MAX_LICENSE_CHARACTERS, clean_path, may_matter

MAX_METADATA_BYTES = 4 * 1024 * 1024
"""A METADATA with its README; the largest known are below 1 MiB."""
MAX_WHEEL_BYTES = 64 * 1024
MAX_TAGS = 100
"""Of one WHEEL file."""

_TAG = re.compile(r"[A-Za-z0-9_.]{1,200}-[A-Za-z0-9_.]{1,200}-[A-Za-z0-9_.]{1,200}\Z")
_PYTHON_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,212}[A-Za-z0-9])?\Z")
_VERSION = re.compile(r"[^\s\x00-\x1f]{1,256}\Z")
_FIELD = re.compile(r"(name|version|license|license-expression)[ \t]*:(.*)", re.IGNORECASE)
_CLASSIFIER = re.compile(r"classifier[ \t]*:[ \t]*License ::(?:[ \t]*OSI Approved[ \t]*::)?[ \t]*(\S.*)", re.IGNORECASE)


def read_metadata(raw: bytes) -> AnyFact:
    """METADATA or PKG-INFO: headers up to the blank line; the name inside wins over the folder's name."""
    headers: dict[str, str] = {}
    classified: list[str] = []
    for line in raw.decode("utf-8", "replace").split("\n"):
        if not line.strip():
            break
        match = _FIELD.match(line)
        if match:
            headers.setdefault(match[1].lower(), match[2].strip())
        elif classifier := _CLASSIFIER.match(line):
            classified.append(classifier[1].strip())
    name, version = headers.get("name", ""), headers.get("version", "")
    if not _PYTHON_NAME.match(name):
        return Unreadable(reason=f"the metadata has no usable Name ({name[:60]!r})")
    if not _VERSION.match(version):
        return Unreadable(reason=f"the metadata of {name} has no usable Version ({version[:60]!r})")
    return PythonDistribution(name=name, version=version, licenses=_python_licenses(headers, classified))


def read_wheel_tags(raw: bytes) -> tuple[str, ...]:
    """The tags in a WHEEL file (PyPA, "Binary distribution format"); some wheels have a dozen."""
    lines = raw.decode("utf-8", "replace").split("\n")
    texts = [line[4:].strip() for line in lines if line[:4].lower() == "tag:"]
    return tuple(text for text in texts[:MAX_TAGS] if _TAG.match(text))


def _python_licenses(headers: dict[str, str], classified: list[str]) -> tuple[str, ...]:
    """The expression (PEP 639), else the classifiers, else the free text, of which many hold a whole licence: only a
    first line that may be a name counts."""
    expression, text = headers.get("license-expression", ""), headers.get("license", "")
    stated = [expression] if expression else classified or ([text] if text.upper() != "UNKNOWN" else [])
    return _named_licenses(stated)


def _named_licenses(stated: Iterable[object]) -> tuple[str, ...]:
    texts = (_printable(text).strip() for text in stated if isinstance(text, str))
    return tuple(dict.fromkeys(text for text in texts if 0 < len(text) <= MAX_LICENSE_CHARACTERS))


def read_wheel_record(raw: bytes, path: str) -> AnyFact:
    """RECORD at ``path``: CSV of paths relative to the folder that holds the dist-info folder."""
    root = posixpath.dirname(posixpath.dirname(path))
    try:
        rows = csv.reader(io.StringIO(raw.decode("utf-8", "backslashreplace"), newline=""))
        names = [row[0] for row in rows if row]
    except csv.Error as error:
        return Unreadable(reason=f"the RECORD is not CSV: {error}")
    paths = {clean_path(name if name.startswith("/") else f"{root}/{name}") for name in names}
    return WheelRecord(
        paths=tuple(sorted(path for path in paths if path and may_matter(path))), names=names_of(sorted(paths))
    )


def read_egg(raw: bytes) -> AnyFact:
    """A zipped ``.egg``: its EGG-INFO/PKG-INFO, bounded."""
    try:
        check_directory(io.BytesIO(raw))
        with zipfile.ZipFile(io.BytesIO(raw)) as archive, archive.open("EGG-INFO/PKG-INFO") as member:
            return read_metadata(member.read(MAX_METADATA_BYTES))
    except KeyError:
        return Unreadable(reason="the egg has no EGG-INFO/PKG-INFO")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        # NotImplementedError: unknown compression; RuntimeError: encrypted member; OSError, ValueError: bad offsets.
        return Unreadable(reason=f"the egg cannot be read: {error}")


class _CondaDocument(msgspec.Struct):
    name: str
    version: str
    build: str = ""
    channel: str = ""
    files: list[str] = []
    license: str | None = None


def read_conda(raw: bytes, path: str) -> AnyFact:
    """``conda-meta/<name>-<version>-<build>.json`` at ``path``; ``files`` are relative to the environment."""
    root = posixpath.dirname(posixpath.dirname(path))
    try:
        document = msgspec.json.decode(raw, type=ready(_CondaDocument))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return Unreadable(reason=f"the conda record cannot be read: {error}")
    if not _PYTHON_NAME.match(document.name.strip("_")) or not _VERSION.match(document.version):
        return Unreadable(reason="the conda record has no usable name and version")
    found = (clean_path(f"{root}/{_printable(name)}") for name in document.files)
    paths = [file for file in found if file and file.startswith(root and f"{root}/")]
    return CondaPackage(
        name=document.name,
        version=document.version,
        build=_printable(document.build),
        channel=_printable(document.channel),
        paths=tuple(file for file in paths if may_matter(file)),
        names=names_of(paths),
        licenses=_named_licenses([document.license]),
    )


class _NpmDocument(msgspec.Struct):
    name: str | None = None
    version: str | None = None
    license: object = None
    licenses: object = None


_NPM_NAME = re.compile(r"(?:@[A-Za-z0-9._~-]{1,100}/)?[A-Za-z0-9._~-]{1,214}\Z")


def read_npm(raw: bytes, path: str) -> AnyFact:
    """A package.json at ``path``, directly below ``node_modules/[@scope/]<name>/``.

    A package that is never published needs neither name nor version (npm, "package.json"): Node finds it by its folder,
    so that is its name; without a version advisories about that name cannot be compared.
    """
    try:
        document = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"), type=ready(_NpmDocument))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return Unreadable(reason=f"the package.json cannot be read: {error}")
    name = document.name or posixpath.dirname(path).rpartition("node_modules/")[2]
    version = document.version or ""
    if not _NPM_NAME.match(name) or (version and not _VERSION.match(version)):
        return Unreadable(reason="the package.json has no usable name and version")
    return NpmPackage(name=name, version=version, licenses=_npm_licenses(document))


def _npm_licenses(document: _NpmDocument) -> tuple[str, ...]:
    """An SPDX expression; in old packages an object with its ``type``, or a list of such."""
    license = document.license or document.licenses
    entries = license if isinstance(license, list) else [license]
    return _named_licenses(entry.get("type") if isinstance(entry, dict) else entry for entry in entries)


def _printable(text: str) -> str:
    """JSON may escape lone surrogates, which cannot be written again."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
