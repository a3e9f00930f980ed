"""What wheels bring along: libraries that were copied in, what their SBOMs and vendor lists name, packages inside them.

A wheel counts as the owner of what its RECORD lists (PyPA, "Recording installed projects") and of the SBOMs in its
``.dist-info`` (PEP 770).
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from packageurl import PackageURL
from packaging.utils import canonicalize_name

from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text
from registry_pipelines.scan.facts import Listed, Native, PythonDistribution, SoftwareList, WheelRecord
from registry_pipelines.scan.merge import Tree
from registry_pipelines.scan.os_databases import SBOM_FOLDER
from registry_pipelines.scan.purls import named
from registry_pipelines.scan.report import CarriedSbom, Component, LeftOut
from registry_pipelines.scan.version_texts import plain_name

_MODULE = re.compile(r"\.(?:cpython-|abi3t?\.|pypy\d|graalpy\d)")
"""Python extension modules say which interpreter they are for (PEP 3149)."""
_TEST_FOLDERS = frozenset({"test", "tests"})
_IMPORTED_FOLDERS = frozenset({"site-packages", "dist-packages", "_vendor", "vendor", "_vendored", "third_party"})
"""What lies directly in one of these is there to be imported, wherever the folder stands."""
_TRIPLES = ("x86_64", "aarch64", "i386", "arm", "powerpc64le", "s390x", "riscv64")
_LIBRARY_FOLDERS = (
    *("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib", "/usr/local/lib64"),
    *(f"{folder}/{triple}-linux-gnu" for triple in _TRIPLES for folder in ("/lib", "/usr/lib")),
)
"""Where a distribution's libraries lie on the machines that build wheels."""


@dataclass
class Wheel:
    """An installed wheel."""

    name: str
    """As PEP 503 writes it."""
    version: str
    root: str
    """The folder that holds its ``.dist-info`` (a ``site-packages``), with links followed."""
    lists: dict[str, SoftwareList] = field(default_factory=dict)
    """By path."""

    @property
    def purl(self) -> str:
        """``pkg:pypi/name@version``."""
        return PackageURL("pypi", None, self.name, self.version).to_string()

    def listed(self) -> Iterator[tuple[str, Listed]]:
        """Path of the list and what it names, the wheel itself left out."""
        for path, software_list in self.lists.items():
            yield from ((path, software) for software in software_list.listed if not self._is_itself(software))

    def _is_itself(self, software: Listed) -> bool:
        same = canonicalize_name(software.name) == self.name and software.version in ("", self.version)
        return same and (software.described or software.purl.startswith("pkg:pypi/"))

    def sboms(self) -> tuple[CarriedSbom, ...]:
        """The SBOMs it carries, by path."""
        return tuple(
            CarriedSbom(path=path, digest=Digest(f"sha256:{software_list.digest}"))
            for path, software_list in self.lists.items()
            if software_list.is_sbom and software_list.digest
        )


@dataclass
class Wheels:
    """All wheels of an image."""

    by_info: dict[str, Wheel] = field(default_factory=dict)
    """By the path of the ``.dist-info`` folder."""
    owners: dict[str, Wheel] = field(default_factory=dict)
    """By path, with links in its folders followed."""
    stray: list[str] = field(default_factory=list)
    """SBOMs in a ``.dist-info`` folder without METADATA."""

    def around(self, tree: Tree, path: str, place: str) -> Wheel | None:
        """The wheel that brings along the package at ``place``, whose metadata is at ``path``: it lists that file, and
        lies in a folder above."""
        owner = self.owners.get(tree.real(path))
        if owner is None:
            return None
        root = tree.real_folder(posixpath.dirname(place))
        return owner if root != owner.root and _is_below(root, owner.root) else None


def find_wheels(tree: Tree) -> Wheels:
    """The wheels of an image with the lists they carry. A fixture of another wheel is none: what lies in it is that
    other wheel's. What two list is the one's that lies deeper."""
    wheels = Wheels()
    for info, wheel in sorted(_installed(tree), key=lambda pair: (pair[1].root.count("/"), pair[0])):
        around = wheels.around(tree, f"{info}/METADATA", info)
        if around is not None and fixture(around, tree.real(info), wheel.name, wheel.version):
            continue
        wheels.by_info[info] = wheel
        record = tree.facts.get(f"{info}/RECORD")
        if isinstance(record, WheelRecord):
            own = tree.real(f"{info}/METADATA")
            wheels.owners.update((path, wheel) for path in map(tree.real, record.paths) if path != own)
            # Who brings the wheel along lists its METADATA, too, and was here before.
            wheels.owners.setdefault(own, wheel)
    for path, fact in sorted(tree.facts.items()):
        if isinstance(fact, SoftwareList):
            _add_list(wheels, tree, path, fact)
    return wheels


def _installed(tree: Tree) -> Iterator[tuple[str, Wheel]]:
    for path, fact in tree.facts.items():
        if isinstance(fact, PythonDistribution) and path.endswith(".dist-info/METADATA"):
            info = posixpath.dirname(path)
            root = tree.real_folder(posixpath.dirname(info))
            yield info, Wheel(str(canonicalize_name(fact.name)), fact.version, root)


def _add_list(wheels: Wheels, tree: Tree, path: str, fact: SoftwareList) -> None:
    info, folder, _ = path.rpartition(SBOM_FOLDER)
    owner = wheels.by_info.get(f"{info}.dist-info") if folder else wheels.owners.get(tree.real(path))
    if owner is not None:
        owner.lists[path] = fact
    elif folder and f"{info}.dist-info/METADATA" not in tree.facts:
        wheels.stray.append(path)


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def fixture(wheel: Wheel, real: str, name: str, version: str) -> str:
    """Why the package whose metadata folder is ``real`` (links followed) does not count: it is material for the wheel's
    own tests, below a ``tests`` folder of one of its packages, and nothing is imported from where it lies. Empty: it
    counts. Only a wheel that lists the file can say so; a folder's name alone hides nothing."""
    folders = posixpath.dirname(real).removeprefix(f"{wheel.root}/").split("/")
    if folders[-1] in _IMPORTED_FOLDERS or not _TEST_FOLDERS & set(folders[1:]):
        return ""
    package = f"{name[:100]} {version[:100]}"
    return f"metadata of {package} in a tests folder of {wheel.name} {wheel.version}: a fixture, not installed"


def from_lists(wheel: Wheel) -> Iterator[Component]:
    """What the wheel's SBOMs and vendor lists name; several for one package URL that is named several times."""
    return (_named_by_list(wheel, software, path) for path, software in wheel.listed())


def _named_by_list(wheel: Wheel, software: Listed, path: str) -> Component:
    purl = PackageURL.from_string(software.purl)
    identity = named(purl)
    return Component(
        purl=software.purl,
        name=identity.name if identity.ecosystem else software.name,
        version=software.version,
        type=purl.type,
        ecosystem=identity.ecosystem,
        locations=(path,),
        source_name=identity.source_name,
        source_version=identity.source_version,
        evidence="list",
        inside=wheel.purl,
        licenses=software.licenses,
    )


def left_out_of_lists(wheel: Wheel) -> Iterator[LeftOut]:
    """What the wheel's SBOMs themselves say is not there."""
    for path, software_list in wheel.lists.items():
        if software_list.excluded:
            excluded = count_text(software_list.excluded, "component")
            reason = f"{excluded} that this SBOM calls excluded: not there at run time"
            yield LeftOut(subject=path, reason=reason)


class Carried:
    """Says what each binary of one wheel is."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._by_path = {software.path_hash: software for _, software in wheel.listed() if software.path_hash}
        self._by_version = {(software.name.lower(), software.version): software for _, software in wheel.listed()}

    def component(self, path: str, real: str, fact: Native) -> Component | None:
        """The component for the library, program or Java archive at ``path``; None: it is the wheel's own module or
        program, which the wheel stands for."""
        wheel = self._wheel
        if not _is_below(real, wheel.root):
            return None
        software = self._copied_from_distribution(fact.name) or self._by_version.get((fact.product, fact.version))
        if software is not None:
            return _named_by_list(wheel, software, path)
        is_module = ".so" in fact.name and (not fact.name.startswith("lib") or _MODULE.search(fact.name) is not None)
        if is_module and not fact.product:
            return None
        return undeclared(fact, path, inside=wheel.purl)

    def _copied_from_distribution(self, base: str) -> Listed | None:
        """What the wheel's list says about this copy: auditwheel marks the packages of the build machine with the hash
        of the path that the library had there, and keeps the file name (``auditwheel/sboms.py``, 6.7.0)."""
        if not self._by_path:
            return None
        name = plain_name(base)
        hashes = (hashlib.sha256(f"{folder}/{name}".encode()).hexdigest() for folder in _LIBRARY_FOLDERS)
        return next((self._by_path[path_hash] for path_hash in hashes if path_hash in self._by_path), None)


def undeclared(fact: Native, path: str, *, inside: str = "") -> Component:
    """A binary that no package list names: by the version text in it, else by its file name."""
    name = fact.product or plain_name(fact.name)
    return Component(
        purl=PackageURL("generic", None, name, fact.version or None).to_string(),
        name=name,
        version=fact.version,
        type="generic",
        locations=(path,),
        evidence="content" if fact.product else "name",
        inside=inside,
    )
