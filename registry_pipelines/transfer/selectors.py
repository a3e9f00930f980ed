"""Which repositories and tags a sync takes."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_pipelines.errors import InputError
from registry_pipelines.transfer.closure import COSIGN_SUFFIXES

if TYPE_CHECKING:  # packaging is loaded where versions are compared, which few selectors do
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

MAX_PATTERN_CHARACTERS = 500
"""Longer regular expressions are mistakes; they are tried on every tag."""

_DIGEST_TAG = re.compile(r"(?:sha256-[0-9a-f]{64}|sha512-[0-9a-f]{64,128})(?:\.\w+)?\Z")
_SEMVER = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?\Z")
_RANGE_PART = re.compile(r"(>=|<=|==|!=|>|<|\^|~|=)?\s*v?(\d+(?:\.\d+){0,2}(?:-[0-9A-Za-z.-]+)?)\Z")


@dataclass(frozen=True)
class Selector:
    """A choice of names. A name is taken when it matches any of ``glob`` or ``regex`` (all, when both are empty), lies
    in the ``semver`` range when there is one, and matches nothing of ``exclude`` (globs). ``newest`` then keeps the N
    highest versions; names that are no versions come behind, highest name first.

    semver: comma-separated comparisons (``>=1.2, <2``), ``^1.4`` (same major), ``~1.4`` (same minor); pre-releases only
    where a comparison names one. Raises InputError for patterns that cannot be read.
    """

    glob: tuple[str, ...] = ()
    regex: tuple[str, ...] = ()
    semver: str = ""
    exclude: tuple[str, ...] = ()
    newest: int = 0

    def __post_init__(self) -> None:
        for pattern in self.regex:
            if len(pattern) > MAX_PATTERN_CHARACTERS:
                raise InputError(f"a regular expression has more than {MAX_PATTERN_CHARACTERS} characters")
            try:
                re.compile(pattern)
            except re.error as error:
                raise InputError(f"{pattern!r} is not a regular expression: {error}") from error
        if self.newest < 0:
            raise InputError(f"newest is {self.newest}", do="Write 0 for all, or how many to keep")
        _read_range(self.semver)

    def select(self, names: Iterable[str]) -> list[str]:
        """The chosen names, highest version first when ``newest`` is set, else as they came."""
        wanted = _read_range(self.semver)
        chosen = [name for name in dict.fromkeys(names) if self._matches(name, wanted)]
        return sorted(chosen, key=_order, reverse=True)[: self.newest] if self.newest else chosen

    def _matches(self, name: str, wanted: SpecifierSet | None) -> bool:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.exclude):
            return False
        if self.glob or self.regex:
            globbed = any(fnmatch.fnmatchcase(name, pattern) for pattern in self.glob)
            if not globbed and not any(re.fullmatch(pattern, name) for pattern in self.regex):
                return False
        if wanted is None:
            return True
        version = read_version(name)
        return version is not None and wanted.contains(version, prereleases="-" in self.semver)


def is_our_own(tag: str) -> bool:
    """Whether a tag is a referrers fallback tag or one of cosign's; those travel with their subject, never alone."""
    return bool(_DIGEST_TAG.match(tag)) or (tag.startswith("sha256-") and tag.endswith(COSIGN_SUFFIXES))


def read_version(tag: str) -> Version | None:
    """A tag as a semantic version (semver.org 2.0, with ``v`` and missing parts permitted); None when it is none.

    Ordered by packaging's rules, which agree with semver's for alpha, beta, rc and numbers; other pre-release words
    come before all of these.
    """
    from packaging.version import InvalidVersion, Version

    match = _SEMVER.match(tag)
    if not match:
        return None
    major, minor, patch, pre = match.groups()
    text = f"{major}.{minor or 0}.{patch or 0}"
    if not pre:
        return Version(text)
    try:
        return Version(f"{text}-{pre}")
    except InvalidVersion:
        return Version(f"{text}.dev0")


def _order(name: str) -> tuple[bool, Version, str]:
    from packaging.version import Version

    version = read_version(name)
    return (version is not None, version or Version("0"), name)


def _read_range(text: str) -> SpecifierSet | None:
    if not text.strip():
        return None
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    parts: list[str] = []
    for piece in text.split(","):
        match = _RANGE_PART.match(piece.strip())
        if not match:
            raise InputError(
                f"{text!r} is not a range of versions", do="Write comparisons as '>=1.2, <2', or '^1.4', or '~1.4'"
            )
        parts += _comparisons(match[1] or "=", match[2])
    try:
        return SpecifierSet(",".join(parts))
    except InvalidSpecifier as error:
        raise InputError(f"{text!r} is not a range of versions: {error}") from error


def _comparisons(sign: str, version: str) -> Sequence[str]:
    numbers = [int(number) for number in version.partition("-")[0].split(".")]
    padded = [*numbers, 0, 0][:3]
    if sign == "^":
        at = next((place for place, number in enumerate(padded) if number), 2)
        top = [*padded[:at], padded[at] + 1]
        return (f">={version}", f"<{'.'.join(map(str, top))}")
    if sign == "~":
        top = [padded[0], padded[1] + 1] if len(numbers) > 1 else [padded[0] + 1]
        return (f">={version}", f"<{'.'.join(map(str, top))}")
    return (f"{'==' if sign == '=' else sign}{version}",)


ALL = Selector()
"""Takes every name."""
