"""Tags as versions: one reading for selectors, sensors, channels and lists of releases. docs/tags.md has examples.

A tag is free text (distribution-spec 1.1 fixes its letters only), so this is a choice. It follows semver.org 2.0 where
a tag is a semantic version, and what the official images on Docker Hub, Helm and the update tools do elsewhere:

- Helm since 3.8 writes ``+`` as ``_`` in tags (helm.sh/docs/topics/registries): the first ``_`` begins build metadata.
- What follows the version after ``-`` and is no pre-release by its word is a variant (``slim``, ``alpine3.20``), as
  Renovate's docker versioning has it; ranges and ``newest`` of Flux and Argo CD take it for a pre-release instead.
- Numbers within pre-releases are numbers: rc9 comes before rc10. semver compares them as text, which users of Flux
  (flux2#4599, #5684) and of Argo CD's image updater (#626) reported as wrong.
"""

from __future__ import annotations

import re

import msgspec

from registry_pipelines.errors import InputError

_START = re.compile(r"(?:(?:release|rel|version|ver)[-_])?v?(\d+(?:\.\d+)*)(.*)\Z", re.IGNORECASE | re.DOTALL)
_DATE = re.compile(
    r"((?:19|20)\d\d)(-?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?:T?(\d{6}|\d{4}))?(?![0-9A-Za-z])((?:\.\d+)*)(.*)\Z"
)
_COMMIT = re.compile(r"(?=.*[a-f])(?=.*\d)[0-9a-f]{7,40}\Z")
"""A commit's name has both letters and digits in all but one of a hundred cases of seven; the rest are numbers."""
_DESCRIBED = re.compile(r"g[0-9a-f]{7,40}\Z")
_UNSTABLE = "dev|snapshot|nightly|canary|edge|next|unstable|experimental|insiders?"
_PHASES = "alpha|beta|milestone|preview|prerelease|pre|rc|cr|ea"
_PRE = re.compile(rf"(?:({_UNSTABLE}|{_PHASES})|([abcm])(?=\.?\d))[.]?((?:\d|\.).*)?\Z")
_ATTACHED = re.compile(rf"({_UNSTABLE}|{_PHASES}|a|b|c|m)(\d*)(?=\Z|[-_+.])")
_REVISION = re.compile(r"(?:r|p|u|rev|revision|patch|hotfix|post|sp|build|ls|update)\.?(\d+)\Z")
_FINAL = frozenset({"final", "release", "ga", "lts"})
_ALIASES = {"a": "alpha", "b": "beta", "c": "rc", "cr": "rc", "m": "milestone", "preview": "pre", "prerelease": "pre"}
_PRE_WORD = re.compile(rf"(?<![a-z])(?:{_UNSTABLE}|{_PHASES})(?![a-z])", re.IGNORECASE)
_RANGE_PART = re.compile(r"(>=|<=|==|!=|>|<|\^|~|=)?\s*v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.-]+))?\Z")
MAX_COMPARISON_CHARACTERS = 140
"""Of one comparison of a range: a tag has at most 128, and Python reads no number of more than 4,300 digits."""

_FIRST_YEAR = 1900
"""A first number from here on is a year: ``2026.11.28-1`` is the second build of that day, no pre-release."""

Natural = tuple[tuple[int, int, str], ...]
"""Text in pieces, numbers as numbers: (0, number, "") or (1, 0, word)."""


class TagVersion(msgspec.Struct, frozen=True):
    """What a tag says. numbers: at least one. letter: ``w`` of ``1.1.1w``. pre: empty for a release. revision: of
    builds of one version, ``2`` of ``1.2.3-r2``; -1 when there is none. variant: ``slim``, ``cuda12.4-runtime``.
    build: metadata, which decides nothing but the order of tags that are otherwise the same. date: written as a day
    (``20261128``, ``2026-11-28``), not with dots."""

    numbers: tuple[int, ...]
    letter: str = ""
    pre: Natural = ()
    revision: int = -1
    variant: str = ""
    build: str = ""
    date: bool = False

    @property
    def is_pre_release(self) -> bool:
        """Whether it comes before a release."""
        return bool(self.pre)

    @property
    def precedence(self) -> tuple[tuple[int, ...], str, bool, Natural]:
        """What ranges compare: without revision, variant and build. 1.2 is 1.2.0."""
        return _stripped(self.numbers), self.letter, not self.pre, self.pre


OrderKey = tuple[bool, tuple[int, ...], str, bool, Natural, int, Natural, bool, Natural, int, str]


def order_key(tag: str) -> OrderKey:
    """Sort key of any tags, the highest version last: words before all versions; of one version the tags with a variant
    before the plain one, and the one with more numbers (``1.2.0``), which moves less, behind ``1.2``."""
    version = read_version(tag)
    if version is None:
        return (False, (), "", False, (), -1, natural(tag), False, (), 0, tag)
    numbers, letter, release, pre = version.precedence
    return (
        True,
        numbers,
        letter,
        release,
        pre,
        version.revision,
        natural(version.build),
        not version.variant,
        natural(version.variant),
        len(version.numbers),
        tag,
    )


def read_version(tag: str) -> TagVersion | None:
    """A tag as a version; None for words (``latest``), names of commits and whatever else does not begin like one."""
    if not tag.isascii() or _COMMIT.match(tag):
        return None
    day = _DATE.match(tag)
    if day:
        time = day[5] or ""
        more = day[6].split(".")[1:]
        digits = (day[1], day[3], day[4], *(time[at : at + 2] for at in range(0, len(time), 2)), *more)
        return _read_rest(tuple(map(int, digits)), day[7], date=True)
    match = _START.match(tag)
    return _read_rest(tuple(map(int, match[1].split("."))), match[2]) if match else None


def names_a_pre_release(pattern: str) -> bool:
    """Whether a glob or a regular expression has the word of a pre-release in it (``*-rc*``)."""
    return bool(_PRE_WORD.search(pattern))


def natural(text: str) -> Natural:
    """Text as people order it: ``build-9`` before ``build-10``."""
    return tuple(
        (0, int(one), "") if one.isascii() and one.isdigit() else (1, 0, one)
        for one in re.findall(r"[0-9]+|[^0-9]+", text)
    )


def _stripped(numbers: tuple[int, ...]) -> tuple[int, ...]:
    end = len(numbers)
    while end and not numbers[end - 1]:
        end -= 1
    return numbers[:end]


def _pre_tokens(text: str) -> Natural:
    """Identifiers between dots and hyphens; words of unstable builds before all phases (semver: as text)."""
    tokens: list[tuple[int, int, str]] = []
    for word in re.findall(r"[0-9]+|[a-z]+", text):
        if word.isdigit():
            tokens.append((0, int(word), ""))
        else:
            plain = _ALIASES.get(word, word)
            tokens.append((1, -1 if re.fullmatch(_UNSTABLE, plain) else 0, plain))
    return tuple(tokens)


def _read_rest(numbers: tuple[int, ...], rest: str, *, date: bool = False) -> TagVersion | None:
    """What follows the numbers."""
    rest, build = _build(rest.lower())
    letter, pre = "", ""
    if rest[:1].isalpha():
        attached = _ATTACHED.match(rest)
        revision = re.match(r"[rpu]\d+(?=\Z|[-.])", rest)
        if attached and not (attached[1] in ("a", "b", "c", "m") and not attached[2]):
            pre, rest = attached[0], rest[attached.end() :]
            more = re.match(r"(?:\.\d+)+(?=\Z|-)", rest)
            pre, rest = (pre + more[0], rest[more.end() :]) if more else (pre, rest)
        elif revision:
            rest = f"-{rest}"
        elif len(numbers) > 1 and (len(rest) == 1 or rest[1] in "-."):
            letter, rest = rest[0], rest[1:]
        else:
            return None
    if rest[:1] == ".":
        if not rest[1:2].isalpha() or re.match(r"\.[x*](?:\Z|[-.])", rest):
            return None
        rest = f"-{rest[1:]}"
    return _read_segments(numbers, letter, pre, rest, build, date) if rest[:1] in ("", "-") else None


def _build(rest: str) -> tuple[str, str]:
    """The rest without build metadata, and that. Where digits alone stand before a ``-`` the build is Java's
    (``21.0.5_11-jre``) and a variant follows."""
    at = min((place for place in (rest.find("+"), rest.find("_")) if place >= 0), default=-1)
    if at < 0:
        return rest, ""
    java = re.match(r"(\d+)(-.+)", rest[at + 1 :])
    return (rest[:at] + java[2], java[1]) if java else (rest[:at], rest[at + 1 :])


def _read_segments(
    numbers: tuple[int, ...], letter: str, pre: str, rest: str, build: str, date: bool
) -> TagVersion | None:
    semantic = len(numbers) == 3 and numbers[0] < _FIRST_YEAR and not letter
    variant: list[str] = []
    revision, may_follow = -1, bool(pre)
    for place, word in enumerate(rest.split("-")[1:]):
        is_pre = _PRE.match(word)
        follows = may_follow and word.isdigit()  # 1.2.3-rc-1
        may_follow = False
        if (
            is_pre
            or follows
            or (place == 0 and not pre and semantic and word[:1].isdigit() and not _COMMIT.match(word))
        ):
            pre, may_follow = f"{pre}.{word}", True
        elif revised := _REVISION.match(word):
            revision = int(revised[1])
        elif word.isdigit() and not variant and revision < 0:
            revision = int(word)
        elif _COMMIT.match(word) or _DESCRIBED.match(word):
            build = f"{build}.{word}".lstrip(".")
        elif word not in _FINAL:
            variant.append(word)
    return TagVersion(numbers, letter, _pre_tokens(pre), revision, "-".join(variant).strip("-"), build, date)


class _Comparison(msgspec.Struct, frozen=True):
    sign: str
    version: TagVersion

    def holds(self, other: TagVersion) -> bool:
        ours, theirs = self.version.precedence, other.precedence
        if self.sign == "<" and not self.version.pre and other.pre and theirs[:2] == ours[:2]:
            return False  # "<2" does not mean 2.0.0-rc.1
        return {
            ">=": theirs >= ours,
            "<=": theirs <= ours,
            ">": theirs > ours,
            "<": theirs < ours,
            "!=": theirs != ours,
        }.get(self.sign, theirs == ours)


class Range(msgspec.Struct, frozen=True):
    """Comparisons that must all hold: ``>=1.2, <2``, ``^1.4`` (same major), ``~1.4`` (same minor). Any number of
    numbers; 1.2 is 1.2.0. Build metadata and revisions do not count."""

    comparisons: tuple[_Comparison, ...]

    @classmethod
    def read(cls, text: str) -> Range:
        """From text, the comparisons separated by commas. Raises InputError."""
        comparisons: list[_Comparison] = []
        for piece in text.split(","):
            piece = piece.strip()
            match = _RANGE_PART.match(piece) if piece.isascii() and len(piece) <= MAX_COMPARISON_CHARACTERS else None
            if not match:
                raise InputError(
                    f"{text!r} is not a range of versions", do="Write comparisons as '>=1.2, <2', or '^1.4', or '~1.4'"
                )
            numbers = tuple(map(int, match[2].split(".")))
            version = TagVersion(numbers, pre=_pre_tokens((match[3] or "").lower()))
            comparisons += _comparisons(match[1] or "=", version)
        return cls(tuple(comparisons))

    @property
    def names_a_pre_release(self) -> bool:
        """Whether a comparison does; then those within the range are meant too."""
        return any(one.version.pre for one in self.comparisons)

    def contains(self, version: TagVersion, *, pre_releases: bool = False) -> bool:
        """Whether a version lies in it. pre_releases: take them although no comparison names one. Days written without
        dots are no versions to a range of small numbers: alpine's 20260127 is not above 3.20."""
        if version.pre and not (pre_releases or self.names_a_pre_release):
            return False
        if version.date and not any(one.version.numbers[0] >= _FIRST_YEAR for one in self.comparisons):
            return False
        return all(one.holds(version) for one in self.comparisons)


def _comparisons(sign: str, version: TagVersion) -> list[_Comparison]:
    numbers = version.numbers
    padded = (*numbers, 0, 0)[: max(3, len(numbers))]
    if sign == "^":
        at = next((place for place, number in enumerate(padded) if number), len(padded) - 1)
    elif sign == "~":
        at = 1 if len(numbers) > 1 else 0
    else:
        return [_Comparison(sign, version)]
    top = TagVersion((*padded[:at], padded[at] + 1))
    return [_Comparison(">=", version), _Comparison("<", top)]


__all__ = ["OrderKey", "Range", "TagVersion", "names_a_pre_release", "natural", "order_key", "read_version"]
