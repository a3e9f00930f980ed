"""OSV records (OSV schema 1.7, ossf.github.io/osv-schema): reading them, and what comes in another form as them."""

from __future__ import annotations

import re
from datetime import UTC, date
from typing import Any, Literal

import msgspec
import yaml

from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.times import read_time
from registry_pipelines.scan.requirement_records import is_rubysec, rubysec, rustsec
from registry_pipelines.scan.versions import normal_ecosystem

MAX_RECORD_BYTES = 8 * 1024 * 1024
"""One record; the largest known list some 10,000 versions and stay below 1 MiB."""

MAX_SUMMARY_CHARACTERS = 240
"""A report shows one line a finding; the full text stays with the advisory's publisher."""

_NEVER_BEFORE = "1990"
"""No record is older."""

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
    """A severity: ``CVSS_V2``, ``_V3`` or ``_V4`` with a vector, or ``Ubuntu`` with that distribution's priority."""

    type: str
    score: str


class Remarks(msgspec.Struct, omit_defaults=True):
    """The publisher's own fields that we read. Their shapes are the publisher's: none makes a record unreadable."""

    severity: Any = None
    """A word: GitHub's record, npm, distributions."""
    urgency: Any = None
    """Debian's."""
    cvss: Any = None
    """A vector: RustSec."""


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
    published: str | None = None
    """Read where ``modified`` says nothing; not kept."""
    withdrawn: str | None = None
    aliases: list[str] | None = None
    upstream: list[str] | None = None
    summary: str | None = None
    details: str | None = None
    affected: list[Affected] | None = None
    severity: list[Score] | None = None
    database_specific: Remarks | None = None


class RecordInvalid(ValueError):
    """A record cannot be read; inside the scan room only, it becomes an Unknown with this text as reason."""


Form = Literal["json", "yaml", "markdown"]
"""``markdown``: RustSec's own."""


def read_record(raw: bytes, *, form: Form) -> Record:
    """Parse one record; unknown fields are left out. YAML may be RubySec's own form. Raises RecordInvalid with the
    reason.

    YAML: unquoted timestamps arrive as datetimes and are taken; unquoted versions (1.10 becomes 1.1) are refused, and
    so are aliases, which no publisher uses and which expand without bound.
    """
    if len(raw) > MAX_RECORD_BYTES:
        raise RecordInvalid(f"has {len(raw)} bytes, at most {MAX_RECORD_BYTES} are read")
    try:
        record = (
            msgspec.json.decode(raw, type=ready(Record))
            if form == "json"
            else msgspec.convert(_load_yaml(raw) if form == "yaml" else rustsec(raw), ready(Record))
        )
    except (
        msgspec.MsgspecError,
        yaml.YAMLError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
        OverflowError,
    ) as error:
        raise RecordInvalid(" ".join(str(error).split())[:300] or type(error).__name__) from error
    if record.schema_version and not _SUPPORTED_SCHEMA.match(record.schema_version):
        raise RecordInvalid(f"has the unknown schema_version {record.schema_version[:40]!r}")
    record.modified = _timestamp(record.modified, "modified")
    if record.modified < _NEVER_BEFORE and record.published:  # golang/vulndb's files: Go's zero time
        record.modified = _timestamp(record.published, "published")
    record.published = None
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
        for name in ("modified", "published", "withdrawn"):
            value = document.get(name)
            if isinstance(value, date):
                document[name] = value.isoformat()
    if is_rubysec(document):
        return rubysec(document)
    return document


def _timestamp(text: str, what: str) -> str:
    moment = read_time(text, zone=UTC)
    if moment is None:
        raise RecordInvalid(f"`{what}` {text[:40]!r} is not a time")
    return f"{moment.replace(tzinfo=None).isoformat(timespec='seconds')}Z"  # strftime pads no year below 1000


def _one_line(record: Record) -> str:
    text = record.summary or record.details or ""
    line = " ".join(text.split())
    return line if len(line) <= MAX_SUMMARY_CHARACTERS else line[: MAX_SUMMARY_CHARACTERS - 1] + "…"
