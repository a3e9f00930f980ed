"""What one layer adds and removes, as far as packages are concerned: plain data, cached per diffID."""

from __future__ import annotations

import msgspec


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """What is known about the file at one path."""


class OsPackage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One installed package of the operating system."""

    name: str
    version: str
    architecture: str = ""
    source: str = ""
    """Source package or origin, when it is not ``name``."""
    source_version: str = ""
    """Version of the source, when it is not ``version``."""
    maintainer: str = ""


class OsDatabase(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A dpkg status file (or one file of ``status.d``), or apk's ``installed``."""

    manager: str
    """``deb`` or ``apk``."""
    packages: tuple[OsPackage, ...]
    broken: tuple[str, ...] = ()
    """Why single records could not be read."""
    owned: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Package and its files, where the database itself lists them (apk)."""


class OwnedFiles(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A list of files that one dpkg package owns; only those that may matter."""

    package: str
    paths: tuple[str, ...]


class OsRelease(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """``os-release``: which distribution this is."""

    id: str
    version: str


class PythonDistribution(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A METADATA or PKG-INFO file."""

    name: str
    version: str


class WheelRecord(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A RECORD: paths in the image that a wheel owns; only those that may matter."""

    paths: tuple[str, ...]


class CondaPackage(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """One ``conda-meta`` file."""

    name: str
    version: str
    build: str = ""
    channel: str = ""
    paths: tuple[str, ...] = ()


class NpmPackage(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A package.json in ``node_modules``."""

    name: str
    version: str


class Interpreter(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A CPython program or its shared library."""

    series: str
    """``3.11``, as far as its name says."""
    version: str = ""
    """``3.11.9``; empty when the file does not hold it (a small launcher)."""


class StandardLibrary(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """The folder of a CPython standard library (its ``os.py``)."""

    series: str


class Native(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """Code that belongs to somebody: a shared library, an ELF program, a Java archive."""

    name: str
    """The library's file name, which is its soname or starts with it."""
    product: str = ""
    """Whose version text stands in the file (``openssl``); empty: none that is known."""
    version: str = ""
    """The version in that text."""


class Listed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a list of software names."""

    purl: str
    """Canonical, without subpath; ``pkg:generic/...`` where the list gives a name only."""
    name: str
    version: str = ""
    described: bool = False
    """The list is about this, or about a part of it."""
    path_hash: str = ""
    """auditwheel's mark: sha256 of the path, on the machine that built the wheel, of the library that it copied."""


class SoftwareList(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """An SBOM that a package carries, or a list of what it vendors."""

    digest: str
    """sha256 of the file, hex; empty when it was not read."""
    is_sbom: bool = True
    """Whether it is an SBOM, not a vendor list."""
    listed: tuple[Listed, ...] = ()
    excluded: int = 0
    """How many things the list names as not being there at run time."""
    problems: tuple[str, ...] = ()
    """Why it, or some of it, could not be read."""


class RpmDatabase(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """An rpm database; seen, not read."""


class HardLink(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """The content is that of another path, in this layer or below."""

    target: str


class Unreadable(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A file that should tell something, and does not."""

    reason: str


class Plain(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A file that tells nothing, at a path where another layer may have had one that did."""


AnyFact = (
    OsDatabase
    | OwnedFiles
    | OsRelease
    | PythonDistribution
    | WheelRecord
    | CondaPackage
    | NpmPackage
    | Interpreter
    | StandardLibrary
    | Native
    | SoftwareList
    | RpmDatabase
    | HardLink
    | Unreadable
    | Plain
)


class LayerContent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One layer."""

    facts: dict[str, AnyFact]
    links: dict[str, str]
    """Symbolic links: path and target as written."""
    folders: tuple[str, ...] = ()
    """Directories: one replaces a link or file of a lower layer at the same path."""
    removed: tuple[str, ...] = ()
    """Paths that whiteouts remove from lower layers."""
    opaque: tuple[str, ...] = ()
    """Directories whose lower content is hidden."""
    escapes: tuple[str, ...] = ()
    """Symbolic links that climb above the root."""
    cut: str = ""
    """Why the rest of the layer was not looked at; empty: all of it was. No layer above can take that back."""
