"""How a plan is stored: JSON, one object a line, so that a million images are written, read and searched as a stream.

The first line is the plan (``registry``, ``made_at``, ``rules``, ``totals``, ...). Then comes each repository, a line
with ``repository``, followed by its images, a line with ``image`` (the digest) each. The tags of a repository are those
of its images; what else has a tag (cosign's, lists of referrers) stands in ``more_tags``. The same plan always has the
same bytes, so the digest of the file is what an approval names: ``sha256sum`` and ``grep`` are enough to check one.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from registry_pipelines.collect.plan import INVENTORY, SURVEY, Entry, RepositoryPlan, RetentionPlan, Total
from registry_pipelines.errors import DigestInvalid, InputError, LocalError
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest

PLAN_SCHEMA = 2
"""Of the stored form; another number is refused."""

MAX_PLAN_BYTES = 1024 * 1024 * 1024
"""A plan for a million images has about 300 MB."""

MAX_LINE_BYTES = 64 * 1024 * 1024
"""The line of a repository has its notes and such tags as no image has; that of an image all manifests below it."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    registry: str
    made_at: str
    source: str
    read_at: str
    rules: str
    notes: tuple[str, ...]
    stopped: tuple[str, ...]
    totals: tuple[Total, ...]


class _Repository(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    repository: str
    refused: str = ""
    more_tags: dict[str, str] = {}


class _Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    image: str
    tags: tuple[str, ...]
    created: str
    reasons: tuple[str, ...]
    delete: tuple[str, ...]
    rule: str
    why: str
    freed_bytes: int


def lines(plan: RetentionPlan) -> Iterator[bytes]:
    """The stored form, a line at a time, each with its end."""
    yield header_line(plan)
    for planned in plan.repositories:
        yield from repository_lines(planned)


def header_line(plan: RetentionPlan) -> bytes:
    """The first line."""
    header = _Header(
        PLAN_SCHEMA,
        plan.registry,
        plan.made_at,
        plan.source,
        plan.read_at,
        plan.rules,
        plan.notes,
        plan.stopped,
        plan.totals,
    )
    return msgspec.json.encode(header) + b"\n"


def with_freed(line: bytes, freed_bytes: int) -> bytes:
    """The line of an image that was written without knowing what it frees (0), which stands last in it."""
    return line[: -len(b"0}\n")] + b"%d}\n" % freed_bytes


def repository_lines(planned: RepositoryPlan) -> Iterator[bytes]:
    """One repository with its images, as :func:`lines` writes it."""
    encode = _ENCODER.encode
    told = {tag for entry in planned.entries for tag in entry.tags}
    more = {tag: str(planned.tags[tag]) for tag in sorted(planned.tags.keys() - told)}
    yield encode({"repository": planned.repository, "refused": planned.refused, "more_tags": more}) + b"\n"
    for entry in planned.entries:
        image = {
            "image": entry.digest,
            "tags": entry.tags,
            "created": entry.created,
            "reasons": entry.reasons,
            "delete": entry.delete,
            "rule": entry.rule,
            "why": entry.why,
            "freed_bytes": entry.freed_bytes,
        }
        yield encode(image) + b"\n"


def read_lines(raw: Iterable[bytes]) -> RetentionPlan:
    """A plan from its lines, whole in memory. Raises InputError."""
    found = iter(raw)
    header = _read_header(next(found, b""))
    return _plan(header, tuple(_read_repositories(found)))


def write_plan(plan: RetentionPlan, path: Path) -> Digest:
    """Write a plan, whole or not at all. Returns the digest of the file, which is the plan's. Raises LocalError."""
    stored = plan.repositories
    return write_lines(stored.lines() if isinstance(stored, _Stored) else lines(plan), path)


def write_lines(each: Iterable[bytes], path: Path) -> Digest:
    """As :func:`write_plan`, of lines that are made while they are written."""
    hasher = hashlib.sha256()
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            part = Path(file.name)
            try:
                for line in each:
                    hasher.update(line)
                    file.write(line)
                file.flush()
                os.fsync(file.fileno())
                part.chmod(0o644)
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise LocalError(f"the plan cannot be written: {error.strerror or error}", where=str(path)) from error
    return Digest(f"sha256:{hasher.hexdigest()}")


def open_plan(path: Path) -> RetentionPlan:
    """A stored plan. Its repositories are read from the file each time somebody asks for them, one in memory at once;
    the whole file is read once here, so that what is no plan is told at once. Raises InputError."""
    try:
        if path.stat().st_size > MAX_PLAN_BYTES:
            raise InputError(f"the plan is larger than {MAX_PLAN_BYTES} bytes", where=str(path))
    except OSError as error:
        raise InputError(f"the plan cannot be read: {error.strerror}", where=str(path)) from error
    stored = _Stored(path)
    hasher = hashlib.sha256()
    read = _hashed(stored.lines(), hasher)
    header = _read_header(next(read, b""))
    for _ in _read_repositories(read):
        pass
    return _plan(header, stored, Digest(f"sha256:{hasher.hexdigest()}"))


def just_written(header: RetentionPlan, path: Path, digest: Digest) -> RetentionPlan:
    """As :func:`open_plan`, of a file that :func:`write_lines` has just written. header: the plan in its first line."""
    return replace(header, repositories=_Stored(path), stored_as=digest)


def _hashed(raw: Iterable[bytes], hasher: Any) -> Iterator[bytes]:
    for line in raw:
        hasher.update(line)
        yield line


class _Stored:
    """The repositories of a stored plan, read anew each time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lines(self) -> Iterator[bytes]:
        """All lines of the file, the plan's own first."""
        try:
            with self._path.open("rb") as file:
                while line := file.readline(MAX_LINE_BYTES):
                    yield line
        except OSError as error:
            raise InputError(f"the plan cannot be read: {error.strerror}", where=str(self._path)) from error

    def __iter__(self) -> Iterator[RepositoryPlan]:
        yield from _read_repositories(islice(self.lines(), 1, None))


def _plan(header: _Header, repositories: Iterable[RepositoryPlan], stored_as: Digest | None = None) -> RetentionPlan:
    return RetentionPlan(
        header.registry,
        header.made_at,
        repositories,
        header.notes,
        header.stopped,
        header.rules,
        header.source,
        header.read_at,
        header.totals,
        stored_as,
    )


def _read_header(line: bytes) -> _Header:
    try:
        told = msgspec.json.decode(line, type=ready(dict[str, Any])).get("schema")
        if told != PLAN_SCHEMA:
            raise InputError(f"the plan has schema {told!r}"[:200], do="Make a new plan with this version")
        header = msgspec.json.decode(line, type=ready(_Header))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InputError("this is not a retention plan", do="Make a new one") from error
    if header.source not in (SURVEY, INVENTORY):
        raise InputError(f"the plan was made from {header.source[:100]!r}", do="Make a new plan with this version")
    return header


def _read_repositories(raw: Iterable[bytes]) -> Iterator[RepositoryPlan]:
    waiting: _Repository | None = None
    entries: list[Entry] = []
    try:
        for line in raw:
            if line.startswith(b'{"repository"'):
                if waiting is not None:
                    yield _repository(waiting, entries)
                waiting, entries = msgspec.json.decode(line, type=ready(_Repository)), []
            else:
                entries.append(_entry(msgspec.json.decode(line, type=ready(_Image))))
                if waiting is None:
                    raise InputError("this is not a retention plan: an image before a repository")
        if waiting is not None:
            yield _repository(waiting, entries)
    except (msgspec.MsgspecError, DigestInvalid, RecursionError, UnicodeDecodeError) as error:
        raise InputError("this is not a retention plan, or it is cut or damaged", do="Make a new one") from error


def _entry(image: _Image) -> Entry:
    return Entry(
        Digest.parse(image.image),
        image.tags,
        image.created,
        image.reasons,
        tuple(map(Digest.parse, image.delete)),
        image.freed_bytes,
        image.rule,
        image.why,
    )


def _repository(read: _Repository, entries: list[Entry]) -> RepositoryPlan:
    tags = {tag: entry.digest for entry in entries for tag in entry.tags}
    tags.update((tag, Digest.parse(digest)) for tag, digest in read.more_tags.items())
    return RepositoryPlan(read.repository, tags, tuple(entries), read.refused)


_ENCODER = msgspec.json.Encoder(enc_hook=str)
"""Digests are a ``str`` of our own, which msgspec asks about."""
