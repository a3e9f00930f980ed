"""What the far side remembers: which bundles were loaded, and what they brought.

One document for each mirror, ``bundles/far/<mirror>/far.json`` of the state, replaced whole. Without it nothing is
lost but memory: content is found in the registry when bundles are loaded again, receipts begin anew under another id,
and only what a tag names says which bundle is newer.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import msgspec

from registry_pipelines.errors import LocalError, StateTooNew
from registry_pipelines.mirror.bundle.format import Bundle
from registry_pipelines.mirror.bundle.receipt import LoadedBundle
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.oci.times import read_time
from registry_pipelines.shared.documents import Documents

SCHEMA = 1
FILE = "far.json"

CLOCKS_APART = timedelta(minutes=10)
"""How far two machines' clocks may differ without a word about it; behind a gap none is set by the network."""


class Origin(msgspec.Struct, frozen=True):
    """Which bundle something came with."""

    line: str
    number: int
    made_at: str = ""
    """RFC 3339, by the near side's clock."""
    builds_on: int = 0
    """Sequence of this far side's receipt that the near side had; 0 for none."""

    @property
    def bundle(self) -> LoadedBundle:
        """Its line and number."""
        return LoadedBundle(self.line, self.number)


class FarTag(msgspec.Struct, frozen=True):
    """A tag that a bundle set, and with which it came."""

    digest: str
    origin: Origin


class FarRepository(msgspec.Struct):
    """All that bundles ever brought to a repository."""

    tags: dict[str, FarTag] = {}
    manifests: dict[str, tuple[str, ...]] = {}
    """Digest to the digests of its blobs."""
    blobs: dict[str, int] = {}
    """Configs and layers with their sizes in bytes."""


class FarState(msgspec.Struct):
    """What the far side knows of a mirror."""

    schema: int = SCHEMA
    mirror: str = ""
    far: str = ""
    """Random id of this state; receipts carry it."""
    sequence: int = 0
    """Of the last receipt."""
    loaded: dict[str, list[int]] = {}
    """Numbers of the bundles that were loaded whole, by line, sorted."""
    marks: dict[str, str] = {}
    """``Bundle.mark`` of each, by line and number with a slash between."""
    repositories: dict[str, FarRepository] = {}

    def has_loaded(self, bundle: Bundle) -> bool:
        """Whether it was loaded whole before: this one, and not another with its number."""
        return bundle.number in self.loaded.get(bundle.line, ()) and not self.number_taken(bundle)

    def number_taken(self, bundle: Bundle) -> bool:
        """Whether another bundle of its line has its number."""
        return self.marks.get(f"{bundle.line}/{bundle.number}", bundle.mark) != bundle.mark

    def note_loaded(self, bundle: Bundle) -> None:
        """It was loaded whole."""
        self.marks[f"{bundle.line}/{bundle.number}"] = bundle.mark
        numbers = {*self.loaded.get(bundle.line, ()), bundle.number}
        self.loaded[bundle.line] = sorted(numbers)

    def origin(self, bundle: Bundle) -> Origin:
        """How what this bundle brings is remembered."""
        base = bundle.receipt
        builds_on = base.sequence if base and base.far == self.far else 0
        return Origin(bundle.line, bundle.number, bundle.made_at, builds_on)

    def repository(self, name: str) -> FarRepository:
        """A repository's memory, begun where there is none."""
        return self.repositories.setdefault(name, FarRepository())

    def holders(self) -> Mapping[str, list[str]]:
        """For each blob that bundles ever brought, the repositories that got it."""
        found: dict[str, list[str]] = {}
        for name, repository in self.repositories.items():
            for digest in repository.blobs:
                found.setdefault(digest, []).append(name)
        return found


def newer(origin: Origin, known: Origin, now: datetime) -> bool:
    """Whether a bundle may move a tag that another one set: it is the same bundle or a later one.

    In one line numbers decide, as long as none is given twice. A new line begins where the near side lost its state,
    and then what counts first is which receipt of ours each side knew, by our own counting; then when they were made,
    by the near sides' clocks. A time in the future decides nothing: the tag stays.
    """
    if origin.line == known.line and origin.number != known.number:
        return origin.number > known.number
    if origin.line == known.line and origin.made_at == known.made_at:
        return True
    if origin.builds_on != known.builds_on:
        return origin.builds_on > known.builds_on
    made, before = read_time(origin.made_at), read_time(known.made_at)
    if made is None or before is None or in_future(origin.made_at, now):
        return False
    return made > before


def in_future(made_at: str, now: datetime) -> bool:
    """Whether a time is further ahead of this machine's clock than clocks differ."""
    made = read_time(made_at)
    return made is not None and made > now + CLOCKS_APART


class FarFolder:
    """Where the state of a mirror is. documents: ``bundles/far/<mirror>`` of the state."""

    def __init__(self, documents: Documents, mirror: str) -> None:
        self.mirror, self._documents = mirror, documents
        self._where = f"{documents.where}/{FILE}"

    @contextmanager
    def held(self) -> Iterator[FarState]:
        """The state, for one process alone: loads of one mirror take turns. Raises StateLocked, and as :meth:`read`."""
        with self._documents.held("far.lock", f"another process loads bundles of {self.mirror}"):
            yield self.read()

    def read(self) -> FarState:
        """The state, a new one where there is none. Raises LocalError for one that cannot be read, StateTooNew."""
        found = self._documents.read(FILE)
        if found is None:
            return FarState(mirror=self.mirror, far=uuid.uuid4().hex)
        try:
            state = msgspec.json.decode(found.content, type=ready(FarState))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._unreadable(str(error)) from error
        if state.schema > SCHEMA:
            raise StateTooNew("what was loaded was noted by a newer build", where=self._where, do="Use that build")
        return state

    def save(self, state: FarState) -> None:
        """Replace it; durable when this returns. Raises DiskFull, LocalError."""
        self._documents.write(FILE, encode_json(state))

    def keep_receipt(self, sequence: int, raw: bytes) -> None:
        """Keep a copy of a receipt. Raises DiskFull, LocalError."""
        self._documents.write(f"receipt-{sequence:04d}.json", raw)

    def _unreadable(self, why: str) -> LocalError:
        return LocalError(
            f"what was loaded cannot be read: {why}",
            where=self._where,
            do="Bring it back from a backup; or remove it: bundles are then loaded as if for the first time",
        )


def utc_now() -> datetime:
    """The time by this machine's clock."""
    return datetime.now(UTC)
