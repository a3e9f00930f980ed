"""One layer's tar into facts: which files tell something about packages, and what they say.

Only wanted content is read, each file up to its own bound; everything else is passed over. A wanted file that is too
large or malformed becomes Unreadable, so it shows up in the report instead of vanishing.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from registry_pipelines.oci.layer.walk import Entry, LayerWalk
from registry_pipelines.scan import language_packages as language
from registry_pipelines.scan import os_databases, software_lists
from registry_pipelines.scan.facts import (
    AnyFact,
    HardLink,
    Interpreter,
    LayerContent,
    Native,
    Plain,
    RpmDatabase,
    SoftwareList,
    StandardLibrary,
    Unreadable,
)
from registry_pipelines.scan.os_databases import SBOM_FOLDER, SBOM_SUFFIXES
from registry_pipelines.scan.version_texts import version_text

MIB = 1024 * 1024
MAX_DATABASE_BYTES = 64 * MIB
"""dpkg status or apk installed; 100,000 packages would fit."""
MAX_LIST_BYTES = 32 * MIB
"""One package's file list; linux headers have 3 MiB."""
MAX_RECORD_BYTES = 32 * MIB
"""One wheel's RECORD; torch has 2 MiB."""
MAX_EGG_BYTES = 32 * MIB
"""A zipped egg is held in memory to read its directory at the end."""
MAX_FACTS = 300_000
"""Facts of one layer and what its SBOMs name, about 140 MB of memory; CUDA and PyTorch together have 15,000."""

ELF_MAGIC = b"\x7fELF"
_READ_BYTES = MIB

_RPM_DATABASES = frozenset(
    f"{folder}/{name}"
    for folder in ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
    for name in ("rpmdb.sqlite", "Packages.db", "Packages")
)
_OS_RELEASES = ("etc/os-release", "usr/lib/os-release")
_APK_DATABASES = ("lib/apk/db/installed", "usr/lib/apk/db/installed", "var/lib/apk/db/installed")
_NPM = re.compile(r"(?:^|/)node_modules/(?:@[^/]+/)?[^/@.][^/]*/package\.json\Z")
_STANDARD_LIBRARY = re.compile(r"(?:^|/)lib(?:64)?/python(3\.\d+)t?/os\.py\Z")
_PYTHON_PROGRAM = re.compile(r"(?:^|/)bin/python(\d(?:\.\d+)?)?[a-z]*\Z")
_PYTHON_LIBRARY = re.compile(r"(?:^|/)libpython(\d\.\d+)[a-z]*\.so[^/]*\Z")
_LIBRARY = re.compile(r"\.so(?:\.[0-9][^/]*)?\Z")
_PYTHON_VERSION = re.compile(rb"3\.\d{1,2}\.\d{1,3}(?:(?:a|b|rc)\d{1,2})?\+?\0")
"""Begins with what is looked for: with what may stand before it in the pattern, it takes forty times as long."""

Reader = Callable[[Entry], AnyFact]


def read_layer(walk: LayerWalk) -> LayerContent:
    """Walk a layer to its end and verify its digests. Raises LayerInvalid, DigestMismatch."""
    facts: dict[str, AnyFact] = {}
    links: dict[str, str] = {}
    folders: set[str] = set()
    removed: list[str] = []
    opaque: list[str] = []
    listed, cut = 0, ""
    for entry in walk:
        name = _printable(entry.name)
        if entry.base.startswith(".wh."):
            hidden = entry.opaque
            if hidden is not None:
                opaque.append(_printable(hidden))
            elif entry.removed:
                removed.append(_printable(entry.removed))
            continue
        if entry.kind == "symlink":
            links[name] = _printable(entry.link)
            facts.pop(name, None)
            folders.discard(name)
        elif entry.kind == "directory":
            folders.add(name)
            facts.pop(name, None)
            links.pop(name, None)
        elif entry.kind in ("file", "hardlink"):
            fact = _fact(entry, name)
            if fact is not None:
                facts[name] = fact
                links.pop(name, None)
                listed += len(fact.listed) if isinstance(fact, SoftwareList) else 0
        if len(facts) + listed > MAX_FACTS:
            cut = f"more than {MAX_FACTS} files of a layer matter; the rest of it, behind {name}, was not looked at"
            break
    layer = walk.finish()
    return LayerContent(
        facts=_resolve_hard_links(facts),
        links=links,
        folders=tuple(sorted(folders - {""})),
        removed=tuple(removed),
        opaque=tuple(opaque),
        escapes=tuple(_printable(name) for name in layer.link_escapes),
        cut=cut,
    )


def _printable(name: str) -> str:
    """Names that are not UTF-8 arrive with surrogate escapes, which JSON cannot hold."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _fact(entry: Entry, name: str) -> AnyFact | None:
    reader = _reader_by_name(name, posixpath.basename(name))
    if reader is None:
        if not entry.mode & 0o111 or entry.kind != "file":
            return None
        return Native(name=posixpath.basename(name)) if entry.head(4) == ELF_MAGIC else Plain()
    if entry.kind == "hardlink":
        return HardLink(target=_printable(entry.link))
    if entry.sparse:
        return Unreadable(reason="the file is stored sparse, which is not read")
    return reader(entry)


def _resolve_hard_links(facts: dict[str, AnyFact]) -> dict[str, AnyFact]:
    """A hard link to a file of the same layer tells what that file tells; others wait for the lower layers."""
    for name, fact in list(facts.items()):
        if isinstance(fact, HardLink):
            target = facts.get(fact.target)
            if target is not None and not isinstance(target, HardLink):
                facts[name] = target
    return facts


def _reader_by_name(name: str, base: str) -> Reader | None:
    """Who reads the file, decided by its path alone; None: nobody. Called for every file, so cheap tests come first."""
    if SBOM_FOLDER in name or base.endswith(SBOM_SUFFIXES):
        return _read_sbom
    fixed = _BY_BASE.get(base)
    if fixed is not None:
        return fixed(name)
    if name.startswith("var/lib/dpkg/"):
        return _dpkg_reader(name, base)
    if ".so" in base:
        return _native_reader(name, base)
    if base.endswith((".egg-info", ".egg", ".jar", ".war")):
        return _archive_reader(base)
    match = _PYTHON_PROGRAM.search(name) if base.startswith("python") else None
    if match:
        return _interpreter_reader(match[1] or "")
    if base.endswith(".json") and posixpath.dirname(name).endswith("conda-meta"):
        return _bounded(4 * MAX_RECORD_BYTES, lambda raw: language.read_conda(raw, name))
    return None


def _bounded(limit: int, read: Callable[[bytes], AnyFact]) -> Reader:
    def reader(entry: Entry) -> AnyFact:
        if entry.size > limit:
            return Unreadable(reason=f"the file has {entry.size} bytes, at most {limit} are read")
        return read(entry.read(limit))

    return reader


def _constant(fact: AnyFact) -> Reader:
    return lambda entry: fact


def _named_metadata(name: str) -> Reader | None:
    folder = posixpath.dirname(name)
    # Bundlers of command line tools write METADATA into an .egg-info; what is inside tells all the same.
    wheel = name.endswith("/METADATA") and folder.endswith((".dist-info", ".egg-info"))
    egg = name.endswith("/PKG-INFO") and folder.endswith((".egg-info", ".egg/EGG-INFO"))
    return _metadata_reader if wheel or egg else None


def _metadata_reader(entry: Entry) -> AnyFact:
    """Headers stand first: a huge README after them is not read, and does not matter."""
    return language.read_metadata(entry.head(language.MAX_METADATA_BYTES))


def _wheel_record(name: str) -> Reader | None:
    if not posixpath.dirname(name).endswith(".dist-info"):
        return None
    return _bounded(MAX_RECORD_BYTES, lambda raw: language.read_wheel_record(raw, name))


def _list_reader(read: Callable[[bytes], AnyFact]) -> Reader:
    def reader(entry: Entry) -> AnyFact:
        if entry.size > software_lists.MAX_LIST_BYTES:
            return software_lists.too_large(entry.size)
        return read(entry.read(software_lists.MAX_LIST_BYTES))

    return reader


_read_sbom = _list_reader(software_lists.read_sbom)
_read_vendor_list = _list_reader(software_lists.read_vendor_list)


def _vendor_list(name: str) -> Reader | None:
    """The list of what a package vendors, beside the copies."""
    return _read_vendor_list if posixpath.basename(posixpath.dirname(name)) in ("_vendor", "vendor") else None


def _npm(name: str) -> Reader | None:
    if not _NPM.search(name):
        return None
    return _bounded(language.MAX_METADATA_BYTES, lambda raw: language.read_npm(raw, name))


def _apk(name: str) -> Reader | None:
    return _bounded(MAX_DATABASE_BYTES, os_databases.read_apk) if name in _APK_DATABASES else None


def _dpkg_status(name: str) -> Reader | None:
    if name == "var/lib/dpkg/status":
        return _bounded(MAX_DATABASE_BYTES, lambda raw: os_databases.read_dpkg(raw, status_required=True))
    return _dpkg_reader(name, "status") if name.startswith("var/lib/dpkg/") else None


def _os_release(name: str) -> Reader | None:
    return _bounded(MIB, os_databases.read_os_release) if name in _OS_RELEASES else None


def _rpm(name: str) -> Reader | None:
    return _constant(RpmDatabase()) if name in _RPM_DATABASES else None


def _standard_library(name: str) -> Reader | None:
    match = _STANDARD_LIBRARY.search(name)
    return _constant(StandardLibrary(series=match[1])) if match else None


_BY_BASE: dict[str, Callable[[str], Reader | None]] = {
    "METADATA": _named_metadata,
    "PKG-INFO": _named_metadata,
    "RECORD": _wheel_record,
    "package.json": _npm,
    "installed": _apk,
    "status": _dpkg_status,
    "os-release": _os_release,
    "rpmdb.sqlite": _rpm,
    "Packages.db": _rpm,
    "Packages": _rpm,
    "os.py": _standard_library,
    "vendor.txt": _vendor_list,
    "vendored.txt": _vendor_list,
}


def _dpkg_reader(name: str, base: str) -> Reader | None:
    folder = posixpath.dirname(name)
    if folder == "var/lib/dpkg/info" and base.endswith(".list"):
        package = base.removesuffix(".list")
        return _bounded(MAX_LIST_BYTES, lambda raw: os_databases.read_dpkg_list(raw, package))
    if folder == "var/lib/dpkg/status.d":
        if base.endswith(".md5sums"):
            package = base.removesuffix(".md5sums")
            return _bounded(MAX_LIST_BYTES, lambda raw: os_databases.read_md5sums(raw, package))
        return _bounded(MAX_DATABASE_BYTES, lambda raw: os_databases.read_dpkg(raw, status_required=False))
    return None


def _archive_reader(base: str) -> Reader:
    if base.endswith(".egg-info"):
        return _metadata_reader
    if base.endswith(".egg"):
        return _bounded(MAX_EGG_BYTES, language.read_egg)
    return _constant(Native(name=base))


def _native_reader(name: str, base: str) -> Reader | None:
    match = _PYTHON_LIBRARY.search(name)
    if match:
        return _interpreter_reader(match[1])
    if not _LIBRARY.search(base):
        return None
    return lambda entry: _read_library(entry, base)


def _read_library(entry: Entry, base: str) -> AnyFact:
    start = entry.head(4)
    if start != ELF_MAGIC:
        return Plain()
    product, version = version_text(entry, base, start)
    return Native(name=base, product=product, version=version)


def _interpreter_reader(series: str) -> Reader:
    return lambda entry: _read_interpreter(entry, series)


def _read_interpreter(entry: Entry, series: str) -> AnyFact:
    """Look for the version text in the program, a mebibyte at a time."""
    tail = entry.head(4)
    if tail != ELF_MAGIC:
        return Plain()
    alone: set[str] = set()
    ending: set[str] = set()
    while chunk := entry.head(_READ_BYTES):
        window = tail + chunk
        for match in _PYTHON_VERSION.finditer(window):
            before = window[match.start() - 1 : match.start()]
            if before.strip(b"0123456789."):
                (alone if before == b"\0" else ending).add(match[0][:-1].decode())
        tail = window[-32:]
    # Linkers merge a string into the end of a longer one, so the version may only stand at the end of a path.
    version = _only(alone, series) or _only(ending, series)
    return Interpreter(series=series if "." in series else _series(version), version=version)


def _only(versions: set[str], series: str) -> str:
    """The one version that fits the name's series; empty when there is none, or more than one."""
    fitting = {text.rstrip("+") for text in versions if "." not in series or _series(text) == series}
    return fitting.pop() if len(fitting) == 1 else ""


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])
