"""Orders of versions that no library at hand gets right: Maven, RubyGems, NuGet, rpm.

Each is written after its owner's own description and held against the public vectors in the tests; a text that is no
version of its kind raises ValueError. Values of one class compare with each other only.
"""

from __future__ import annotations

import re
from functools import total_ordering
from itertools import zip_longest
from typing import Any, TypeAlias

_MAX_TOKENS = 64
"""Far more than any version has; keeps comparisons of hostile texts short."""


@total_ordering
class Ordered:
    """A version whose order is more than that of one tuple: what a missing part counts as depends on the other one."""

    __slots__ = ("_identity",)

    def __init__(self, identity: object) -> None:
        self._identity = identity
        """Equal exactly where :meth:`compare` gives 0."""

    def compare(self, other: Ordered) -> int:
        """Below 0, 0 or above 0, as this one is lower, equal or higher."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.compare(other) == 0

    def __lt__(self, other: Ordered) -> bool:
        return self.compare(other) < 0

    def __hash__(self) -> int:
        return hash(self._identity)


def _sign(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)


_Token: TypeAlias = tuple[str, int | str]
"""The separator before it, and a number or a lower-case qualifier."""

_MAVEN_TOKEN = re.compile(r"([.-]?)([0-9]+|[^0-9.-]+|(?=[.-]|\Z))")
_MAVEN_TEXT = re.compile(r"[0-9A-Za-z._+-]+\Z")
_MAVEN_KNOWN = ("alpha", "beta", "milestone", "rc", "snapshot", "", "sp")
_MAVEN_SHORT = {"a": "alpha", "b": "beta", "m": "milestone"}
_MAVEN_SAME = {"cr": "rc", "final": "", "ga": "", "release": ""}


class MavenVersion(Ordered):
    """Maven's order (maven.apache.org/pom.html, "Version Order Specification")."""

    __slots__ = ("_tokens",)

    def __init__(self, text: str) -> None:
        if not _MAVEN_TEXT.match(text):
            raise ValueError(text)
        self._tokens = _trimmed(_maven_tokens(text.lower()))
        super().__init__(tuple(self._tokens))

    def compare(self, other: Ordered) -> int:
        """See :class:`Ordered`."""
        assert isinstance(other, MavenVersion)  # noqa: S101 - values of one class only
        for mine, theirs in zip_longest(self._tokens, other._tokens):
            one = mine or _nothing_beside(theirs)
            two = theirs or _nothing_beside(mine)
            if found := _sign(_maven_rank(one), _maven_rank(two)):
                return found
        return 0


def _maven_tokens(text: str) -> list[_Token]:
    """``1-1.foo-bar1baz-.1`` is 1, -1, .foo, -bar, -1, -baz, -0, .1: a change between digits and letters counts as a
    hyphen, an empty token as 0."""
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _MAVEN_TOKEN.match(text, position)
        if match is None or match.end() == position or len(tokens) >= _MAX_TOKENS:
            raise ValueError(text)
        position, word = match.end(), match[2]
        separator = match[1] or ("-" if tokens else "")
        if word.isdigit() or not word:
            tokens.append((separator, int(word or 0)))
            continue
        if text[position : position + 1].isdigit():
            word = _MAVEN_SHORT.get(word, word)
        tokens.append((separator, _MAVEN_SAME.get(word, word)))
    return tokens


def _trimmed(tokens: list[_Token]) -> list[_Token]:
    """Without what says nothing (0 and the empty qualifier) at the end and before each hyphen."""
    kept: list[_Token] = []
    for token in reversed(tokens):
        if token[1] not in (0, "") or (kept and kept[-1][0] != "-"):
            kept.append(token)
    return kept[::-1]


def _nothing_beside(token: _Token | None) -> _Token:
    """What a version that ends here counts as beside a token of the longer one."""
    separator, value = token or ("-", "")
    return (separator, 0) if isinstance(value, int) else (separator, "")


def _maven_rank(token: _Token) -> tuple[int, int, str]:
    """``.qualifier`` < ``-qualifier`` < ``-number`` < ``.number``: the specification calls the first two equal, the
    program does not. Qualifiers that it does not know come after those it does."""
    separator, value = token
    if isinstance(value, int):
        return (2 if separator == "-" else 3, value, "")
    known = _MAVEN_KNOWN.index(value) if value in _MAVEN_KNOWN else len(_MAVEN_KNOWN)
    return (1 if separator == "-" else 0, known, value)


_GEM = re.compile(r"\s*[0-9]+(?:\.[0-9A-Za-z]+)*(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\s*\Z")
_GEM_SEGMENT = re.compile(r"[0-9]+|[A-Za-z]+")


class GemVersion(Ordered):
    """RubyGems' order (rubygems/rubygems, ``Gem::Version#<=>``): a word lies below every number, a missing segment is
    0."""

    __slots__ = ("_segments",)

    def __init__(self, text: str) -> None:
        if not _GEM.match(text):
            raise ValueError(text)
        segments = [int(part) if part.isdigit() else part for part in _GEM_SEGMENT.findall(text.replace("-", ".pre."))]
        first_word = next((at for at, part in enumerate(segments) if isinstance(part, str)), len(segments))
        self._segments = (*_without_zeros(segments[:first_word]), *_without_zeros(segments[first_word:]))
        super().__init__(self._segments)

    def compare(self, other: Ordered) -> int:
        """See :class:`Ordered`."""
        assert isinstance(other, GemVersion)  # noqa: S101 - values of one class only
        for mine, theirs in zip_longest(self._segments, other._segments, fillvalue=0):
            if mine != theirs:
                return _sign(_gem_rank(mine), _gem_rank(theirs))
        return 0


def _without_zeros(segments: list[int | str]) -> list[int | str]:
    end = len(segments)
    while end and segments[end - 1] == 0:
        end -= 1
    return segments[:end]


def _gem_rank(segment: int | str) -> tuple[bool, int, str]:
    return (True, segment, "") if isinstance(segment, int) else (False, 0, segment)


_NUGET = re.compile(
    r"v?([0-9]+(?:\.[0-9]+){0,3})(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z",
    re.IGNORECASE,
)

NugetKey: TypeAlias = tuple[tuple[int, ...], bool, tuple[tuple[int, int, str], ...]]


def nuget_key(text: str) -> NugetKey:
    """NuGet's order (learn.microsoft.com/nuget/concepts/package-versioning): Semantic Versioning with up to four
    numbers, missing ones 0, labels without regard to case. Raises ValueError."""
    match = _NUGET.match(text)
    if not match:
        raise ValueError(text)
    numbers = [int(part) for part in match[1].split(".")]
    labels = match[2].lower().split(".") if match[2] else []
    return (
        tuple(numbers + [0] * (4 - len(numbers))),
        not labels,
        tuple((0, int(label), "") if label.isdigit() else (1, 0, label) for label in labels),
    )


_RPM = re.compile(r"(?:([0-9]+):)?([0-9A-Za-z._+~^-]+)\Z")
_RPM_PART = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")


class RpmVersion(Ordered):
    """rpm's order of ``epoch:version-release`` (rpm.org, ``rpmvercmp``): a missing epoch is 0, and a version
    without release lies below every release of it."""

    __slots__ = ("_epoch", "_release", "_version")

    def __init__(self, text: str) -> None:
        match = _RPM.match(text)
        if not match:
            raise ValueError(text)
        version, hyphen, release = match[2].rpartition("-")
        if not release or (hyphen and not version):
            raise ValueError(text)
        self._epoch = int(match[1] or 0)
        self._version = _rpm_parts(version if hyphen else release)
        self._release = _rpm_parts(release) if hyphen else ()
        super().__init__((self._epoch, self._version, self._release))

    def compare(self, other: Ordered) -> int:
        """See :class:`Ordered`."""
        assert isinstance(other, RpmVersion)  # noqa: S101 - values of one class only
        return (
            _sign(self._epoch, other._epoch)
            or _rpm_compare(self._version, other._version)
            or _rpm_compare(self._release, other._release)
        )


def _rpm_parts(text: str) -> tuple[int | str, ...]:
    parts = _RPM_PART.findall(text)
    if len(parts) > _MAX_TOKENS:
        raise ValueError(text)
    return tuple(int(part) if part.isdigit() else part for part in parts)


def _rpm_compare(mine: tuple[int | str, ...], theirs: tuple[int | str, ...]) -> int:
    """``~`` lies below the end, the end below ``^``, that below words, words below numbers; whoever has more is
    higher."""
    for one, two in zip_longest(mine, theirs, fillvalue=""):
        if one != two:
            return _sign(_rpm_rank(one), _rpm_rank(two))
    return 0


def _rpm_rank(part: int | str) -> tuple[int, int, str]:
    if isinstance(part, int):
        return 4, part, ""
    return {"~": 0, "": 1, "^": 2}.get(part, 3), 0, part
