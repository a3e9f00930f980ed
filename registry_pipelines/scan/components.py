"""The merged image into components and unknowns: who is installed, who owns whom, and what nobody owns."""

from __future__ import annotations

import posixpath
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from registry_pipelines.scan.facts import (
    AnyFact,
    CondaPackage,
    Copyright,
    GoProgram,
    Interpreter,
    JavaArchive,
    Native,
    NpmPackage,
    OsDatabase,
    OsPackage,
    OsRelease,
    OwnedFiles,
    PythonDistribution,
    RpmDatabase,
    RpmJournal,
    StandardLibrary,
    Unreadable,
    WheelRecord,
)
from registry_pipelines.scan.merge import Tree
from registry_pipelines.scan.owners import (
    Origins,
    is_owned,
    origins_of,
    os_owners,
    os_packages,
    other_owned,
    python_paths,
    standing_owner,
    unchanged_owner,
)
from registry_pipelines.scan.program_contents import go_components, java_components
from registry_pipelines.scan.purls import ecosystem_of_release
from registry_pipelines.scan.report import EVIDENCE, Component, Evidence, LeftOut, Unattributed, Unknown
from registry_pipelines.scan.unattributed import count_unattributed
from registry_pipelines.scan.wheel_contents import (
    Carried,
    Wheel,
    Wheels,
    find_wheels,
    fixture,
    from_lists,
    left_out_of_lists,
    undeclared,
)

INTERPRETER_ECOSYSTEM = "Bitnami"
"""The OSV ecosystem with version ranges of CPython itself (package ``python``). The Python Software Foundation's own
records name commits, which an installed interpreter does not tell."""

MAX_LOCATIONS = 20
"""Paths named for one component; vendored copies of one npm package come in hundreds."""

_METADATA_NAMES = ("", "/METADATA", "/package.json", "/PKG-INFO", "/EGG-INFO/PKG-INFO")
"""Files that stand for the folder of a component."""


@dataclass
class _Draft:
    """Components by identity (purl, owner, what it is inside), so that one thing at several places is one component."""

    components: dict[tuple[str, str, str], Component] = field(default_factory=dict)
    unknowns: set[Unknown] = field(default_factory=set)
    left_out: set[LeftOut] = field(default_factory=set)

    def add(self, component: Component) -> None:
        key = (component.purl, component.os_owned, component.inside)
        known = self.components.get(key)
        if known is not None:
            component = msgspec.structs.replace(
                min(component, known, key=lambda candidate: EVIDENCE.index(candidate.evidence)),
                locations=tuple(sorted({*component.locations, *known.locations})),
                layers=component.layers or known.layers,
                licenses=tuple(dict.fromkeys((*known.licenses, *component.licenses))),
                sboms=tuple(sorted({*component.sboms, *known.sboms}, key=lambda sbom: sbom.path)),
            )
        self.components[key] = component

    def doubt(self, kind: str, subject: str, reason: str) -> None:
        self.unknowns.add(Unknown(kind=kind, subject=subject, reason=reason))  # type: ignore[arg-type]


class Contents(NamedTuple):
    """What an image holds."""

    components: list[Component]
    """Sorted by purl."""
    unknowns: list[Unknown]
    left_out: list[LeftOut]
    unattributed: Unattributed


def find_components(tree: Tree) -> Contents:
    """Everything installed, everything that could not be read, and what was seen and is not listed."""
    draft = _Draft()
    release = _release(tree)
    owners = os_owners(tree)
    packages = os_packages(tree)
    origins = origins_of(tree)
    owned = {*owners, *other_owned(tree)}
    claimed = python_paths(tree)
    wheels = find_wheels(tree)
    for path, fact in sorted(tree.facts.items()):
        if isinstance(fact, OsDatabase):
            _add_os_packages(draft, tree, path, fact, release, origins)
        elif isinstance(fact, PythonDistribution):
            _add_python(draft, tree, wheels, path, fact, standing_owner(owners, packages, tree.real(path), fact))
        elif isinstance(fact, CondaPackage):
            if not any(tree.real(file) in claimed for file in fact.paths):
                draft.add(_conda(path, fact))
        elif isinstance(fact, NpmPackage):
            draft.add(_npm(path, fact, standing_owner(owners, packages, tree.real(path), fact)))
        elif isinstance(fact, (GoProgram, JavaArchive)):
            owner = unchanged_owner(tree, path, owners.get(tree.real(path), ""), origins)
            _add_program(draft, wheels.owners.get(tree.real(path)), path, fact, owner, is_owned(tree, path, owned))
        elif not isinstance(fact, Native):
            _add_doubts(draft, tree, path, fact)
    _add_wheel_contents(draft, wheels)
    _add_binaries(draft, tree, wheels, owned)
    _add_interpreters(draft, tree, owners.keys())
    _doubt_databases_of_wheels(draft, tree, wheels)
    for reason in tree.cut:
        draft.doubt("incomplete", "layer", reason)
    for name in tree.escapes:
        draft.doubt("unreadable", name, "the symbolic link climbs above the image's root")
    return Contents(
        [_finished(tree, draft.components[key]) for key in sorted(draft.components)],
        sorted(draft.unknowns, key=lambda unknown: (unknown.kind, unknown.subject, unknown.reason)),
        sorted(draft.left_out, key=lambda omission: (omission.subject, omission.reason)),
        count_unattributed(tree),
    )


def _finished(tree: Tree, component: Component) -> Component:
    """With the layers of all its places, of which the first are named."""
    layers = component.layers
    if not layers and tree.digests:
        numbers = sorted({number for place in component.locations for number in _brought_by(tree, place)})
        layers = tuple(dict.fromkeys(digest for number in numbers if (digest := tree.layer_of(number))))
    return msgspec.structs.replace(component, locations=component.locations[:MAX_LOCATIONS], layers=layers)


def _brought_by(tree: Tree, place: str) -> Iterable[int]:
    """The layer of a component's place, which is a file, a folder with metadata, or inside an archive."""
    outer = place.partition("!/")[0]
    for name in _METADATA_NAMES:
        number = tree.layers.get(outer + name)
        if number is not None and outer + name in tree.facts:
            return (number,)
    return ()


def _add_program(
    draft: _Draft, wheel: Wheel | None, path: str, fact: GoProgram | JavaArchive, owner: str, listed: bool
) -> None:
    """listed: some package lists the file, so that one which says nothing of itself is no component."""
    inside = wheel.purl if wheel else ""
    problems = fact.problems if isinstance(fact, JavaArchive) else (fact.problem,) if fact.problem else ()
    for problem in problems:
        draft.doubt("unreadable", path, problem)
    if isinstance(fact, JavaArchive):
        for component in java_components(fact, path, inside=inside, owner=owner):
            if component.declared or not listed:
                draft.add(component)
    else:
        for component in go_components(fact, path, inside=inside, owner=owner):
            draft.add(component)


def _add_python(draft: _Draft, tree: Tree, wheels: Wheels, path: str, fact: PythonDistribution, owner: str) -> None:
    component = _python(path, fact, owner)
    place = component.locations[0]
    around = wheels.around(tree, path, place)
    if around is not None:
        reason = fixture(around, tree.real(place), fact.name, fact.version)
        if reason:
            draft.left_out.add(LeftOut(subject=place, reason=reason))
            return
        component = msgspec.structs.replace(component, inside=around.purl)
    wheel = wheels.by_info.get(place)
    draft.add(msgspec.structs.replace(component, sboms=wheel.sboms()) if wheel else component)


def _add_wheel_contents(draft: _Draft, wheels: Wheels) -> None:
    for wheel in wheels.by_info.values():
        for component in from_lists(wheel):
            draft.add(component)
        draft.left_out.update(left_out_of_lists(wheel))
        for path, carried in wheel.lists.items():
            for problem in carried.problems:
                draft.doubt("unreadable", path, problem)
    for path in wheels.stray:
        draft.doubt("unreadable", path, "the SBOM of a Python package without METADATA")


def _add_binaries(draft: _Draft, tree: Tree, wheels: Wheels, owned: set[str]) -> None:
    judges = {id(wheel): Carried(wheel) for wheel in wheels.by_info.values()}
    for path, fact in sorted(tree.facts.items()):
        if not isinstance(fact, Native) or is_owned(tree, path, owned):
            continue
        real = tree.real(path)
        wheel = wheels.owners.get(real)
        if wheel is None:
            draft.add(undeclared(fact, path))
            continue
        component = judges[id(wheel)].component(path, real, fact)
        if component is not None:
            draft.add(component)


def _add_doubts(draft: _Draft, tree: Tree, path: str, fact: AnyFact) -> None:
    if isinstance(fact, Unreadable):
        draft.doubt("unreadable", path, fact.reason)
    elif isinstance(fact, RpmDatabase):
        draft.doubt("incomplete", path, fact.reason)
    elif isinstance(fact, RpmJournal):
        draft.doubt("incomplete", path, "what this log holds is not in the database: packages may be missing")
    elif isinstance(fact, WheelRecord):
        folder = posixpath.dirname(path)
        if f"{folder}/METADATA" not in tree.facts:
            draft.doubt("unreadable", folder, "a RECORD without METADATA: a Python package without name and version")


def _release(tree: Tree) -> OsRelease:
    for path in ("etc/os-release", "usr/lib/os-release"):
        fact = tree.facts.get(path)
        if isinstance(fact, OsRelease):
            return fact
    return OsRelease(id="", version="")


def _add_os_packages(
    draft: _Draft, tree: Tree, path: str, fact: OsDatabase, release: OsRelease, origins: Origins
) -> None:
    for reason in fact.broken:
        draft.doubt("unreadable", path, reason)
    for package in fact.packages:
        component = _os_component(path, fact.manager, package, release)
        origin = tree.layer_of(origins.get((fact.manager, package.name, package.version, package.architecture)))
        licenses = package.licenses or _copyright(tree, package.name)
        draft.add(msgspec.structs.replace(component, layers=(origin,) if origin else (), licenses=licenses))


def _copyright(tree: Tree, package: str) -> tuple[str, ...]:
    """What Debian says of a package's licences, in a folder that may be a link to another package's."""
    fact = tree.facts.get(tree.real(f"usr/share/doc/{package}/copyright"))
    return fact.licenses if isinstance(fact, Copyright) else ()


def _os_component(path: str, manager: str, package: OsPackage, release: OsRelease) -> Component:
    qualifiers = {"arch": package.architecture}
    if release.id:
        qualifiers["distro"] = f"{release.id}-{release.version}" if release.version else release.id
    if package.epoch:
        qualifiers["epoch"] = str(package.epoch)
    namespace = release.id or _NAMESPACES.get(manager)
    return Component(
        purl=PackageURL(manager, namespace, package.name, package.version, qualifiers).to_string(),
        name=package.name,
        version=f"{package.epoch}:{package.version}" if package.epoch else package.version,
        type=manager,
        ecosystem=ecosystem_of_release(manager, release.id, release.version),
        locations=(path,),
        source_name="" if manager == "rpm" else package.source,
        source_version="" if manager == "rpm" else package.source_version,
    )


_NAMESPACES = {"deb": "debian", "apk": "alpine"}


def _python(path: str, fact: PythonDistribution, owner: str) -> Component:
    name = str(canonicalize_name(fact.name))
    place = path if path.endswith((".egg-info", ".egg")) else posixpath.dirname(path).removesuffix("/EGG-INFO")
    return Component(
        purl=PackageURL("pypi", None, name, fact.version).to_string(),
        name=name,
        version=fact.version,
        type="pypi",
        ecosystem="PyPI",
        locations=(place,),
        os_owned=owner,
        licenses=fact.licenses,
    )


def _conda(path: str, fact: CondaPackage) -> Component:
    qualifiers = {key: value for key, value in (("build", fact.build), ("channel", fact.channel)) if value}
    purl = PackageURL("conda", None, fact.name, fact.version, qualifiers).to_string()
    return Component(
        purl=purl,
        name=fact.name,
        version=fact.version,
        type="conda",
        locations=(path,),
        licenses=fact.licenses,
    )


def _npm(path: str, fact: NpmPackage, owner: str) -> Component:
    scope, slash, base = fact.name.rpartition("/")
    return Component(
        purl=PackageURL("npm", scope if slash else None, base, fact.version or None).to_string(),
        name=fact.name,
        version=fact.version,
        type="npm",
        ecosystem="npm",
        locations=(posixpath.dirname(path),),
        os_owned=owner,
        licenses=fact.licenses,
    )


def _interpreter(version: str, evidence: Evidence, paths: list[str]) -> Component:
    purl = PackageURL("generic", None, "python", version or None).to_string()
    return Component(
        purl=purl,
        name="python",
        version=version,
        type="generic",
        ecosystem=INTERPRETER_ECOSYSTEM if evidence == "content" else "",
        locations=tuple(paths),
        evidence=evidence,
    )


def _doubt_databases_of_wheels(draft: _Draft, tree: Tree, wheels: Wheels) -> None:
    """A wheel may put files anywhere below its prefix, over what the system says of itself, too."""
    for path, fact in tree.facts.items():
        wheel = wheels.owners.get(tree.real(path))
        if wheel and isinstance(fact, (OsDatabase, OsRelease, OwnedFiles, RpmDatabase)):
            draft.doubt("unreadable", path, f"{wheel.name} {wheel.version} lists it as its own: it is not the system's")


def _add_interpreters(draft: _Draft, tree: Tree, owned: Container[str]) -> None:
    """One component for each CPython, with its full version where a file tells it.

    Only a distribution stands for its own, with the advisories and the backports of that package. Whoever else lists
    its files (a wheel, conda, a vendor's package) says nothing of what is known about it.
    """
    places: dict[str, list[str]] = {}
    versions: dict[str, set[str]] = {}
    for path, fact in tree.facts.items():
        if isinstance(fact, (Interpreter, StandardLibrary)) and tree.real(path) not in owned:
            places.setdefault(fact.series, []).append(path)
            if isinstance(fact, Interpreter) and fact.version:
                versions.setdefault(fact.series, set()).add(fact.version)
    for series, paths in places.items():
        for version in versions.get(series) or {series}:
            draft.add(_interpreter(version, "content" if series in versions else "name", paths))
        if not series:
            draft.doubt("unreadable", sorted(paths)[0], "a Python interpreter whose version could not be found in it")
        elif series not in versions:
            reason = f"a Python {series} is here, but no file tells its full version"
            draft.doubt("unreadable", f"pkg:generic/python@{series}", reason)
