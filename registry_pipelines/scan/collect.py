"""One layer's tar into facts: which files tell something about packages, and what they say.

Only wanted content is read, each file up to its own bound; everything else is passed over. A wanted file that is too
large or malformed becomes Unreadable, so it shows up in the report instead of vanishing.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.walk import Entry, LayerWalk
from registry_pipelines.progress import count_text
from registry_pipelines.scan import java_archives, os_databases, rpm, software_lists
from registry_pipelines.scan import language_packages as language
from registry_pipelines.scan.facts import (
    AnyFact,
    CondaPackage,
    GoProgram,
    HardLink,
    JavaArchive,
    LayerContent,
    Native,
    OsDatabase,
    OwnedFiles,
    Plain,
    RpmDatabase,
    RpmJournal,
    SoftwareList,
    StandardLibrary,
    Unreadable,
    WheelRecord,
    WheelTags,
)
from registry_pipelines.scan.go_programs import read_go
from registry_pipelines.scan.interpreters import ELF_MAGIC, read_interpreter
from registry_pipelines.scan.names import NamesWriter
from registry_pipelines.scan.os_databases import SBOM_FOLDER, SBOM_SUFFIXES
from registry_pipelines.scan.secrets import SecretFinder
from registry_pipelines.scan.version_texts import version_text
from registry_pipelines.scan.weights_found import HEAD_BYTES, MIN_WEIGHTS_BYTES, WeightsFinder

MIB = 1024 * 1024
MAX_DATABASE_BYTES = 32 * MIB
"""dpkg status or apk installed; 30,000 packages fit."""
MAX_LIST_BYTES = 32 * MIB
"""One package's file list; linux headers have 3 MiB."""
MAX_RECORD_BYTES = 32 * MIB
"""One wheel's RECORD; torch has 2 MiB."""
MAX_EGG_BYTES = 32 * MIB
"""A zipped egg is held in memory to read its directory at the end."""
MAX_COPYRIGHT_BYTES = MIB
"""Chromium's has 0.4 MiB."""
MAX_PARTS = 600_000
"""Lines and entries of one list; torch's RECORD has 40,000, an SBOM of 5,000 components 300,000."""
MAX_DATABASE_LINES = 1_000_000
"""Lines of dpkg's or apk's database; 5,000 packages have 100,000 to 300,000."""
MAX_RPM_DATABASES = 8
"""Of one layer; it may hold one in each of three folders."""
MAX_FACTS = 300_000
"""Facts of one layer and what they name, about 140 MB of memory; CUDA and PyTorch together have 15,000."""
MAX_STRUCTURE_BYTES = 64 * MIB
"""Folders, links and whiteouts of one layer; a million of them, where CUDA and PyTorch have 15,000."""

_ELF_HEAD_BYTES = 4096
"""An ELF file's own header and where its parts are loaded."""
_ITEM_BYTES = 150
"""What a folder or a link costs beside its name."""

_RPM_FOLDERS = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
_UNREAD_RPM = {
    "Packages.db": "rpm's NDB databases are not read: the packages of this system are not in the list",
    "Packages": "rpm's Berkeley databases are not read: the packages of this system are not in the list",
}
_OS_RELEASES = ("etc/os-release", "usr/lib/os-release")
_APK_DATABASES = ("lib/apk/db/installed", "usr/lib/apk/db/installed", "var/lib/apk/db/installed")
_NPM = re.compile(r"(?:^|/)node_modules/(?:@[^/]+/)?[^/@.][^/]*/package\.json\Z")
_STANDARD_LIBRARY = re.compile(r"(?:^|/)lib(?:64)?/python(3\.\d+)t?/os\.py\Z")
_PYTHON_PROGRAM = re.compile(r"(?:^|/)bin/python(\d(?:\.\d+)?)?[a-z]*\Z")
_PYTHON_LIBRARY = re.compile(r"(?:^|/)libpython(\d\.\d+)[a-z]*\.so[^/]*\Z")
_LIBRARY = re.compile(r"\.so(?:\.[0-9][^/]*)?\Z")
Reader = Callable[[Entry], AnyFact]


def read_layer(walk: LayerWalk) -> LayerContent:
    """Walk a layer to its end and verify its digests. Raises LayerInvalid, DigestMismatch."""
    facts: dict[str, AnyFact] = {}
    links: dict[str, str] = {}
    folders: set[str] = set()
    removed: list[str] = []
    opaque: list[str] = []
    files, spent = NamesWriter(), _Spent()
    more_files = more_bytes = listed = structure = 0
    cut = ""
    for entry in walk:
        name = _printable(entry.name)
        whiteout = entry.base.startswith(".wh.")
        if whiteout or entry.kind != "file":
            structure += _ITEM_BYTES + len(name) + len(entry.link)
            if structure > MAX_STRUCTURE_BYTES:
                cut = f"a layer has too many folders, links and whiteouts; the rest, behind {name}, was not looked at"
                break
        if whiteout:
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
            if not files.add(name, str(entry.size)):
                more_files, more_bytes = more_files + 1, more_bytes + entry.size
            fact = _fact(entry, name, spent)
            if fact is not None:
                facts[name] = fact
                links.pop(name, None)
                listed += _weight(fact)
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
        files=files.names(),
        more_files=more_files,
        more_bytes=more_bytes,
        secrets=tuple(spent.secrets.found),
        unsearched=spent.secrets.unsearched,
        weights=tuple(spent.weights.found),
        more_weights=spent.weights.more,
        cut=cut,
    )


@dataclass
class _Spent:
    """What a layer has cost where the bytes of a file say little about it: a tar may hold the same one a million
    times."""

    rpm_databases: int = 0
    unpacked: java_archives.Unpacked = field(default_factory=java_archives.Unpacked)
    secrets: SecretFinder = field(default_factory=SecretFinder)
    weights: WeightsFinder = field(default_factory=WeightsFinder)


def _weight(fact: AnyFact) -> int:
    """How many things it names, beside itself; of paths, which take little room, one in sixteen."""
    if isinstance(fact, (OwnedFiles, WheelRecord, CondaPackage)):
        return len(fact.paths) + sum(names.count("/") for names in fact.names.values()) // 16
    if isinstance(fact, SoftwareList):
        return len(fact.listed)
    if isinstance(fact, GoProgram):
        return len(fact.modules)
    if isinstance(fact, JavaArchive):
        return len(fact.artifacts)
    if isinstance(fact, OsDatabase):
        return len(fact.packages)
    return 0


def _printable(name: str) -> str:
    """Names that are not UTF-8 arrive with surrogate escapes, which JSON cannot hold."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _fact(entry: Entry, name: str, spent: _Spent) -> AnyFact | None:
    reader = _reader_by_name(name, posixpath.basename(name))
    if reader is None:
        return _read_unnamed(entry, name, spent) if entry.kind == "file" else None
    if entry.kind == "hardlink":
        return HardLink(target=_printable(entry.link))
    if entry.sparse:
        return Unreadable(reason="the file is stored sparse, which is not read")
    if reader is _java:
        return _java(entry, spent.unpacked)
    if reader is _read_rpm:
        spent.rpm_databases += 1
        if spent.rpm_databases > MAX_RPM_DATABASES:
            return RpmDatabase(
                reason=f"more than {MAX_RPM_DATABASES} rpm databases in one layer; this one was not read"
            )
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
    if base.endswith((".egg-info", ".egg")):
        return _metadata_reader if base.endswith("-info") else _bounded(MAX_EGG_BYTES, language.read_egg)
    if base.endswith(java_archives.SUFFIXES):
        return _java
    match = _PYTHON_PROGRAM.search(name) if base.startswith("python") else None
    if match:
        return _interpreter_reader(match[1] or "")
    if base.endswith(".json") and posixpath.dirname(name).endswith("conda-meta"):
        return _bounded(MAX_RECORD_BYTES, lambda raw: language.read_conda(raw, name))
    return None


def _bounded(
    limit: int, read: Callable[[bytes], AnyFact], *, parts: int = MAX_PARTS, marks: bytes = b"\n,{["
) -> Reader:
    """parts: how many of ``marks`` there may be at most. A file of two bytes a line costs fifty times its size."""

    def reader(entry: Entry) -> AnyFact:
        if entry.size > limit:
            return Unreadable(reason=f"the file has {entry.size} bytes, at most {limit} are read")
        raw = entry.read(limit)
        found = sum(map(raw.count, (bytes((mark,)) for mark in marks)))
        if found > parts:
            return Unreadable(
                reason=f"the file has {count_text(found, 'line or entry', 'lines or entries')}, "
                f"at most {parts} are read"
            )
        return read(raw)

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


def _wheel_tags(name: str) -> Reader | None:
    if not posixpath.dirname(name).endswith(".dist-info"):
        return None
    return lambda entry: WheelTags(tags=language.read_wheel_tags(entry.head(language.MAX_WHEEL_BYTES)))


def _list_reader(read: Callable[[bytes], AnyFact], *, lines: bool = False) -> Reader:
    """lines: it is text, and no JSON."""

    def reader(entry: Entry) -> AnyFact:
        if entry.size > software_lists.MAX_LIST_BYTES:
            return software_lists.too_large(entry.size)
        raw = entry.read(software_lists.MAX_LIST_BYTES)
        found = sum(map(raw.count, (b",", b"{", b"[", *([b"\n"] if lines else []))))
        return software_lists.too_many(found, MAX_PARTS) if found > MAX_PARTS else read(raw)

    return reader


_read_sbom = _list_reader(software_lists.read_sbom)
_read_vendor_list = _list_reader(software_lists.read_vendor_list, lines=True)


def _vendor_list(name: str) -> Reader | None:
    """The list of what a package vendors, beside the copies."""
    return _read_vendor_list if posixpath.basename(posixpath.dirname(name)) in ("_vendor", "vendor") else None


def _npm(name: str) -> Reader | None:
    if not _NPM.search(name):
        return None
    return _bounded(language.MAX_METADATA_BYTES, lambda raw: language.read_npm(raw, name))


def _apk(name: str) -> Reader | None:
    if name not in _APK_DATABASES:
        return None
    return _bounded(MAX_DATABASE_BYTES, os_databases.read_apk, parts=MAX_DATABASE_LINES, marks=b"\n")


def _dpkg_status(name: str) -> Reader | None:
    if name == "var/lib/dpkg/status":
        return _dpkg_database(status_required=True)
    return _dpkg_reader(name, "status") if name.startswith("var/lib/dpkg/") else None


def _os_release(name: str) -> Reader | None:
    return _bounded(MIB, os_databases.read_os_release) if name in _OS_RELEASES else None


def _copyright(name: str) -> Reader | None:
    if not name.startswith("usr/share/doc/") or name.count("/") != 4:
        return None
    # What is not readable here hides no package.
    return lambda entry: os_databases.read_copyright(entry.head(MAX_COPYRIGHT_BYTES))


def _rpm(name: str) -> Reader | None:
    folder, _, base = name.rpartition("/")
    if folder not in _RPM_FOLDERS:
        return None
    return _constant(RpmDatabase(reason=_UNREAD_RPM[base])) if base in _UNREAD_RPM else _read_rpm


def _rpm_journal(name: str) -> Reader | None:
    if posixpath.dirname(name) not in _RPM_FOLDERS:
        return None
    return lambda entry: RpmJournal() if entry.size else Plain()


def _read_rpm(entry: Entry) -> AnyFact:
    """SQLite reads files only: a copy of this one is in the temporary folder meanwhile."""
    if entry.size > rpm.MAX_DATABASE_BYTES:
        return Unreadable(reason=f"the file has {entry.size} bytes, at most {rpm.MAX_DATABASE_BYTES} are read")
    with local_errors(Path(tempfile.gettempdir())), tempfile.NamedTemporaryFile(prefix="rpmdb-") as copy:
        for piece in entry.pieces():
            copy.write(piece)
        copy.flush()
        return rpm.read_rpm(Path(copy.name))


def _java(entry: Entry, unpacked: java_archives.Unpacked | None = None) -> AnyFact:
    name = _printable(entry.base)
    if entry.size > java_archives.MAX_ARCHIVE_BYTES:
        return java_archives.too_large(name, entry.size)
    with local_errors(Path(tempfile.gettempdir())):
        return java_archives.read_java(entry.pieces(), name, unpacked)


def _standard_library(name: str) -> Reader | None:
    match = _STANDARD_LIBRARY.search(name)
    return _constant(StandardLibrary(series=match[1])) if match else None


_BY_BASE: dict[str, Callable[[str], Reader | None]] = {
    "METADATA": _named_metadata,
    "PKG-INFO": _named_metadata,
    "RECORD": _wheel_record,
    "WHEEL": _wheel_tags,
    "package.json": _npm,
    "installed": _apk,
    "status": _dpkg_status,
    "os-release": _os_release,
    "copyright": _copyright,
    "rpmdb.sqlite": _rpm,
    "rpmdb.sqlite-wal": _rpm_journal,
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
        return _dpkg_database(status_required=False)
    return None


def _dpkg_database(*, status_required: bool) -> Reader:
    return _bounded(
        MAX_DATABASE_BYTES,
        lambda raw: os_databases.read_dpkg(raw, status_required=status_required),
        parts=MAX_DATABASE_LINES,
        marks=b"\n",
    )


def _native_reader(name: str, base: str) -> Reader | None:
    match = _PYTHON_LIBRARY.search(name)
    if match:
        return _interpreter_reader(match[1])
    if not _LIBRARY.search(base):
        return None
    return lambda entry: _read_library(entry, base)


def _read_library(entry: Entry, base: str) -> AnyFact:
    start = entry.head(_ELF_HEAD_BYTES)
    if start[:4] != ELF_MAGIC:
        return Plain()
    product, version = version_text(entry, base, start)
    if product:
        return Native(name=base, product=product, version=version)
    return _go(entry, base, start, old=False) or Native(name=base)


def _read_unnamed(entry: Entry, name: str, spent: _Spent) -> AnyFact | None:
    """A file that no package database names: it may be a program, hold a secret, or be weights of a model."""
    secrets = spent.secrets
    wanted = 0 if entry.sparse else secrets.wanted(name, entry.size)
    program = entry.mode & 0o111
    large = entry.size >= MIN_WEIGHTS_BYTES and not entry.sparse
    if not wanted and not program and not large:
        return None
    start = entry.head(HEAD_BYTES if large else 4)
    if start[:4] == ELF_MAGIC and program:
        return _read_program(entry, posixpath.basename(name), start)
    if large and spent.weights.look(entry, name, start):
        return Plain() if program else None
    if wanted:
        secrets.search(name, start + entry.head(wanted - len(start)))
    return Plain() if program else None


def _read_program(entry: Entry, base: str, start: bytes) -> AnyFact:
    start += entry.head(_ELF_HEAD_BYTES - len(start))
    return _go(entry, base, start, old=True) or Native(name=base)


def _go(entry: Entry, base: str, start: bytes, *, old: bool) -> AnyFact | None:
    pieces = entry.pieces()
    program = read_go(pieces, start, base, old=old)
    for _ in pieces:  # all of an entry is taken once its pieces were asked for
        pass
    return program


def _interpreter_reader(series: str) -> Reader:
    return lambda entry: read_interpreter(entry, series)
