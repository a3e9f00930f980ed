"""Hot packs beside an image: attached with the indexer's signature, and found again by who believes that key.

A pack is an artifact that refers to the manifest of one platform. Its blobs are the head (``pack``), the signed note as
a DSSE envelope, and the frames. The note names the image and the head, and the head names all else by digest; so one
request for the manifest tells who vouches, for the envelope stands in it as ``data``, too (OCI image-spec 1.1,
``descriptor.md``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines import __version__
from registry_pipelines.errors import ContentError, IndexInvalid, ManifestInvalid, NotFound, SignatureInvalid
from registry_pipelines.evidence.dsse import read_envelope, sign_envelope, verify_envelope, write_envelope
from registry_pipelines.evidence.model import Rejected, Signer, Verifier
from registry_pipelines.evidence.predicates import HOT_PACK_TYPE
from registry_pipelines.evidence.statements import check_statement, read_statement, write_statement
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    Descriptor,
    Manifest,
    artifact_manifest,
    decode_json,
    encode_json,
)
from registry_pipelines.oci.media_types import DSSE_ENVELOPE, OCI_EMPTY
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.pack import FRAMES_TYPE, HEAD_TYPE, MAX_HEAD_BYTES, PACK_TYPE, Head, decode_head

if TYPE_CHECKING:
    from registry_pipelines.transfer.uploads import Uploads

TOOL = f"registry-pipelines {__version__}"
CREATED = "org.opencontainers.image.created"
MAX_ENVELOPE_BYTES = 64 * 1024
MOST = 32
"""Packs of one image that are looked at, the newest first."""


class PackNote(msgspec.Struct, frozen=True, kw_only=True):
    """The signed note about a pack: its frames were cut from layers that were held against their diffIDs (of eStargz:
    against the table that the image names). JSON of the predicate, field by field; the statement's subjects are
    ``image`` and ``head``."""

    image: Digest
    """The manifest of one platform."""
    head: Digest
    recorded: Digest
    """The manifest whose start was recorded; another one than ``image`` where the recording was inherited."""
    pages: int
    """Of 4 KiB, in the recording."""
    pages_found: int
    """Of them, those of files that the image has, too."""
    files_dropped: int = 0
    """Files of the recording that the image has not, or not the same."""
    content_bytes: int
    """Of all frames, unpacked."""
    stored_bytes: int
    window: int
    """Bytes to which pages were rounded out."""
    command: str = ""
    gpu: bool = False
    """Whether a GPU was used when it was recorded."""
    tool: str = TOOL
    made: str = ""
    """RFC 3339, UTC."""


@dataclass(frozen=True)
class FoundPack:
    """A pack that is there and vouched for; its blobs were not looked at."""

    descriptor: Descriptor
    """Of its manifest."""
    head: Descriptor
    note: PackNote
    key_id: str


@dataclass(frozen=True)
class FoundPacks:
    """What a node may use, the newest first, and what is there and is not used."""

    believed: tuple[FoundPack, ...]
    not_used: tuple[Rejected, ...]


def find_packs(place: Place, image: Digest, verifier: Verifier, *, first: bool = False) -> FoundPacks:
    """The packs of a platform's manifest that a believed indexer signed.

    first: stop at the first one. Raises RegistryError when the registry does not answer.
    """
    believed: list[FoundPack] = []
    refused: list[Rejected] = []
    for descriptor in _listed(place.registry.referrers(place.repository, image))[:MOST]:
        found = _open(place, image, descriptor, verifier)
        if isinstance(found, FoundPack):
            believed.append(found)
            if first:
                break
        elif found is not None:
            refused.append(found)
    believed.sort(key=lambda each: each.note.made, reverse=True)
    return FoundPacks(tuple(believed), tuple(refused))


def read_head(place: Place, found: FoundPack) -> Head:
    """The head of a pack, held against what was signed. Raises IndexInvalid, DigestMismatch, NotFound, and the
    RegistryError family."""
    where = f"{place}@{found.head.digest}"
    if not 0 < found.head.size <= MAX_HEAD_BYTES:
        raise IndexInvalid(f"the head of the hot pack has {found.head.size} bytes", where=where)
    head = decode_head(read_blob(place, found.head, limit=MAX_HEAD_BYTES), where=where)
    if head.image != found.note.image:
        raise IndexInvalid(f"the hot pack is one of {head.image}", where=where)
    return head


def publish_pack(
    uploads: Uploads, image: Descriptor, raw: bytes, blobs: Sequence[Descriptor], note: PackNote, signer: Signer
) -> Descriptor:
    """Sign a pack whose ``blobs``, those of frames and metadata, are at the place, and attach it. raw: the head. The
    descriptor of its manifest.

    Raises RegistryError.
    """
    from registry_pipelines.stream.pushing import push_piece
    from registry_pipelines.stream.soci import Piece

    place = uploads.target
    note = msgspec.structs.replace(note, made=datetime.now(UTC).isoformat(timespec="microseconds"))
    statement = write_statement(
        HOT_PACK_TYPE, msgspec.Raw(encode_json(note)), subjects=[note.image, note.head], name=str(place)
    )
    envelope = write_envelope(sign_envelope(statement, signer))
    head = Descriptor(media_type=HEAD_TYPE, digest=Digest.of(raw), size=len(raw))
    signed = Descriptor(media_type=DSSE_ENVELOPE, digest=Digest.of(envelope), size=len(envelope))
    empty = Descriptor(media_type=OCI_EMPTY, digest=Digest.of(b"{}"), size=2)
    for descriptor, content in ((head, raw), (signed, envelope), (empty, b"{}")):
        push_piece(uploads, Piece(descriptor, content))
    inline = msgspec.structs.replace(signed, data=base64.b64encode(envelope).decode())
    layers = [head, inline, *blobs]
    manifest = artifact_manifest(
        artifact_type=PACK_TYPE, layers=layers, subject=image, annotations={CREATED: note.made}
    )
    place.registry.put_manifest(place.repository, manifest)
    return manifest.descriptor


def frames_blob(digest: Digest, size: int) -> Descriptor:
    """The descriptor of a blob of frames."""
    return Descriptor(media_type=FRAMES_TYPE, digest=digest, size=size)


def _listed(referrers: Sequence[Descriptor]) -> list[Descriptor]:
    """Those that are packs, the newest first, and behind them those that may be: lists are not always right about
    types."""
    named = [each for each in referrers if each.artifact_type == PACK_TYPE]
    unnamed = [each for each in referrers if each.artifact_type in ("", OCI_EMPTY)]
    named.sort(key=lambda each: (each.annotations or {}).get(CREATED, ""), reverse=True)
    return named + unnamed


def _open(place: Place, image: Digest, descriptor: Descriptor, verifier: Verifier) -> FoundPack | Rejected | None:
    """None: it is no pack."""
    where = str(descriptor.digest)
    try:
        stored = place.registry.get_manifest(place.repository, descriptor.digest)
        manifest = stored.content()
        if not isinstance(manifest, Manifest) or manifest.kind != PACK_TYPE:
            return None
        subject = manifest.subject.digest if manifest.subject else None
        if subject != image:
            return Rejected(where, f"it is a pack of {subject or 'nothing'}, not of {image}")
        return _believe(place, image, stored.descriptor, manifest, verifier)
    except NotFound:
        return Rejected(where, "it is listed, and is not here any more")
    except SignatureInvalid as error:
        return Rejected(where, error.what)
    except ContentError as error:
        return Rejected(where, error.what, damaged=True)


def _believe(place: Place, image: Digest, descriptor: Descriptor, manifest: Manifest, verifier: Verifier) -> FoundPack:
    """Raises SignatureInvalid, ContentError, NotFound."""
    where = str(descriptor.digest)
    heads = [each for each in manifest.layers if each.media_type == HEAD_TYPE]
    envelopes = [each for each in manifest.layers if each.media_type == DSSE_ENVELOPE]
    if len(heads) != 1 or len(envelopes) != 1:
        raise ManifestInvalid("it has not one head and one signed note", where=where)
    envelope = read_envelope(_content(place, envelopes[0]), where=where)
    signed_by = verify_envelope(envelope, verifier, where=where)
    statement = read_statement(envelope.payload, where=where)
    check_statement(statement, image, predicate_type=HOT_PACK_TYPE, where=where)
    key_id = verifier.vouching(signed_by, statement.predicate_type)
    note = decode_json(encode_json(statement.predicate), PackNote, what="note about a hot pack", where=where)
    if note.image != image or note.head != heads[0].digest:
        raise SignatureInvalid("the signed note is about another image or another head", where=where)
    return FoundPack(descriptor, heads[0], note, key_id)


def _content(place: Place, descriptor: Descriptor) -> bytes:
    """Of a small blob: from its descriptor where it stands there."""
    if descriptor.data:
        try:
            raw = base64.b64decode(descriptor.data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ManifestInvalid("the signed note in it is not base64", where=str(descriptor.digest)) from error
        descriptor.digest.check(raw, where=str(descriptor.digest))
        return raw
    return read_blob(place, descriptor, limit=MAX_ENVELOPE_BYTES)


__all__ = ["FoundPack", "FoundPacks", "PackNote", "find_packs", "frames_blob", "publish_pack", "read_head"]
