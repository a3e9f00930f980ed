"""What one layer adds and removes, as far as packages are concerned: plain data, cached per diffID."""

from __future__ import annotations

import msgspec

Names = dict[str, str]
"""Many paths in little memory: folder to the base names in it, with ``/`` between them, which no name holds. The root
is the empty folder."""


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
    epoch: int = 0
    """rpm's, which is no part of its ``version``."""
    licenses: tuple[str, ...] = ()
    """As the database states them (apk, rpm)."""


class OsDatabase(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A dpkg status file (or one file of ``status.d``), apk's ``installed``, or rpm's ``rpmdb.sqlite``."""

    manager: str
    """``deb``, ``apk`` or ``rpm``."""
    packages: tuple[OsPackage, ...]
    broken: tuple[str, ...] = ()
    """Why single records could not be read."""
    owned: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Package and its files that may matter, where the database itself lists them (apk, rpm)."""
    names: Names = {}
    """All files of all packages, where the database itself lists them."""


class OwnedFiles(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A list of files that one dpkg package owns."""

    package: str
    paths: tuple[str, ...]
    """Those that may matter."""
    names: Names = {}
    """All of them."""


class Copyright(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """The ``copyright`` of a Debian package."""

    licenses: tuple[str, ...]


class OsRelease(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """``os-release``: which distribution this is."""

    id: str
    version: str


class PythonDistribution(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A METADATA or PKG-INFO file."""

    name: str
    version: str
    licenses: tuple[str, ...] = ()


class WheelRecord(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A RECORD: paths in the image that a wheel owns."""

    paths: tuple[str, ...]
    """Those that may matter."""
    names: Names = {}
    """All of them."""


class WheelTags(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """The WHEEL file of an installed distribution."""

    tags: tuple[str, ...]
    """``cp312-cp312-manylinux_2_28_x86_64``; several of one wheel."""


class CondaPackage(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """One ``conda-meta`` file."""

    name: str
    version: str
    build: str = ""
    channel: str = ""
    paths: tuple[str, ...] = ()
    names: Names = {}
    licenses: tuple[str, ...] = ()


class NpmPackage(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A package.json in ``node_modules``."""

    name: str
    version: str
    licenses: tuple[str, ...] = ()


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
    licenses: tuple[str, ...] = ()


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


class GoModule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One module of a Go program."""

    path: str
    version: str = ""
    """Empty: built from a folder (``(devel)``), so that nobody says which."""


class GoProgram(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """What the Go linker wrote into a program or library about its making."""

    name: str
    """The file name."""
    go: str = ""
    """The version of Go, as a semantic version without ``v``; empty: a version between releases."""
    main: GoModule | None = None
    modules: tuple[GoModule, ...] = ()
    """Everything else in it, as replaced."""
    problem: str = ""
    """Why some of it could not be read."""


class JavaArtifact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing in a Java archive."""

    group: str = ""
    """Maven's; empty: the archive does not tell, so that advisories do not know it."""
    name: str
    version: str = ""
    path: str = ""
    """Of the archive inside the file, ``!/`` between archives; empty: the file itself."""
    main: bool = True
    """Whether it is what its archive is, and not a part of another project that was packed into it."""
    licenses: tuple[str, ...] = ()


class JavaArchive(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A jar, war or ear, and the archives inside it."""

    name: str
    """The file name."""
    artifacts: tuple[JavaArtifact, ...] = ()
    problems: tuple[str, ...] = ()
    """Why some of it could not be read."""


class RpmDatabase(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """An rpm database that is seen and not read."""

    reason: str = "this form of rpm database is not read"


class RpmJournal(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A write-ahead log beside ``rpmdb.sqlite`` that holds what is not in the database itself."""


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
    | WheelTags
    | Copyright
    | CondaPackage
    | NpmPackage
    | GoProgram
    | JavaArchive
    | Interpreter
    | StandardLibrary
    | Native
    | SoftwareList
    | RpmDatabase
    | RpmJournal
    | HardLink
    | Unreadable
    | Plain
)


class FoundSecret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A private key, token or password in a file. The value itself is kept nowhere."""

    path: str
    kind: str
    """``private-key``, ``github-token``, ``netrc`` and so on."""
    hash: str
    """Six hexadecimal digits of its sha256."""
    line: int = 0


class FoundWeights(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file with weights of a model."""

    path: str
    format: str
    """``safetensors``, ``gguf``, ``pytorch``, ``pickle`` and so on; ``unknown``: its name alone says what it is."""
    size: int
    position: int
    """Where its content begins in the layer's tar."""
    pickle: bool = False
    """Whoever loads it may run what it holds."""
    by_name: bool = False
    """Its content alone does not say that it is weights."""
    tensors: int = 0
    """Of safetensors and GGUF; 0: not known."""
    dtypes: dict[str, int] = {}
    """How many of them are of which type, as the format calls it."""


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
    files: Names = {}
    """All regular files: behind each name, as a name of its own, its size in bytes."""
    more_files: int = 0
    """Files that were only counted: too many for a list."""
    more_bytes: int = 0
    secrets: tuple[FoundSecret, ...] = ()
    """What was found in files that were looked into."""
    unsearched: int = 0
    """Files that may hold a secret, and were not looked into: the layer has too many."""
    weights: tuple[FoundWeights, ...] = ()
    """Files of 1 MiB and more with weights of models."""
    more_weights: int = 0
    """Such files that were only counted."""
    cut: str = ""
    """Why the rest of the layer was not looked at; empty: all of it was. No layer above can take that back."""
