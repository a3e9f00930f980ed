"""What was set aside, as a signed record in the registry itself: any machine with the key can bring it back.

A record is an artifact in the quarantine's repository under the tag ``rp-record-<plan>-<image>``, its layer a DSSE
envelope signed by a promoter's key. It is written before anything is copied and removed last, so nothing is ever set
aside that no record names.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime

import msgspec

from registry_pipelines.errors import ContentError, DigestInvalid, NotFound, RegistryError, SignatureInvalid
from registry_pipelines.evidence.dsse import read_envelope, sign_envelope, verify_envelope, write_envelope
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import QUARANTINE_TYPE
from registry_pipelines.oci import media_types
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, artifact_manifest
from registry_pipelines.oci.times import read_time
from registry_pipelines.registry.blobs import BytesSource, push_blob, read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.set_aside import quarantine_of
from registry_pipelines.registry.tags import put_tag

RECORD_SCHEMA = 1
RECORD_TAG = "rp-record-"
MAX_RECORD_BYTES = 256 * 1024 * 1024
"""A record has the lists of referrers that went, of at most 4 MiB each."""


class KeptList(msgspec.Struct, frozen=True):
    """A list of referrers under its tag, byte for byte: built anew from what is put it has another order."""

    digest: str
    media_type: str
    tag: str
    raw: bytes


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One image that went, with all that went with it.

    registry: its host by then. repository: where it was. tags: every tag that went, to its digest. deleted: what was
    deleted there, in order. held: all that is kept, also what stayed there for another one, in the order to store it.
    lists: lists of referrers that went. at, until: RFC 3339; until: when it may be deleted for good. plan: its digest.
    freed_bytes: as the plan said.
    """

    schema: int = RECORD_SCHEMA
    registry: str
    repository: str
    digest: str
    tags: dict[str, str]
    deleted: tuple[str, ...]
    held: tuple[str, ...]
    lists: tuple[KeptList, ...] = ()
    at: str
    until: str
    plan: str
    freed_bytes: int = 0
    why: str = ""

    @property
    def tag(self) -> str:
        """The record's own, in the quarantine."""
        return record_tag(Digest.parse(self.plan), Digest.parse(self.digest))

    def is_over(self, now: datetime) -> bool:
        """Whether its time is over; never, where the time cannot be read."""
        until = read_time(self.until)
        return until is not None and until <= now


@dataclass(frozen=True)
class Found:
    """A record's tag in a quarantine. record: None where it is not to be believed; problem: why."""

    place: Place
    tag: str
    record: Record | None = None
    problem: str = ""


def record_tag(plan: Digest, image: Digest) -> str:
    """The tag of the record of an image that went by a plan."""
    return f"{RECORD_TAG}{plan.hex[:12]}-{image.hex[:64]}"


def write_record(aside: Place, record: Record, signer: Signer, *, has_empty: bool = False) -> None:
    """Sign a record and put it into the quarantine. has_empty: the empty blob, which every record names, is there.
    Raises RegistryError."""
    raw = write_envelope(sign_envelope(msgspec.json.encode(record), signer, payload_type=QUARANTINE_TYPE))
    if not has_empty:
        push_blob(aside, b"{}", media_type=media_types.OCI_EMPTY)
    layer = Descriptor(media_type=QUARANTINE_TYPE, digest=Digest.of(raw), size=len(raw))
    aside.registry.upload_blob(aside.repository, layer, BytesSource(raw))  # nobody wrote the same before
    put_tag(aside, artifact_manifest(artifact_type=QUARANTINE_TYPE, layers=[layer], subject=None), record.tag)


def read_record(aside: Place, tag: str, verifier: Verifier) -> Record:
    """A record that a believed promoter's key signed, for this place. Raises NotFound, SignatureInvalid, RegistryError,
    ContentError."""
    where = f"{aside}:{tag}"
    content = aside.registry.get_manifest(aside.repository, tag).content()
    if not isinstance(content, Manifest) or not content.layers or content.layers[0].media_type != QUARANTINE_TYPE:
        raise SignatureInvalid("this is no record of a quarantine", where=where, do="Look at who wrote that tag")
    raw = read_blob(aside, content.layers[0], limit=MAX_RECORD_BYTES)
    envelope = read_envelope(raw, where=where, max_bytes=MAX_RECORD_BYTES)
    signers = verify_envelope(envelope, verifier, where=where, payload_type=QUARANTINE_TYPE)
    verifier.vouching(signers, QUARANTINE_TYPE)
    try:
        record: Record = msgspec.json.decode(envelope.payload, type=ready(Record))
        for digest in (record.digest, record.plan, *record.held, *record.deleted, *record.tags.values()):
            Digest.parse(digest)
    except (msgspec.MsgspecError, DigestInvalid) as error:
        raise SignatureInvalid(f"what is signed is no record of a quarantine: {error}", where=where) from error
    if record.schema != RECORD_SCHEMA:
        raise SignatureInvalid(
            f"the record has schema {record.schema}", where=where, do="Use the version that wrote it"
        )
    if record.tag != tag or quarantine_of(Place(aside.registry, record.repository)) != aside:
        raise SignatureInvalid("the record is another image's, or another repository's", where=where)
    return record


def find_records(aside: Place, verifier: Verifier, pool: Executor) -> list[Found]:
    """Every record of a quarantine, those that are not to be believed too, read through the pool. Raises RegistryError
    (its tags)."""
    try:
        tags = [tag for tag in aside.registry.tags(aside.repository) if tag.startswith(RECORD_TAG)]
    except NotFound:
        return []
    return [each for each in pool.map(lambda tag: _look(aside, tag, verifier), tags) if each]


def _look(aside: Place, tag: str, verifier: Verifier) -> Found | None:
    try:
        return Found(aside, tag, read_record(aside, tag, verifier))
    except NotFound:
        return None
    except (SignatureInvalid, ContentError, RegistryError) as error:
        return Found(aside, tag, problem=str(error))
