"""OSV records (OSV schema 1.6, ossf.github.io/osv-schema): reading them, and whether a version is affected."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import yaml

from registry_pipelines.scan.cvss import base_score, severity_of
from registry_pipelines.scan.interface import Severity
from registry_pipelines.scan.versions import normal_ecosystem, normal_name, parse_version

MAX_RECORD_BYTES = 8 * 1024 * 1024
"""One record; the largest known list some 10,000 versions and stay below 1 MiB."""

MAX_SUMMARY_CHARACTERS = 240
"""A report shows one line a finding; the full text stays with the advisory's publisher."""

_WORDS: dict[str, Severity] = {
    "critical": "CRITICAL",
    "high": "HIGH",
    "important": "HIGH",
    "moderate": "MEDIUM",
    "medium": "MEDIUM",
    "low": "LOW",
    "negligible": "LOW",
}
_ALIAS = re.compile(rb"(?:^|[\s\[,:-])\*[A-Za-z0-9_-]+", re.MULTILINE)
_SUPPORTED_SCHEMA = re.compile(r"1\.\d+\.\d+")


class Event(msgspec.Struct, omit_defaults=True):
    """One event of a range; exactly one field is set in a well-formed record."""

    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None
    limit: str | None = None


class Range(msgspec.Struct, omit_defaults=True):
    """``type`` is ``ECOSYSTEM``, ``SEMVER`` or ``GIT``."""

    type: str
    events: list[Event] | None = None


class Package(msgspec.Struct, omit_defaults=True):
    """What a record speaks of."""

    ecosystem: str
    name: str


class Score(msgspec.Struct, omit_defaults=True):
    """A severity: ``CVSS_V3`` with a vector, or a distribution's word."""

    type: str
    score: str


class Remarks(msgspec.Struct, omit_defaults=True):
    """The publisher's own fields that we read."""

    severity: str | list[Any] | None = None


class Affected(msgspec.Struct, omit_defaults=True):
    """One package and its affected versions."""

    package: Package | None = None
    ranges: list[Range] | None = None
    versions: list[str] | None = None
    severity: list[Score] | None = None
    ecosystem_specific: Remarks | None = None
    database_specific: Remarks | None = None


class Record(msgspec.Struct, omit_defaults=True):
    """One advisory. ``modified`` and ``withdrawn`` are RFC 3339, UTC, after :func:`read_record`."""

    id: str
    modified: str
    schema_version: str = ""
    withdrawn: str | None = None
    aliases: list[str] | None = None
    summary: str | None = None
    details: str | None = None
    affected: list[Affected] | None = None
    severity: list[Score] | None = None
    database_specific: Remarks | None = None


class RecordInvalid(ValueError):
    """A record cannot be read; inside the scan room only, it becomes an Unknown with this text as reason."""


def read_record(raw: bytes, *, is_yaml: bool) -> Record:
    """Parse one record, JSON or YAML; unknown fields are left out. Raises RecordInvalid with the reason.

    YAML: unquoted timestamps arrive as datetimes and are taken; unquoted versions (1.10 becomes 1.1) are refused, and
    so are aliases, which no publisher uses and which expand without bound.
    """
    if len(raw) > MAX_RECORD_BYTES:
        raise RecordInvalid(f"has {len(raw)} bytes, at most {MAX_RECORD_BYTES} are read")
    try:
        record = msgspec.convert(_load_yaml(raw), Record) if is_yaml else msgspec.json.decode(raw, type=Record)
    except (msgspec.MsgspecError, yaml.YAMLError, UnicodeError, RecursionError, ValueError, OverflowError) as error:
        raise RecordInvalid(" ".join(str(error).split())[:300] or type(error).__name__) from error
    if record.schema_version and not _SUPPORTED_SCHEMA.match(record.schema_version):
        raise RecordInvalid(f"has the unknown schema_version {record.schema_version[:40]!r}")
    record.modified = _timestamp(record.modified, "modified")
    record.withdrawn = _timestamp(record.withdrawn, "withdrawn") if record.withdrawn else None
    record.summary = _one_line(record)
    record.details = None
    for entry in record.affected or ():
        if entry.package is not None:
            entry.package.ecosystem = normal_ecosystem(entry.package.ecosystem)
    return record


def _load_yaml(raw: bytes) -> Any:
    if _ALIAS.search(raw) and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(raw, yaml.CSafeLoader)):
        raise RecordInvalid("uses YAML aliases")
    document = yaml.load(raw, Loader=yaml.CSafeLoader)
    if isinstance(document, dict):
        for name in ("modified", "withdrawn"):
            value = document.get(name)
            if isinstance(value, date):
                document[name] = value.isoformat()
    return document


def _timestamp(text: str, what: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RecordInvalid(f"`{what}` {text[:40]!r} is not a time") from error
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _one_line(record: Record) -> str:
    text = record.summary or record.details or ""
    line = " ".join(text.split())
    return line if len(line) <= MAX_SUMMARY_CHARACTERS else line[: MAX_SUMMARY_CHARACTERS - 1] + "…"


@dataclass
class Judgement:
    """Whether a version is affected by a record's entries for its package."""

    affected: bool = False
    fixed: list[str] = field(default_factory=list)
    """Versions above it that fix it."""
    problems: list[str] = field(default_factory=list)
    """Why parts could not be compared. They matter only when ``affected`` is False: a hit stays a hit."""


def entries_for(record: Record, ecosystem: str, name: str) -> list[Affected]:
    """The record's entries about one package."""
    return [
        entry
        for entry in record.affected or ()
        if entry.package is not None
        and entry.package.ecosystem == ecosystem
        and normal_name(ecosystem, entry.package.name) == name
    ]


def judge(entries: list[Affected], ecosystem: str, version: str) -> Judgement:
    """OSV schema, "Evaluation": listed in ``versions`` **or** inside any range.

    The two disagree in real records (gevent 23.9.0, PYSEC-2023-177), and then the safe answer is "affected".
    """
    result = Judgement()
    value = parse_version(ecosystem, version)
    for entry in entries:
        listed = entry.versions or []
        if version in listed or (value is not None and any(parse_version(ecosystem, text) == value for text in listed)):
            result.affected = True
        ranges = [found for found in entry.ranges or () if found.type != "GIT"]
        if value is None:
            result.problems.append(f"version {version!r} is not a {ecosystem} version")
            continue
        if not listed and not ranges:
            result.problems.append("the record names neither versions nor version ranges")
        for found in ranges:
            _judge_range(found.events or [], ecosystem, value, result)
    result.fixed = _fixes(entries, ecosystem, value)
    return result


def _judge_range(events: list[Event], ecosystem: str, value: Any, result: Judgement) -> None:
    steps: list[tuple[bool, Any, int]] = []
    below_limit: list[bool] = []
    for event in events:
        texts = [(0, event.fixed), (1, event.introduced), (2, event.last_affected), (3, event.limit)]
        stated = [(order, text) for order, text in texts if text is not None]
        if len(stated) != 1:
            result.problems.append("an event states not exactly one of introduced, fixed, last_affected, limit")
            return
        order, text = stated[0]
        if (order, text) == (1, "0") or (order, text) == (3, "*"):
            steps.append((False, None, order)) if order == 1 else below_limit.append(True)
            continue
        bound = parse_version(ecosystem, text)
        if bound is None:
            result.problems.append(f"the event version {text[:80]!r} is not a {ecosystem} version")
            return
        if order == 3:
            below_limit.append(value < bound)
        else:
            steps.append((True, bound, order))
    if (not below_limit or any(below_limit)) and _inside(steps, value):
        result.affected = True


def _inside(steps: list[tuple[bool, Any, int]], value: Any) -> bool:
    """Walk the events upwards. At equal versions: fixed, introduced, last_affected."""
    inside = False
    beginning = [step for step in steps if not step[0]]
    ordered = sorted(sorted((step for step in steps if step[0]), key=lambda step: step[2]), key=lambda step: step[1])
    for bounded, bound, order in [*beginning, *ordered]:
        if order == 1 and (not bounded or value >= bound):
            inside = True
        elif (order == 0 and value >= bound) or (order == 2 and value > bound):
            inside = False
    return inside


def _fixes(entries: list[Affected], ecosystem: str, value: Any | None) -> list[str]:
    fixes: dict[str, Any] = {}
    for entry in entries:
        for found in entry.ranges or ():
            for event in (found.events or ()) if found.type != "GIT" else ():
                bound = parse_version(ecosystem, event.fixed) if event.fixed is not None else None
                if event.fixed is not None and bound is not None and value is not None and bound > value:
                    fixes[event.fixed] = bound
    return sorted(fixes, key=lambda text: fixes[text])


def rate(record: Record, entries: list[Affected]) -> tuple[Severity, float | None]:
    """Severity and CVSS v3 base score. The entry's severity overrides the record's; vectors before words; else UNKNOWN.

    Versions 2 and 4 of CVSS are not computed: such a record falls back to its publisher's word, if it has one.
    """
    own = [score for entry in entries for score in entry.severity or ()]
    scores = own or list(record.severity or ())
    numbers = [number for score in scores if (number := base_score(score.score)) is not None]
    if numbers:
        return severity_of(max(numbers)), max(numbers)
    words = [score.score for score in scores]
    for remarks in [*(entry.ecosystem_specific for entry in entries), *(entry.database_specific for entry in entries)]:
        words.append(remarks.severity if remarks and isinstance(remarks.severity, str) else "")
    if record.database_specific and isinstance(record.database_specific.severity, str):
        words.append(record.database_specific.severity)
    known = [_WORDS[word.lower()] for word in words if word.lower() in _WORDS]
    return (known[0] if known else "UNKNOWN"), None
