"""Versions of each ecosystem, comparable; what cannot be parsed is refused, never guessed."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, total_ordering
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion as PypiInvalidVersion
from packaging.version import Version as PypiVersion
from univers.debian import Version as DebianVersion
from univers.debian import compare_versions_key
from univers.versions import AlpineLinuxVersion
from univers.versions import InvalidVersion as UniversInvalidVersion

from registry_pipelines.scan.version_orders import GemVersion, MavenVersion, RpmVersion, nuget_key

MAX_VERSION_CHARACTERS = 256
"""Longer than any listed version by a factor of three; keeps regular expressions on hostile input short."""

DERIVED = "Debian derived"
"""Ecosystem of records that :mod:`registry_pipelines.scan.deriving` made; no publisher has one of that name. They are
looked up for Debian's packages, and cover none."""

DERIVED_ID = "DERIVED-"
"""Begins their ids."""

RPM_ECOSYSTEMS = (
    "AlmaLinux",
    "Azure Linux",
    "Mageia",
    "Red Hat",
    "Rocky Linux",
    "SUSE",
    "openEuler",
    "openSUSE",
)
"""Distributions whose packages rpm orders."""

_SEMVER = re.compile(
    r"v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)


@total_ordering
class SemVer:
    """A version by Semantic Versioning 2.0.0, section 11; a leading ``v`` is taken, build metadata ignored."""

    __slots__ = ("key",)

    def __init__(self, text: str) -> None:
        match = _SEMVER.match(text)
        if not match:
            raise ValueError(text)
        parts = match[4].split(".") if match[4] else []
        release = tuple(int(match[number]) for number in (1, 2, 3))
        identifiers = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
        self.key: tuple[tuple[int, ...], bool, tuple[tuple[int, int, str], ...]] = (release, not parts, identifiers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SemVer) and self.key == other.key

    def __lt__(self, other: SemVer) -> bool:
        return self.key < other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _debian(text: str) -> Any:
    """Equal when the comparison says so: univers' own ``==`` compares texts, and 1.0 is 1.0-0. It also takes an empty
    revision, which dpkg refuses."""
    if text.endswith("-"):
        raise ValueError(text)
    untyped_key: Any = compare_versions_key
    untyped_version: Any = DebianVersion
    return untyped_key(untyped_version.from_string(text))


_GO = re.compile(r"(?:go)?([0-9]+)\.([0-9]+)(?:\.([0-9]+))?(?:(beta|rc)([0-9]+))?\Z")


def _go(text: str) -> SemVer:
    """Go's modules are by Semantic Versioning; its own releases (``go1.22``, ``1.21rc2``) are written otherwise, and
    golang/vulndb speaks of them as 1.22.0 and 1.21.0-rc.2."""
    match = _GO.match(text)
    if not match:
        return SemVer(text)
    early = f"-{match[4]}.{match[5]}" if match[4] else ""
    return SemVer(f"{match[1]}.{match[2]}.{match[3] or 0}{early}")


_PARSERS: dict[str, Callable[[str], Any]] = {
    "PyPI": PypiVersion,
    "Bitnami": PypiVersion,  # of its packages only CPython is looked up, whose versions are by PEP 440
    "Debian": _debian,
    "Ubuntu": _debian,
    "Alpine": AlpineLinuxVersion,
    "Wolfi": AlpineLinuxVersion,
    "Chainguard": AlpineLinuxVersion,
    "npm": SemVer,
    "crates.io": SemVer,
    "Go": _go,
    "Hex": SemVer,
    "SwiftURL": SemVer,
    "Maven": MavenVersion,
    "RubyGems": GemVersion,
    "NuGet": nuget_key,
    **dict.fromkeys(RPM_ECOSYSTEMS, RpmVersion),
}
"""By the OSV ecosystem without its release (``Debian`` of ``Debian:12``). Ecosystems that are not here cannot be
compared."""


@lru_cache(maxsize=200_000)
def parse_version(ecosystem: str, text: str) -> Any | None:
    """A totally ordered value; None when the ecosystem has no comparer here or the version is not one of its own.

    Values of one ecosystem compare with each other only.
    """
    parser = _PARSERS.get(ecosystem.partition(":")[0])
    if parser is None or not text or len(text) > MAX_VERSION_CHARACTERS:
        return None
    try:
        return parser(text)
    except (PypiInvalidVersion, UniversInvalidVersion, ValueError, TypeError, AttributeError, IndexError):
        return None


def normal_name(ecosystem: str, name: str) -> str:
    """The name as compared: PEP 503 for PyPI, without regard to case for NuGet, unchanged elsewhere."""
    if ecosystem == "NuGet":
        return name.lower()
    return str(canonicalize_name(name)) if ecosystem == "PyPI" else name


def normal_ecosystem(ecosystem: str) -> str:
    """OSV marks Ubuntu's long-term releases (``Ubuntu:22.04:LTS``); os-release does not, so the mark is dropped."""
    head, _, tail = ecosystem.rpartition(":")
    return head if tail == "LTS" and head.startswith("Ubuntu:") else ecosystem


def spoken_of(ecosystem: str) -> tuple[str, ...]:
    """The names under which records speak of a component's ecosystem, its own first.

    Ubuntu's fixes after the end of standard support, and those of its universe, are published for ``Ubuntu:Pro:22.04``
    alone: an image without them is affected all the same. ``Debian`` without a release (the suffix is optional there)
    means every release.
    """
    system, _, release = ecosystem.partition(":")
    if system == "Ubuntu" and release and ":" not in release:
        return ecosystem, f"Ubuntu:Pro:{release}", system
    if system == "Debian" and release:
        return ecosystem, system, f"{DERIVED}:{release}"
    return (ecosystem, system) if release else (ecosystem,)
