"""Which C library a base image has: wheels are chosen for it (PEP 600, PEP 656).

No layer is unpacked: they are streamed, the newest first, until one tells. What is believed, in this order: the text in
the C library's or the loader's own file, the version in its file's name, the distribution's package database, and
where a loader is there and tells nothing, ``os-release``. A file alone does not say that it is used: the loader that
the Python program names (ELF ``PT_INTERP``) decides, or the package database. What a layer says is remembered by its
digests.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from registry_pipelines.build.cache import BuildCache
from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.walk import Entry, LayerWalk, open_layer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import BlobStream
from registry_pipelines.registry.protocol import Place

FORMAT = 3
"""Part of the key under which a layer's answer is remembered; raised when reading gives another answer than before."""

MAX_LIBRARY_BYTES = 32 * 1024 * 1024
"""A C library or loader; real ones have up to 3 MB, with debug symbols 20."""

MAX_DATABASE_BYTES = 256 * 1024 * 1024
"""A package database; that of a full Debian desktop has 10 MB."""

HEAD_BYTES = 4096
"""Of a Python program; its loader's name stands right behind the program headers."""

MAX_OS_RELEASE_BYTES = 64 * 1024

MACHINES = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "386": "i686",
    "arm": "armv7l",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}
"""Architectures of images, as wheel tags and ``platform_machine`` name them."""

_ELF_MACHINES = {"amd64": 62, "arm64": 183, "386": 3, "arm": 40, "ppc64le": 21, "s390x": 22, "riscv64": 243}
"""``e_machine`` of the System V ABI."""

_MUSL_NAMES = {"386": "i386", "arm": "armhf", "ppc64le": "powerpc64le"}
"""In ``ld-musl-<name>.so.1``, where they are not those of MACHINES."""

_FOLDER = r"(?:usr/)?lib(?:|32|64|x32)/(?:[A-Za-z0-9_]+-linux-gnu[A-Za-z0-9]*/)?"
_GLIBC = re.compile(
    _FOLDER + r"(?:libc\.so\.6|ld-linux[A-Za-z0-9_-]*\.so\.[123]|ld64\.so\.[12]|(?:libc|ld)-2\.(\d{1,3})\.so)\Z"
)
_MUSL = re.compile(r"(?:usr/)?lib/(?:ld-musl-([A-Za-z0-9_]+)|libc\.musl-([A-Za-z0-9_]+))\.so\.1\Z")
_PYTHON = re.compile(r"(?:.*/)?bin/python(3\.\d+t?)\Z")
# A base may say anything: every version is at most three digits long, and so is the list of tags made of it.
_RELEASE = re.compile(rb"release version (\d{1,3})\.(\d{1,3})\b")
_SYMBOL_VERSION = re.compile(rb"GLIBC_(2)\.(\d{1,3})\0")
_MUSL_VERSION = re.compile(rb"\0(1)\.(\d{1,3})\.\d{1,3}(?:-git-[^\0]{1,80})?\0")
_STATED = re.compile(r"(glibc|musl)[- ](\d{1,3})\.(\d{1,3})(?:\.\d+)?\Z")

_DATABASES = {"var/lib/dpkg/status": "dpkg", "lib/apk/db/installed": "apk", "usr/lib/apk/db/installed": "apk"}
_DPKG = re.compile(rb"(?ms)^Package: libc6\n(.*?)(?:^\n|\Z)")
_APK = re.compile(rb"(?m)^P:(musl|glibc)\nV:(\d{1,3})\.(\d{1,3})\b")

_BY_RELEASE = {
    "debian": {"10": (2, 28), "11": (2, 31), "12": (2, 36), "13": (2, 41)},
    "ubuntu": {"18.04": (2, 27), "20.04": (2, 31), "22.04": (2, 35), "24.04": (2, 39)},
}
"""C libraries of distributions that never change theirs within a release. Alpine has musl 1.2 from 3.13 on."""


@dataclass(frozen=True)
class CLibrary:
    """A C library and what shows it."""

    kind: str
    """``glibc``, ``musl``, or ``none``: pure Python wheels only."""
    major: int
    minor: int
    source: str
    """For people: ``in lib/x86_64-linux-gnu/libc.so.6``, ``told by the build``."""

    def __str__(self) -> str:
        return self.kind if self.kind == "none" else f"{self.kind} {self.major}.{self.minor}"


def stated_c_library(text: str) -> CLibrary:
    """What a build says: ``glibc-2.31``, ``musl-1.2`` or ``none``. Raises InputError."""
    match = _STATED.match(text)
    if text == "none":
        return CLibrary("none", 0, 0, "told by the build")
    if match is None:
        raise InputError(f"libc {text!r} is not a C library", do="Write glibc-2.31, musl-1.2 or none, for example")
    return CLibrary(match[1], int(match[2]), int(match[3]), "told by the build")


@dataclass(frozen=True)
class BaseFacts:
    """What a base's layers tell. c_library: None when it cannot be told, then why. pythons: ``3.12``, ``3.13t`` of the
    programs seen on the way."""

    c_library: CLibrary | None
    why: str
    pythons: tuple[str, ...]


def read_base(
    place: Place, layers: Sequence[tuple[Descriptor, Digest]], platform: Platform, *, cache: BuildCache
) -> BaseFacts:
    """layers: of the base, lowest first, each with its diffID. Raises LayerInvalid, DigestMismatch, and the
    RegistryError family."""
    libraries: dict[str, CLibrary] = {}
    loader, pythons = "", []
    for layer, diff_id in reversed(layers):
        said = _layer_says(place, layer, diff_id, platform, cache)
        for kind, library in said["libraries"].items():
            libraries.setdefault(kind, CLibrary(**library))
        loader = loader or said["loader"]
        pythons += said["pythons"]
        sure = [loader] if loader else said["packaged"] if len(libraries) == 1 else []
        if len(sure) == 1 and sure[0] in libraries:
            return BaseFacts(libraries[sure[0]], "", tuple(pythons))
    if len(libraries) == 1 and not loader:
        return BaseFacts(next(iter(libraries.values())), "", tuple(pythons))
    if loader:
        why = f"its Python is a program for {loader}, which is not in a usual folder"
    elif libraries:
        why = " and ".join(f"{library} ({library.source})" for library in libraries.values()) + " are there"
    else:
        why = "there is none in a usual folder"
    return BaseFacts(None, why, tuple(pythons))


def _layer_says(
    place: Place, layer: Descriptor, diff_id: Digest, platform: Platform, cache: BuildCache
) -> Mapping[str, Any]:
    """``libraries``: CLibrary's fields by kind. ``packaged``: kinds that a package database names. ``loader``: the kind
    that a Python program names, or empty. ``pythons``: versions of such programs."""
    # By both: the diffID is the image's own word until the layer was read.
    key = f"base {FORMAT} {platform.architecture} {layer.digest} {diff_id}"
    known = cache.fact(key)
    if isinstance(known, dict):
        return known
    where = f"{place}@{layer.digest}"
    with BlobStream(place, layer) as reader:
        walk = open_layer(reader, layer.media_type, where=where, expected=layer, diff_id=diff_id)
        reading = _Reading(platform)
        reading.read(walk)
        walk.finish()
    said = {
        "libraries": {one.kind: asdict(one) for one in reading.libraries()},
        "packaged": reading.packaged,
        "loader": reading.loader,
        "pythons": reading.pythons,
    }
    cache.remember_fact(key, said)
    return said


class _Reading:
    """What one layer shows."""

    def __init__(self, platform: Platform) -> None:
        self._architecture = platform.architecture
        self._files: dict[str, CLibrary] = {}
        self._packages: dict[str, CLibrary] = {}
        self._silent: dict[str, str] = {}
        self._release: tuple[str, str] = ("", "")
        self.loader = ""
        self.pythons: list[str] = []

    @property
    def packaged(self) -> list[str]:
        """Kinds that the distribution's packages are."""
        return sorted(self._packages)

    def read(self, walk: LayerWalk) -> None:
        for entry in walk:
            if entry.kind != "file":
                continue
            if entry.name in _DATABASES:
                self._database(entry)
            elif entry.name in ("etc/os-release", "usr/lib/os-release"):
                self._release = _read_release(entry.read(MAX_OS_RELEASE_BYTES))
            elif match := _PYTHON.match(entry.name):
                self.pythons.append(match[1])
                self.loader = self.loader or _loader_of(entry.head(HEAD_BYTES))
            elif match := _GLIBC.match(entry.name):
                self._glibc(entry, match[1])
            elif match := _MUSL.match(entry.name):
                self._musl(entry, match[1] or match[2])

    def libraries(self) -> Iterator[CLibrary]:
        """At most one of each kind."""
        for kind in ("glibc", "musl"):
            one = self._files.get(kind) or self._packages.get(kind) or self._by_release(kind)
            if one:
                yield one

    def _glibc(self, entry: Entry, minor: str | None) -> None:
        raw = entry.read(MAX_LIBRARY_BYTES)
        if _machine_of(raw) != _ELF_MACHINES.get(self._architecture):
            return
        versions = [(int(a), int(b)) for a, b in _RELEASE.findall(raw)[:1] or _SYMBOL_VERSION.findall(raw)]
        if minor and not versions:
            versions = [(2, int(minor))]
        if not versions:
            self._silent["glibc"] = entry.name
            return
        self._files["glibc"] = CLibrary("glibc", *max(versions), f"in {entry.name}")

    def _musl(self, entry: Entry, name: str) -> None:
        if name != _MUSL_NAMES.get(self._architecture, MACHINES.get(self._architecture)):
            return
        versions = {(int(a), int(b)) for a, b in _MUSL_VERSION.findall(entry.read(MAX_LIBRARY_BYTES))}
        if len(versions) == 1:
            self._files["musl"] = CLibrary("musl", *versions.pop(), f"in {entry.name}")
        else:
            self._silent["musl"] = entry.name

    def _database(self, entry: Entry) -> None:
        raw, source = entry.read(MAX_DATABASE_BYTES), f"in {entry.name}"
        if _DATABASES[entry.name] == "apk":
            for kind, major, minor in _APK.findall(raw):
                self._packages[kind.decode()] = CLibrary(kind.decode(), int(major), int(minor), source)
            return
        for stanza in _DPKG.findall(raw):
            version = re.search(rb"(?m)^Version: (?:\d+:)?(\d{1,3})\.(\d{1,3})\b", stanza)
            architecture = re.search(rb"(?m)^Architecture: (\S+)", stanza)
            installed = re.search(rb"(?m)^Status: \S+ \S+ installed$", stanza)
            ours = architecture and architecture[1].decode() in _debian_names(self._architecture)
            if version and installed and ours:
                self._packages["glibc"] = CLibrary("glibc", int(version[1]), int(version[2]), source)

    def _by_release(self, kind: str) -> CLibrary | None:
        """By the distribution's release, where a C library's file is there and does not tell."""
        name, version = self._release
        if kind not in self._silent:
            return None
        source = f"{self._silent[kind]} in {name} {version}"
        if kind == "musl" and name == "alpine":
            parts = [int(part) for part in re.findall(r"\d+", version)[:2]]
            return CLibrary("musl", 1, 2 if parts >= [3, 13] else 1, source)
        known = _BY_RELEASE.get(name, {}).get(version)
        return CLibrary("glibc", *known, source) if known and kind == "glibc" else None


def _debian_names(architecture: str) -> tuple[str, ...]:
    return {"386": ("i386",), "arm": ("armhf", "armel"), "ppc64le": ("ppc64el",)}.get(architecture, (architecture,))


def _machine_of(raw: bytes) -> int | None:
    """``e_machine``; None for what is not ELF."""
    if raw[:4] != b"\x7fELF" or len(raw) < 20:
        return None
    return int(struct.unpack_from("<H" if raw[5] == 1 else ">H", raw, 18)[0])


def _loader_of(head: bytes) -> str:
    """The kind of C library whose loader a program names; empty when it is no ELF program."""
    if head[:4] != b"\x7fELF":
        return ""
    return "musl" if b"/ld-musl-" in head else "glibc" if re.search(rb"/ld(?:-linux|64\.so)", head) else ""


def _read_release(raw: bytes) -> tuple[str, str]:
    values = dict(re.findall(r"(?m)^(ID|VERSION_ID)=[\"']?([^\"'\n]*)", raw.decode(errors="replace")))
    return values.get("ID", ""), values.get("VERSION_ID", "")
