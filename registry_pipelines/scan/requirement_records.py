"""Advisories in the own forms of RubySec and RustSec, as their repositories hold them, read as OSV records.

Both say which versions are *not* affected: ``patched`` and ``unaffected`` requirements. What is affected is everything
else, written here as OSV events. Sources: rubysec/ruby-advisory-db (README, ``Gem::Requirement``), RustSec/advisory-db
(README, Cargo's version requirements). A requirement that cannot be read makes the record unreadable, never clean.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import total_ordering
from typing import Any

from registry_pipelines.scan.versions import parse_version

MAX_REQUIREMENTS = 200
"""Of one record; the largest known has some 20."""

_FRONT = re.compile(rb"\A\s*```toml\r?\n(.*?)\r?\n```", re.DOTALL)
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_PART = re.compile(r"(~>|>=|<=|!=|>|<|=|\^|~)?\s*v?([0-9][0-9A-Za-z.+-]*)\Z")
_CARGO = re.compile(r"([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+)(-[0-9A-Za-z.-]+)?)?(?:\+.*)?\Z")
_LOWEST_WORD = "A"
"""Sorts below every word of a gem's pre-release: capitals come first."""


@total_ordering
@dataclass(frozen=True, eq=False)
class _Cut:
    """A place between versions: just before one, or just after it."""

    text: str
    value: Any
    after: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Cut) and (self.value, self.after) == (other.value, other.after)

    def __lt__(self, other: _Cut) -> bool:
        return bool(self.value < other.value) or (self.value == other.value and self.after < other.after)

    def __hash__(self) -> int:
        return hash((self.value, self.after))


_Interval = tuple[_Cut | None, _Cut | None]
"""From where to where; None: from the beginning, to the end."""


def is_rubysec(document: Any) -> bool:
    """Whether a YAML document is one of RubySec's about a gem."""
    return isinstance(document, dict) and "gem" in document and "id" not in document


def rubysec(document: Mapping[str, Any]) -> dict[str, Any]:
    """RubySec's form as OSV's. Raises ValueError with the reason."""
    gem, day = document["gem"], document.get("date")
    names = [f"{kind}-{document[key]}" for kind, key in (("CVE", "cve"), ("GHSA", "ghsa")) if document.get(key)]
    osvdb = [f"OSVDB-{document['osvdb']}"] if document.get("osvdb") else []
    if not isinstance(gem, str) or not [*names, *osvdb]:
        raise ValueError("it names no gem, or has neither `cve`, `ghsa` nor `osvdb`")
    scores = [document.get(key) for key in ("cvss_v4", "cvss_v3", "cvss_v2")]
    return {
        "id": f"RUBYSEC-{gem}-{[*names, *osvdb][0]}",
        "modified": day.isoformat() if isinstance(day, date) else str(day),
        "aliases": names,
        "summary": document.get("title"),
        "affected": [
            _affected("RubyGems", gem, [document.get(key) for key in ("patched_versions", "unaffected_versions")])
        ],
        "database_specific": {"severity": _word(next((each for each in scores if each is not None), None))},
    }


def rustsec(raw: bytes) -> dict[str, Any]:
    """RustSec's form, TOML in Markdown, as OSV's. Raises ValueError with the reason."""
    front = _FRONT.match(raw)
    if front is None:
        raise ValueError("it does not begin with a block of TOML")
    document = tomllib.loads(front[1].decode())
    advisory, versions = document["advisory"], document.get("versions", {})
    title = _TITLE.search(raw[front.end() :].decode("utf-8", "replace"))
    return {
        "id": advisory["id"],
        "modified": str(advisory["date"]),
        "withdrawn": str(advisory["withdrawn"]) if "withdrawn" in advisory else None,
        "aliases": advisory.get("aliases", []),
        "summary": title[1] if title else None,
        "affected": [
            _affected("crates.io", advisory["package"], [versions.get("patched"), versions.get("unaffected")])
        ],
        **({"severity": [{"type": "CVSS_V3", "score": advisory["cvss"]}]} if advisory.get("cvss") else {}),
    }


def _word(score: Any) -> str | None:
    """The word of a base score, as CVSS's specification has them."""
    if not isinstance(score, int | float):
        return None
    bounds = ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.1, "low"))
    return next((word for bound, word in bounds if score >= bound), None)


def _affected(ecosystem: str, name: str, stated: Sequence[Any]) -> dict[str, Any]:
    texts = [text for requirements in stated for text in requirements or ()]
    if len(texts) > MAX_REQUIREMENTS or not all(isinstance(text, str) for text in texts):
        raise ValueError("its requirements are no list of texts, or too many")
    safe = [_interval(ecosystem, text) for text in texts]
    events: list[dict[str, str]] = []
    for low, high in _others(each for each in safe if each):
        events.append({"introduced": "0" if low is None else _beginning(ecosystem, low)})
        if high is not None:
            events.append({"last_affected" if high.after else "fixed": high.text})
    if not events:  # everything is patched or unaffected
        events = [{"introduced": "0"}, {"fixed": "0.0.0-0" if ecosystem == "crates.io" else "0.A"}]
    return {"package": {"ecosystem": ecosystem, "name": name}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}


def _beginning(ecosystem: str, cut: _Cut) -> str:
    """The lowest version behind a cut."""
    if not cut.after:
        return "0.0" if cut.text == "0" else cut.text  # "0" alone is below every version in OSV, also below 0.a
    if ecosystem == "RubyGems":
        return f"{cut.text}.0.0.0.0.0.1"
    match = _CARGO.match(cut.text)
    if match is None or match[3] is None or match[4]:
        return f"{cut.text}.0"
    return f"{match[1]}.{match[2]}.{int(match[3]) + 1}-0"


def _others(safe: Iterable[_Interval]) -> list[_Interval]:
    """What no interval holds."""
    left: list[_Interval] = []
    reached: _Cut | None = None
    begun = False
    for low, high in sorted(safe, key=lambda each: (each[0] is not None, each[0] or 0)):
        if low is not None and (not begun or (reached is not None and reached < low)):
            left.append((reached, low))
        if high is None:
            return left
        if not begun or (reached is not None and reached < high):
            reached = high
        begun = True
    return [*left, (reached, None)]


def _interval(ecosystem: str, text: str) -> _Interval | None:
    """What all parts of a requirement permit; None for nothing."""
    low: _Cut | None = None
    high: _Cut | None = None
    for part in text.split(","):
        match = _PART.match(part.strip())
        if match is None or match[1] == "!=":
            raise ValueError(f"the requirement {text[:60]!r} cannot be read")
        bounds = _gem(match[1], match[2]) if ecosystem == "RubyGems" else _cargo(match[1], match[2])
        begin, end = ((_cut(ecosystem, *each) if each else None) for each in bounds)
        low = begin if low is None or (begin is not None and low < begin) else low
        high = end if high is None or (end is not None and end < high) else high
    return None if low is not None and high is not None and high <= low else (low, high)


def _cut(ecosystem: str, text: str, after: bool) -> _Cut:
    value = parse_version(ecosystem, text)
    if value is None:
        raise ValueError(f"{text[:60]!r} is not a {ecosystem} version")
    return _Cut(text, value, after)


_Bounds = tuple[tuple[str, bool] | None, tuple[str, bool] | None]


def _plain(operator: str, low: str, high: str) -> _Bounds:
    """low, high: the first version that is meant, and the first behind it that is not; empty: exactly the first."""
    behind = (high, False) if high else (low, True)
    match operator:
        case ">=":
            return (low, False), None
        case ">":
            return behind, None
        case "<":
            return None, (low, False)
        case "<=":
            return None, behind
        case _:
            return (low, False), behind


def _gem(operator: str | None, text: str) -> _Bounds:
    """``~> 2.2.20`` is from there below 2.3, of which pre-releases are not meant either."""
    if operator in ("^", "~"):
        raise ValueError(f"{operator} is no operator of RubyGems")
    if operator != "~>":
        return _plain(operator or "=", text, "")
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    kept = numbers[:-1] or numbers
    return (text, False), (".".join(map(str, [*kept[:-1], kept[-1] + 1])) + f".{_LOWEST_WORD}", False)


def _cargo(operator: str | None, text: str) -> _Bounds:
    """Cargo's, whose versions may leave out numbers; without an operator ``^`` is meant."""
    match = _CARGO.match(text)
    if match is None or operator == "~>":
        raise ValueError(f"{text[:60]!r} is no requirement of Cargo's")
    numbers = [int(part) for part in match.group(1, 2, 3) if part is not None]
    low = ".".join(map(str, [*numbers, 0, 0][:3])) + (match[4] or "")
    partly = _next(numbers, len(numbers) - 1) if len(numbers) < 3 else ""
    if operator in (None, "^"):
        first = next((at for at, number in enumerate(numbers) if number), len(numbers) - 1)
        return (low, False), (_next(numbers, first), False)
    if operator == "~":
        return (low, False), (_next(numbers, min(1, len(numbers) - 1)), False)
    return _plain(operator, low, partly)


def _next(numbers: Sequence[int], at: int) -> str:
    """The lowest version with a higher number at a place."""
    return ".".join(map(str, [*numbers[:at], numbers[at] + 1, 0, 0][:3])) + "-0"
