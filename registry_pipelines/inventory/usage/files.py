"""Who runs what, by a file: an answer that ``usage --save`` kept, or lines that another program wrote.

JSON: ``{"schema": 1, "at": "2026-11-29T10:00:00Z", "uses": [{"image": "host/repository@sha256:..."}], "unanswered":
{}}``; of a use ``image`` (or ``config``, an image's id) is enough, the rest is :class:`~.model.Use`. Lines: one is
``# at 2026-11-29T10:00:00Z``, each other one an image and, after a space, where; empty lines and further lines that
begin with ``#`` are nothing. A file's own time says nothing, for a copy has another: without ``at`` its age is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from registry_pipelines.errors import InputError, LocalError, Unavailable
from registry_pipelines.inventory.usage.model import Answer, Use
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.files import write_file
from registry_pipelines.oci.times import CLOCK_SKEW, read_time
from registry_pipelines.progress import age_text

SCHEMA = 1
MAX_FILE_BYTES = 512 * 1024 * 1024
"""A million uses."""
AT = "# at "
FORMS = "Save it with `registry-pipelines usage --save FILE`, or begin lines with `# at TIME`"


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON form. unanswered: by source why it did not answer when the rest was saved."""

    schema: int
    at: datetime
    uses: tuple[Use, ...] = ()
    unanswered: dict[str, str] = {}
    notes: tuple[str, ...] = ()


class FileSource:
    """See UsageSource, and Dated. now: with time zone. max_age: of the answer."""

    def __init__(self, name: str, path: Path, *, max_age: timedelta, now: datetime) -> None:
        self.name, self.answered = name, now
        self.notes: Sequence[str] = ()
        self._path, self._max_age, self._now = path, max_age, now

    def uses(self) -> Iterator[Use]:
        """See UsageSource. Raises Unavailable: it is older than it may be, or was not whole when it was saved; a clock
        that is ahead by more than that is not believed."""
        saved = read_saved(self._path)
        self.answered, age = saved.at, self._now - saved.at
        self.notes = [f"{self.name}: {each}" for each in saved.notes]
        if age < timedelta(0):
            self.notes = [*self.notes, f"{self.name}: its time is {age_text(-age.total_seconds())} in the future"]
        for use in saved.uses:
            before = f"{use.source}: " if use.source and use.source != self.name else ""
            yield msgspec.structs.replace(use, source=self.name, where=f"{before}{use.where}" or self._path.name)
        if age > self._max_age:
            raise Unavailable(
                f"the answer is {age_text(age.total_seconds())} old, and may be "
                f"{age_text(self._max_age.total_seconds())}",
                where=str(self._path),
                do="Save it again",
            )
        if -age > max(self._max_age, CLOCK_SKEW):
            raise Unavailable(
                f"the answer is of {saved.at:%Y-%m-%d %H:%M} UTC, which is to come: its age is not known",
                where=str(self._path),
                do="Set the clock of the machine that saves it",
            )
        if saved.unanswered:
            told = "; ".join(f"{name}: {why}" for name, why in saved.unanswered.items())
            raise Unavailable(f"it was saved without what did not answer then: {told}", where=str(self._path))


def read_saved(path: Path) -> Saved:
    """A file of either form. Raises InputError: it cannot be read, or its time is not in it."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    if len(raw) > MAX_FILE_BYTES:
        raise InputError(f"is larger than {MAX_FILE_BYTES} bytes", where=str(path))
    return read_bytes(raw, where=str(path))


def read_bytes(raw: bytes, *, where: str) -> Saved:
    """The same of bytes. Raises InputError."""
    saved = _document(raw, where) if raw.lstrip()[:1] == b"{" else _lines(raw, where)
    if saved.schema != SCHEMA:
        raise InputError(f"the file has schema {saved.schema}; this build knows {SCHEMA}", where=where, do=FORMS)
    if saved.at.tzinfo is None:
        raise InputError("its time has no zone", where=where, do="Write it like 2026-11-29T10:00:00Z")
    if any(not use.image and use.image_id is None for use in saved.uses):
        raise InputError("an entry of it names no image", where=where, do="Write host/repository@digest")
    return saved


def write_saved(path: Path, answers: Iterable[Answer], now: datetime) -> int:
    """Keep answers as one, which is as old as the oldest; gives how many uses it has. Raises LocalError."""
    answers = list(answers)
    saved = Saved(
        schema=SCHEMA,
        at=min((each.at for each in answers), default=now).astimezone(UTC),
        uses=tuple(use for each in answers for use in each.uses),
        unanswered={each.source: each.problem for each in answers if each.problem},
        notes=tuple(dict.fromkeys(note for each in answers for note in each.notes)),
    )
    try:
        write_file(path, msgspec.json.encode(saved))
    except OSError as error:
        raise LocalError(f"it cannot be written: {error.strerror or error}", where=str(path)) from error
    return len(saved.uses)


def _document(raw: bytes, where: str) -> Saved:
    try:
        return msgspec.json.decode(raw, type=ready(Saved))
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"this is no saved answer: {error}", where=where, do=FORMS) from error


def _lines(raw: bytes, where: str) -> Saved:
    try:
        lines = [line.strip() for line in raw.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError("is no text", where=where, do=FORMS) from error
    told = next((line.removeprefix(AT) for line in lines if line.startswith(AT)), "")
    at = read_time(told.strip())
    if at is None:
        raise InputError("it does not say when it was written", where=where, do=FORMS)
    entries = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    uses = tuple(Use(image=entry[0], where=entry[1] if len(entry) > 1 else "") for entry in entries)
    if wrong := next((use.image for use in uses if use.reference() is None), ""):
        raise InputError(f"{wrong[:200]!r} is no image", where=where, do="Write host/repository@digest, or :tag")
    return Saved(schema=SCHEMA, at=at, uses=uses)


__all__ = ["FileSource", "Saved", "read_bytes", "read_saved", "write_saved"]
