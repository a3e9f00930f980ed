"""Recordings beside an image: an artifact that refers to the manifest of one platform, vouched for by an indexer's key.

What is attached later holds what was attached before (:func:`publish_recording` merges), so that nodes with and without
a GPU each add what they saw. A recording that nobody believed signed is named and not used: it could make nodes fetch
anything of the image, though nothing that is not of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from registry_pipelines.errors import ContentError, ManifestInvalid, NotFound, RecordingInvalid
from registry_pipelines.evidence.artifacts import attach_once
from registry_pipelines.evidence.attestations import attest_statement, read_attestations
from registry_pipelines.evidence.keys import verifier_of
from registry_pipelines.evidence.model import Rejected, Signer, VerifiedAttestation, Verifier
from registry_pipelines.evidence.predicates import RECORDING_TYPE
from registry_pipelines.evidence.referrers import open_referrers
from registry_pipelines.evidence.statements import write_statement
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, decode_json, encode_json
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.recording import (
    MAX_ENCODED_BYTES,
    MEDIA_TYPE,
    RecordedFile,
    Recording,
    decode,
    encode,
    merge_recordings,
)

ARTIFACT_TYPE = "application/vnd.registry-pipelines.recording.v1"

UNSIGNED = "no key that is believed as indexer signed it"


class RecordingNote(msgspec.Struct, frozen=True, kw_only=True):
    """The signed note about a recording. JSON of the predicate, field by field; the statement's subjects are ``image``
    and ``recording``."""

    image: Digest
    """The manifest of one platform."""
    recording: Digest
    """Of the encoded recording."""
    pages: int
    """Of 4 KiB."""
    gpu: bool
    """Whether any program in it could use a GPU."""
    tool: str
    """Who recorded: name and version."""


@dataclass(frozen=True)
class FoundRecording:
    """A recording that is attached, whole, and vouched for."""

    descriptor: Descriptor
    """Of its manifest."""
    recording: Recording
    key_id: str


@dataclass(frozen=True)
class FoundRecordings:
    """What counts, the one with the most pages first, and what is there and does not count."""

    believed: tuple[FoundRecording, ...]
    not_used: tuple[Rejected, ...]

    @property
    def merged(self) -> Recording | None:
        """All that count, as one; None for none."""
        return merge_recordings([each.recording for each in self.believed]) if self.believed else None


def find_recordings(place: Place, image: Digest, verifier: Verifier) -> FoundRecordings:
    """The recordings of a platform's manifest that a believed indexer signed. Raises RegistryError when the registry
    does not answer, ClosureIncomplete for too many referrers."""
    referrers = list(open_referrers(place, image))
    known = read_attestations(place, image, verifier, predicate_type=RECORDING_TYPE, referrers=referrers)
    vouched = {note.recording: (note, each) for each in known.verified if (note := _note(each)) and note.image == image}
    believed: list[FoundRecording] = []
    refused: list[Rejected] = []
    for referrer in referrers:
        if isinstance(referrer, Rejected) or referrer.manifest.kind != ARTIFACT_TYPE:
            continue
        found = _open(place, image, referrer.descriptor, referrer.manifest, vouched)
        if isinstance(found, FoundRecording):
            believed.append(found)
        else:
            refused.append(found)
    believed.sort(key=lambda each: (-each.recording.pages, each.descriptor.digest))
    return FoundRecordings(tuple(believed), (*refused, *known.rejected))


@dataclass(frozen=True)
class PublishedRecording:
    """A recording that is attached now."""

    descriptor: Descriptor
    """Of its manifest."""
    recording: Recording
    """With what was attached before."""
    changed: bool
    new_pages: int
    """Beyond those that were attached before."""


def publish_recording(
    place: Place, image: Descriptor, recording: Recording, signer: Signer, *, ordered: bool = False
) -> PublishedRecording:
    """Attach a recording, with all pages of those that this key signed before; sign that. Where it says nothing new
    nothing is written. ordered: its order counts, and not that of those before. Raises RecordingInvalid: it is of
    another image, or tells of other files; RegistryError."""
    if recording.image != image.digest:
        raise RecordingInvalid(f"it is a recording of {recording.image}, not of {image.digest}", where=str(place))
    there = find_recordings(place, image.digest, verifier_of(signer))
    before = there.merged
    merged = recording
    if before is not None:
        merged = merge_recordings([recording, before] if ordered else [before, recording])
        if ordered:  # the words of the first are those of the person, or of the command, that began
            merged = msgspec.structs.replace(merged, command=before.command, until=before.until, tool=before.tool)
    if before is not None and _says(merged) == _says(before):
        return PublishedRecording(there.believed[0].descriptor, before, changed=False, new_pages=0)
    raw = encode(merged)
    descriptor, attached = attach_once(
        place, subject=image, artifact_type=ARTIFACT_TYPE, content=raw, media_type=MEDIA_TYPE
    )
    note = RecordingNote(
        image=image.digest, recording=Digest.of(raw), pages=merged.pages, gpu=merged.gpu, tool=merged.tool
    )
    statement = write_statement(
        RECORDING_TYPE, msgspec.Raw(encode_json(note)), subjects=[note.image, note.recording], name=str(place)
    )
    signed = attest_statement(place, image, statement, signer)
    new = merged.pages - (before.pages if before else 0)
    return PublishedRecording(descriptor, merged, attached or signed.changed, new)


def _says(recording: Recording) -> tuple[int, bool, set[RecordedFile]]:
    """By what one that has another's pages differs from it. That a GPU was there is news: nodes with one record until
    it is signed."""
    return recording.pages, recording.gpu, set(recording.files)


def _note(attestation: VerifiedAttestation) -> RecordingNote | None:
    """None: it has another form than ours."""
    try:
        return decode_json(encode_json(attestation.predicate), RecordingNote, what="note about a recording")
    except ManifestInvalid:
        return None


def _open(
    place: Place,
    image: Digest,
    descriptor: Descriptor,
    manifest: Manifest,
    vouched: dict[Digest, tuple[RecordingNote, VerifiedAttestation]],
) -> FoundRecording | Rejected:
    where = str(descriptor.digest)
    layers: Sequence[Descriptor] = [each for each in manifest.layers if each.media_type == MEDIA_TYPE]
    if len(layers) != 1:
        return Rejected(where, "it has not one recording in it", damaged=True)
    if layers[0].digest not in vouched:
        return Rejected(where, UNSIGNED)
    try:
        recording = decode(read_blob(place, layers[0], limit=MAX_ENCODED_BYTES), where=where)
    except NotFound:
        return Rejected(where, "it is listed, and is not here any more")
    except ContentError as error:
        return Rejected(where, error.what, damaged=True)
    if recording.image != image:
        return Rejected(where, f"it is a recording of {recording.image}, not of {image}")
    return FoundRecording(descriptor, recording, vouched[layers[0].digest][1].key_id)


__all__ = [
    "FoundRecording",
    "FoundRecordings",
    "PublishedRecording",
    "RecordingNote",
    "find_recordings",
    "publish_recording",
]
