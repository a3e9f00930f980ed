"""Which tags of an upstream are taken: patterns, the newest versions, a version range.

Versions follow semver.org 2.0.0, read loosely: a leading ``v``, one to four numbers, an optional ``-suffix`` that sorts
as a pre-release and an optional ``+build`` that does not count. ``3.12-slim`` is a version in this sense.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import total_ordering

from registry_pipelines.errors import InputError

_VERSION = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,3})(?:-([0-9A-Za-z.-]+))?(?:[+_][0-9A-Za-z.-]+)?\Z")
_COMPARATOR = re.compile(r"(\^|~|>=|<=|!=|>|<|==?)?\s*(\S+)\Z")
_NUMBERS = 4


@total_ordering
class Version:
    """A version in a tag; ordered by semver's rules (section 11)."""

    def __init__(self, numbers: tuple[int, ...], suffix: str) -> None:
        self.numbers = numbers
        self.suffix = suffix
        padded = numbers + (0,) * (_NUMBERS - len(numbers))
        self._key = (padded, suffix == "", tuple(_part_key(part) for part in suffix.split(".")) if suffix else ())

    @classmethod
    def find(cls, tag: str) -> Version | None:
        """The version a tag states, None when it states none."""
        match = _VERSION.match(tag)
        if not match:
            return None
        return cls(tuple(int(part) for part in match[1].split(".")), match[2] or "")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def bumped(self, place: int) -> Version:
        """The lowest version above all that share the numbers up to ``place``; pre-releases of it are above too."""
        numbers = [*self.numbers, 0, 0, 0][:_NUMBERS]
        return Version((*numbers[:place], numbers[place] + 1), "")


def _part_key(part: str) -> tuple[bool, int, str]:
    # Semver 11.4: numeric identifiers compare as numbers and sort below the others.
    return (False, int(part), "") if part.isascii() and part.isdecimal() else (True, 0, part)


def select_tags(
    tags: Iterable[str], *, patterns: Sequence[str] = ("*",), newest: int | None = None, semver: str = ""
) -> list[str]:
    """The tags that match a pattern (``fnmatch``, case matters) and the range, the highest versions first.

    newest: so many of them at most; a tag without a version then never counts. semver: comma-separated comparators, all
    of which hold (``>=1.25,<2``, ``^1.4``, ``~1.4.2``); tags with a suffix are taken only when a comparator names one
    with the same numbers, as npm's ranges do. Raises InputError for a range that cannot be read.
    """
    test = version_range(semver) if semver else None
    found = [tag for tag in set(tags) if any(fnmatchcase(tag, pattern) for pattern in patterns)]
    versions = {tag: Version.find(tag) for tag in found}
    if test is not None:
        found = [tag for tag in found if (version := versions[tag]) is not None and test(version)]
    numbered = sorted((tag for tag in found if versions[tag] is not None), key=lambda tag: (versions[tag], tag))
    numbered.reverse()
    if newest is not None:
        return numbered[:newest]
    return numbered + sorted(tag for tag in found if versions[tag] is None)


def version_range(text: str) -> Callable[[Version], bool]:
    """A test for a range. Raises InputError."""
    comparators: list[tuple[str, Version]] = []
    for part in text.split(","):
        match = _COMPARATOR.match(part.strip())
        bound = Version.find(match[2]) if match else None
        if match is None or bound is None:
            raise InputError(f"{part.strip()!r} is not a version comparison", do="Write for example >=1.25,<2")
        comparators.extend(_unfold(match[1] or "=", bound))

    def holds(version: Version) -> bool:
        if version.suffix and not any(bound.suffix and bound.numbers == version.numbers for _, bound in comparators):
            return False
        return all(_COMPARE[operator](version, bound) for operator, bound in comparators)

    return holds


def _unfold(operator: str, bound: Version) -> list[tuple[str, Version]]:
    if operator == "~":
        return [(">=", bound), ("<", bound.bumped(min(1, len(bound.numbers) - 1)))]
    if operator == "^":
        leading = next((place for place, number in enumerate(bound.numbers) if number), len(bound.numbers) - 1)
        return [(">=", bound), ("<", bound.bumped(leading))]
    return [(operator.replace("==", "="), bound)]


_COMPARE: dict[str, Callable[[Version, Version], bool]] = {
    "=": lambda one, two: one == two,
    "!=": lambda one, two: one != two,
    ">": lambda one, two: one > two,
    ">=": lambda one, two: one >= two,
    "<": lambda one, two: one < two,
    "<=": lambda one, two: one <= two,
}
