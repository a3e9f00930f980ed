"""Which repositories and tags a sync takes."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.oci.tags import Range, names_a_pre_release, order_key, read_version

MAX_PATTERN_CHARACTERS = 500
"""Longer regular expressions are mistakes; they are tried on every tag."""


_WILD = frozenset("*?[")


class Selector(msgspec.Struct, frozen=True):
    """A choice of names. A name is taken when it matches any of ``glob`` or ``regex`` (all, when both are empty), lies
    in the ``semver`` range when there is one, and matches nothing of ``exclude`` (globs). ``newest`` then keeps the N
    highest versions; then come days (``20261128``), then words, each the highest first. How tags are read as versions:
    docs/tags.md.

    semver: see :class:`~registry_pipelines.oci.tags.Range`. By itself it takes plain versions; variants (``-slim``)
    where ``glob`` or ``regex`` match them. Pre-releases are taken where a comparison, a glob or a regular expression
    names one; without that ``newest`` takes them only where there is no release to take. Raises InputError for patterns
    that cannot be read.
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
        self._range()

    @property
    def full_names(self) -> tuple[str, ...]:
        """Names that are written in full, without any pattern."""
        return tuple(name for name in self.glob if not _WILD.intersection(name))

    @property
    def names_all(self) -> bool:
        """Whether only names in full are taken, so that nothing depends on a list."""
        return bool(self.glob) and not self.regex and len(self.full_names) == len(self.glob)

    def select(self, names: Iterable[str]) -> list[str]:
        """The chosen names, highest version first when ``newest`` is set, else as they came."""
        wanted = self._range()
        asked = any(map(names_a_pre_release, (*self.glob, *self.regex))) or bool(wanted and wanted.names_a_pre_release)
        chosen = list(dict.fromkeys(name for name in names if self._matches(name, wanted, pre_releases=asked)))
        if not self.newest:
            return chosen
        ranks = {name: _rank(name, pre_releases=asked) for name in chosen}
        if max(ranks.values(), default=0) > 1:
            chosen = [name for name in chosen if ranks[name] != 1]
        return sorted(chosen, key=lambda name: (ranks[name], order_key(name)), reverse=True)[: self.newest]

    def _range(self) -> Range | None:
        return Range.read(self.semver) if self.semver.strip() else None

    def _matches(self, name: str, wanted: Range | None, *, pre_releases: bool) -> bool:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.exclude):
            return False
        patterns = bool(self.glob or self.regex)
        if patterns:
            globbed = any(fnmatch.fnmatchcase(name, pattern) for pattern in self.glob)
            if not globbed and not any(re.fullmatch(pattern, name) for pattern in self.regex):
                return False
        if wanted is None:
            return True
        version = read_version(name)
        if version is None or (version.variant and not patterns):
            return False
        return wanted.contains(version, pre_releases=pre_releases)


def _rank(name: str, *, pre_releases: bool) -> int:
    """What comes first under ``newest``: versions, days, pre-releases that nobody asked for, words."""
    version = read_version(name)
    if version is None:
        return 0
    if version.is_pre_release and not pre_releases:
        return 1
    return 2 if version.date else 3


ALL = Selector()
"""Takes every name."""
