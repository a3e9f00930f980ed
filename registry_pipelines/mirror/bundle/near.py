"""What the near side remembers of a mirror's bundles: their numbers, the one that is half made, receipts that came.

Documents below ``bundles/near/<mirror>`` of the state, each replaced at once; who writes holds their lock. What is
lost costs a full bundle: a new one begins another line, with number 1.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from registry_pipelines.errors import InputError, LocalError, RegistryPipelinesError
from registry_pipelines.mirror.bundle.contents import Draft
from registry_pipelines.mirror.bundle.format import (
    MAX_DOCUMENT_BYTES,
    Bundle,
    Part,
    bundle_name,
    document_name,
    read_bundle,
    read_document_name,
)
from registry_pipelines.mirror.bundle.receipt import BundleReceipt, SignedReceipt, peek_receipt
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.oci.times import read_time
from registry_pipelines.shared.documents import Documents

_T = TypeVar("_T")

_LINE, _DRAFT, _PROGRESS = "line.json", "draft.json", "draft.parts.json"

KEPT = 50
"""Bundles that can be made again in part; of older ones the documents go."""


MAX_LOST = 10_000
"""Bundles that may have been made since a backup; a receipt that tells of more says nothing that is counted on."""


class Line(msgspec.Struct, frozen=True):
    """The line that this state counts. last: number of the newest bundle, 0 before the first."""

    line: str
    last: int = 0


class DonePart(msgspec.Struct, frozen=True):
    """A finished part, and where it was written."""

    part: Part
    folder: str


class Progressed(msgspec.Struct, frozen=True):
    """How far a half made bundle came. under_way: file and folder of the part that was begun last."""

    done: tuple[DonePart, ...] = ()
    under_way: tuple[str, str] | None = None


class NearState:
    """The documents. Made when something is first written; reading makes nothing."""

    def __init__(self, documents: Documents, mirror: str) -> None:
        self.documents, self.mirror = documents, mirror

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else makes a bundle of this mirror meanwhile. Raises StateLocked, LocalError."""
        with self.documents.held("lock", f"another process makes a bundle of {self.mirror}"):
            yield

    def line(self) -> Line:
        """The line, begun where there is none."""
        known = self._read(_LINE, Line)
        if known is None:
            known = Line(uuid.uuid4().hex)
            self._write(_LINE, known)
        return known

    # The half made one

    def draft(self) -> Draft | None:
        """The bundle that was begun and not finished."""
        return self._read(_DRAFT, Draft)

    def begin(self, draft: Draft) -> None:
        """Keep a planned bundle; its number is taken from now on."""
        self._write(_PROGRESS, Progressed())
        self._write(_LINE, Line(draft.bundle.line, draft.bundle.number))
        self._write(_DRAFT, draft)

    def progressed(self) -> Progressed:
        """How far it came."""
        return self._read(_PROGRESS, Progressed) or Progressed()

    def keep(self, progressed: Progressed) -> None:
        """It came so far; durable when this returns."""
        self._write(_PROGRESS, progressed)

    def drop(self) -> None:
        """The half made bundle is given up; its number is not used again."""
        self.documents.delete(_DRAFT)
        self.documents.delete(_PROGRESS)

    # Finished ones

    def finish(self, draft: Draft, document: bytes) -> None:
        """A bundle is whole. document: its signed file."""
        number = draft.bundle.number
        self.documents.write(f"made/{document_name(self.mirror, number)}", document)
        self.documents.write(f"made/{bundle_name(self.mirror, number)}.draft.json", encode_json(draft))
        self.drop()
        for old in self.numbers()[:-KEPT]:
            for each in self.documents.entries("made"):
                if each.name.startswith(f"{bundle_name(self.mirror, old)}."):
                    self.documents.delete(f"made/{each.name}")

    def numbers(self) -> list[int]:
        """Numbers of the finished bundles that are remembered, the oldest first."""
        names = [read_document_name(each.name) for each in self.documents.entries("made")]
        return sorted(name[1] for name in names if name and name[0] == self.mirror)

    def document(self, number: int) -> bytes:
        """The signed file of a finished bundle. Raises InputError for one that is not remembered."""
        found = self.documents.read(f"made/{document_name(self.mirror, number)}", most=MAX_DOCUMENT_BYTES)
        if found is None:
            known = ", ".join(map(str, self.numbers()[-10:])) or "none"
            raise InputError(
                f"no bundle {number} of {self.mirror} is remembered here; known: {known}",
                do="Parts are made again where the bundle was made, with its state; else make a new bundle",
            )
        return found.content

    def bundle(self, number: int) -> Bundle:
        """What a finished bundle holds. Raises InputError, ManifestInvalid."""
        return read_bundle(self.document(number), where=document_name(self.mirror, number)).bundle

    def made_from(self, number: int) -> Draft:
        """Where the content of a finished bundle is. Raises InputError."""
        self.document(number)
        draft = self._read(f"made/{bundle_name(self.mirror, number)}.draft.json", Draft)
        if draft is None:
            raise InputError(f"it is not remembered where bundle {number} was made from", do="Make a new bundle")
        return draft

    # Receipts

    def receipts(self) -> list[SignedReceipt]:
        """The latest receipt of each far side that sent one, the one that came last at the end. They were believed when
        they came."""
        came = sorted(self.documents.entries("receipts"), key=lambda each: (each.at, each.name))
        names = [f"receipts/{each.name}" for each in came if each.name.endswith(".json")]
        kept = {name: found.content for name in names if (found := self.documents.read(name))}
        return [peek_receipt(raw, where=f"{self.documents.where}/{name}") for name, raw in kept.items()]

    def keep_receipt(self, receipt: SignedReceipt) -> bool:
        """Keep a receipt that is believed; False where a later one of the same far side is here already, which stays.
        Raises LocalError."""
        if any(_later(known.receipt, receipt.receipt) for known in self.receipts()):
            return False
        self.documents.write(f"receipts/{receipt.receipt.far}.json", receipt.raw)
        return True

    def renew_line(self) -> bool:
        """Begin another line where a far side loaded a bundle of this one that is not known here: this state came back
        from a backup, and would give a number twice. Numbers go on, so no two files have one name. Whether it did."""
        line = self.line()
        loaded = [each for one in self.receipts() for each in one.receipt.loaded if each.line == line.line]
        last = max((each.number for each in loaded), default=0)
        if last <= line.last:
            return False
        self._write(_LINE, Line(uuid.uuid4().hex, last if last < line.last + MAX_LOST else line.last))
        return True

    def _write(self, name: str, value: Line | Draft | Progressed) -> None:
        self.documents.write(name, encode_json(value))

    def _read(self, name: str, kind: type[_T]) -> _T | None:
        found, where = self.documents.read(name), f"{self.documents.where}/{name}"
        if found is None:
            return None
        try:
            return decode_json(found.content, ready(kind), where=where, what="state of bundles")
        except RegistryPipelinesError as error:
            raise LocalError(
                f"it cannot be read: {error.what}",
                where=where,
                do="Move the folder away: a new line of bundles begins",
            ) from error


def _later(known: BundleReceipt, other: BundleReceipt) -> bool:
    """Whether a receipt is known that replaces another: of the same far side, with a higher sequence. By a far state
    that came back from a backup sequences begin again; then the far side's own clock decides."""
    if known.far != other.far or known.sequence < other.sequence or known == other:
        return False
    made, before = read_time(other.made_at), read_time(known.made_at)
    return made is None or before is None or made <= before


def brought(near: NearState, line: str, wanted: Sequence[str]) -> dict[str, int]:
    """Of these blobs the first bundle of a line that brought each, as far as it is remembered."""
    left, found = set(wanted), dict[str, int]()
    for number in near.numbers():
        bundle = near.bundle(number)
        if bundle.line != line or not left:
            continue
        here = {str(blob.digest) for blob in bundle.blobs} & left
        found |= dict.fromkeys(here, number)
        left -= here
    return found
