"""Whether advisories say anything else of a release than they did: told without its SBOM, by what it holds.

A night brings records about some hundred packages. A release that holds none of these has the report it had; so for
each release a sweep keeps the packages that advisories are asked about, and a fingerprint of all that they said. Who
sweeps a hundred thousand releases then reads those whose fingerprint changed.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence

import msgspec

import registry_pipelines
from registry_pipelines.oci.decoding import ready
from registry_pipelines.scan.advisories import STORE_FORMAT, AdvisoryStore
from registry_pipelines.scan.report import PlatformPackages
from registry_pipelines.scan.versions import normal_name, spoken_of

FORMAT = 1
"""Of :meth:`Holdings.encode`."""

JUDGING = 1
"""Raised when the matcher answers something else to the same records: all is matched again then."""

Package = tuple[str, str]
"""An ecosystem of OSV, and the name by which its advisories speak of a package."""


def packages_of(platforms: Iterable[PlatformPackages]) -> frozenset[Package]:
    """What the matcher asks advisories about, of all platforms of one release."""
    return frozenset(
        (each.ecosystem, normal_name(each.ecosystem, each.source_name or each.name))
        for platform in platforms
        for each in platform.components
    )


class Fingerprints:
    """Fingerprints of what one store says. believed: ids of the keys whose SBOMs count, for with other keys others
    count. Of a newer build all are other, because it may judge otherwise. Safe to use from many threads."""

    def __init__(self, store: AdvisoryStore, believed: Iterable[str]) -> None:
        self._store = store
        problems = sorted(f"{each.subject} {each.reason}" for each in store.problems)
        about = [registry_pipelines.__version__, JUDGING, STORE_FORMAT, sorted(believed), problems]
        self._base = hashlib.sha256(msgspec.json.encode(about)).digest()
        self._ecosystems: dict[str, bytes] = {}
        self._packages: dict[Package, bytes] = {}

    def of(self, packages: Iterable[Package]) -> str:
        """The fingerprint of a release that holds these packages: 32 hex digits. Raises AdvisoriesMissing."""
        whole = hashlib.sha256(self._base)
        for said in sorted(self._said(each) for each in packages):
            whole.update(said)
        return whole.hexdigest()[:32]

    def _said(self, package: Package) -> bytes:
        if package not in self._packages:
            ecosystem, name = package
            self._packages[package] = hashlib.sha256(
                msgspec.json.encode([ecosystem, name, self._ecosystem(ecosystem), self._store.documents(*package)])
            ).digest()
        return self._packages[package]

    def _ecosystem(self, ecosystem: str) -> bytes:
        """Which of the names that count for an ecosystem the store has: that decides what is covered."""
        if ecosystem not in self._ecosystems:
            names = [name for name in spoken_of(ecosystem) if name in self._store.ecosystems]
            self._ecosystems[ecosystem] = msgspec.json.encode(sorted(names))
        return self._ecosystems[ecosystem]


class _Written(msgspec.Struct, frozen=True):
    format: int
    names: list[Package]
    releases: dict[str, bytes]


class Holdings:
    """The packages of many releases, 4 bytes for each package of one. Kept by one thread at a time."""

    def __init__(self, names: Sequence[Package] = (), releases: Mapping[str, bytes] | None = None) -> None:
        self._names = list(names)
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._releases = dict(releases or {})

    def of(self, key: str) -> list[Package] | None:
        """The packages of a release by its key; None where they are not known."""
        written = self._releases.get(key)
        return None if written is None else [self._names[number] for number in array("I", written)]

    def keep(self, key: str, packages: Iterable[Package]) -> None:
        """Remember the packages of a release."""
        numbers = array("I")
        for each in sorted(packages):
            if each not in self._numbers:
                self._numbers[each] = len(self._names)
                self._names.append(each)
            numbers.append(self._numbers[each])
        self._releases[key] = numbers.tobytes()

    def only(self, keys: Iterable[str]) -> Holdings:
        """Those of some releases, without names that no other needs."""
        kept = Holdings()
        for key in keys:
            if (packages := self.of(key)) is not None:
                kept.keep(key, packages)
        return kept

    def encode(self) -> bytes:
        """As a file has them, MessagePack."""
        return msgspec.msgpack.encode(_Written(FORMAT, self._names, self._releases))

    @classmethod
    def decode(cls, raw: bytes) -> Holdings:
        """What :meth:`encode` wrote; none for anything else: they are read from SBOMs again."""
        try:
            written = msgspec.msgpack.decode(raw, type=ready(_Written))
            whole = [array("I", each) for each in written.releases.values()]
        except (msgspec.MsgspecError, ValueError):
            return cls()
        if written.format != FORMAT or any(number >= len(written.names) for each in whole for number in each):
            return cls()
        return cls(written.names, written.releases)
