"""Indexes that a node may trust: which one an indexer's key vouches for, of one platform's manifest.

An index says where in a layer each file begins, and the digest of each piece of it. A node that reads by an index
believes those digests in place of the layer's, so an index that nobody vouches for is as good as none: it is listed
with the reason, and never served.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from registry_pipelines import __version__
from registry_pipelines.errors import ContentError, DigestInvalid, ManifestInvalid, NotFound
from registry_pipelines.evidence.attestations import Attested, attest_statement, read_attestations
from registry_pipelines.evidence.model import Rejected, Signer, VerifiedAttestation, Verifier
from registry_pipelines.evidence.predicates import STREAMING_INDEX_TYPE
from registry_pipelines.evidence.referrers import Referrer, open_referrers
from registry_pipelines.evidence.statements import write_statement
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, ManifestBytes, decode_json, encode_json
from registry_pipelines.registry.image_warnings import SOCI_ANNOTATION
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.soci_index import LAYER_DIGEST, ZTOC_TYPE

IndexFormat = Literal["soci-v1", "soci-v2"]
_FORMATS: dict[str, IndexFormat] = {media_types.SOCI_V1: "soci-v1", media_types.SOCI_V2: "soci-v2"}

TOOL = f"registry-pipelines {__version__}"
"""Who indexes and converts, in what is signed."""

UNSIGNED = "no key that is believed as indexer signed it"


class StreamingIndex(msgspec.Struct, frozen=True, kw_only=True):
    """The signed note that an index is right. JSON of the predicate, field by field; the statement's subjects are
    ``image`` and ``index``."""

    image: Digest
    """The manifest of one platform."""
    index: Digest
    format: IndexFormat
    release: Digest
    """Top digest below which the image was when it was indexed."""
    options: dict[str, Any]
    """What the indexer was told: sizes in bytes."""
    tool: str
    """Who indexed: name and version."""
    held: tuple[Digest, ...] = ()
    """Layers that the index leaves out and the indexer read all the same: they unpack to what the image's config says,
    wherever it has them."""

    def same_index(self, other: StreamingIndex) -> bool:
        """Whether both say the same of the same image, whichever release it stood in and whoever made it."""
        mine, theirs = (msgspec.structs.replace(each, tool="", release=each.image) for each in (self, other))
        return mine == theirs


@dataclass(frozen=True)
class SignedIndex:
    """An index that is there, whole as a manifest, and vouched for."""

    stored: ManifestBytes
    manifest: Manifest
    note: StreamingIndex
    key_id: str
    statement: Digest
    """Of the manifest that carries the signed note."""

    @property
    def descriptor(self) -> Descriptor:
        """Of the index."""
        return self.stored.descriptor

    @property
    def ztocs(self) -> dict[str, Descriptor]:
        """By layer digest, where its part of the index is."""
        tables = (each for each in self.manifest.layers if each.media_type == ZTOC_TYPE)  # not its lists to prefetch
        return {layer: each for each in tables if (layer := (each.annotations or {}).get(LAYER_DIGEST))}


@dataclass(frozen=True)
class FoundIndexes:
    """What a node may use, and what is there and is not used."""

    signed: tuple[SignedIndex, ...]
    not_served: tuple[Rejected, ...]


def find_index(place: Place, image: Digest, verifier: Verifier) -> FoundIndexes:
    """The indexes of a platform's manifest that a believed indexer signed, the newest format first.

    Looked at are SOCI indexes that refer to the manifest (version 1) and the one it names itself (version 2). One that
    is damaged, gone, about something else or signed by nobody believed is in ``not_served`` with the reason. Raises
    RegistryError when the registry does not answer, ClosureIncomplete for too many referrers.
    Not checked here: that the parts of an index are there, and that they are right.
    """
    there: list[Digest] = []
    referrers = _noting(open_referrers(place, image), there)
    known = read_attestations(place, image, verifier, predicate_type=STREAMING_INDEX_TYPE, referrers=referrers)
    there += _named(place, image)
    signed: dict[str, SignedIndex] = {}
    refused: list[Rejected] = []
    for attestation in known.verified:
        found = _open(place, image, attestation)
        if isinstance(found, Rejected):
            refused.append(found)
        else:
            other = signed.setdefault(str(found.descriptor.digest), found)
            if other is not found and not set(found.note.held) <= set(other.note.held):  # one note came after the other
                held = tuple(dict.fromkeys((*other.note.held, *found.note.held)))
                note = msgspec.structs.replace(other.note, held=held)
                signed[str(found.descriptor.digest)] = replace(other, note=note)
    told = {each.where for each in refused}
    refused += [Rejected(each, UNSIGNED) for each in map(str, there) if each not in told and each not in signed]
    ordered = sorted(signed.values(), key=lambda each: each.note.format, reverse=True)
    return FoundIndexes(tuple(ordered), (*refused, *known.rejected))


def attest_index(place: Place, image: Descriptor, note: StreamingIndex, signer: Signer) -> Attested:
    """Sign that an index is right and attach that to the image, unless this key signed the same before. Raises
    RegistryError."""
    from registry_pipelines.evidence.keys import verifier_of

    known = read_attestations(place, image.digest, verifier_of(signer), predicate_type=STREAMING_INDEX_TYPE)
    for attestation in known.verified:
        there = _note(attestation)
        if there is not None and there.same_index(note):
            return Attested(STREAMING_INDEX_TYPE, attestation.descriptor, changed=False)
    statement = write_statement(
        STREAMING_INDEX_TYPE, msgspec.Raw(encode_json(note)), subjects=[note.image, note.index], name=str(place)
    )
    return attest_statement(place, image, statement, signer, known=known)


def _note(attestation: VerifiedAttestation) -> StreamingIndex | None:
    """None: it has another form than ours."""
    try:
        return decode_json(encode_json(attestation.predicate), StreamingIndex, what="note about an index")
    except ManifestInvalid:
        return None


def _open(place: Place, image: Digest, attestation: VerifiedAttestation) -> SignedIndex | Rejected:
    where = str(attestation.descriptor.digest)
    note = _note(attestation)
    if note is None:
        return Rejected(where, "the signed note about an index cannot be read", damaged=True)
    if note.image != image:
        return Rejected(where, f"the signed note is about an index of {note.image}, not of {image}")
    try:
        stored = place.registry.get_manifest(place.repository, note.index)
        manifest = stored.content()
    except NotFound:
        return Rejected(str(note.index), "it is signed, and is not here any more")
    except ContentError as error:
        return Rejected(str(note.index), error.what, damaged=True)
    if not isinstance(manifest, Manifest) or _FORMATS.get(manifest.kind) != note.format:
        return Rejected(str(note.index), f"it is no index of the form {note.format}, as the signed note says")
    subject = manifest.subject.digest if manifest.subject else None
    if note.format == "soci-v1" and subject != image:
        return Rejected(str(note.index), f"it is an index of {subject or 'nothing'}, not of {image}")
    return SignedIndex(stored, manifest, note, attestation.key_id, attestation.descriptor.digest)


def _noting(referrers: Iterable[Referrer | Rejected], there: list[Digest]) -> Iterator[Referrer | Rejected]:
    """The same, and SOCI indexes among them, whoever made them, are put into ``there``: each is opened once."""
    for referrer in referrers:
        if not isinstance(referrer, Rejected) and referrer.manifest.kind in media_types.SOCI_INDEXES:
            there.append(referrer.descriptor.digest)
        yield referrer


def _named(place: Place, image: Digest) -> Iterator[Digest]:
    """The SOCI index that the image names itself."""
    content = place.registry.get_manifest(place.repository, image).content()
    text = (content.annotations or {}).get(SOCI_ANNOTATION, "") if isinstance(content, Manifest) else ""
    with suppress(DigestInvalid):
        yield Digest.parse(text)
