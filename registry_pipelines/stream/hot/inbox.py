"""The inbox of recordings: a repository of its own, into which nodes put what real starts read.

It is the only place that a node may push to, so nothing in it is believed: a message is no evidence, refers to no
image and runs nowhere; nobody copies the repository. Whoever has an indexer's key takes out what fits an image
(``together``), and deletes it. A message is a manifest with two layers, the recording and a note about it, under a tag
that says of which image it is, so that a list of tags is all that has to be read to find those of one.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from registry_pipelines.errors import ContentError, InputError, ManifestInvalid, NotFound, RecordingInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    Descriptor,
    Manifest,
    ManifestBytes,
    artifact_manifest,
    decode_json,
    encode_json,
)
from registry_pipelines.oci.media_types import OCI_EMPTY
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.recording import MAX_ENCODED_BYTES, MEDIA_TYPE, Recording, decode, encode

INBOX_TYPE = "application/vnd.registry-pipelines.node-recording.v1"
NOTE_TYPE = "application/vnd.registry-pipelines.node-recording.note.v1+json"

MAX_NOTE_BYTES = 4096
MAX_WORD = 200
"""Characters of a value in a note."""
MAX_TAGS = 100_000
"""Of an inbox that are read; what is beyond waits for another time."""

_TAG = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{32})\Z")


class NodeNote(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of its recording. There is nothing in it of who runs what: no name of a machine, a person or a
    container, no variable, no path."""

    image: Digest
    """The manifest of one platform."""
    recording: Digest
    """Of the encoded recording."""
    node: str = ""
    """A number by which one node's recordings are told from another's; made by chance, kept on the node."""
    at: str = ""
    """When it was sent: RFC 3339, UTC."""
    carrier: str = ""
    """What brought the image to the program: ``fuse`` or ``fanotify``."""
    kernel: str = ""
    """Its release, as ``uname -r`` says it."""
    pages: int = 0
    """Of 4 KiB."""


@dataclass(frozen=True)
class Waiting:
    """A message that lies in an inbox; nothing of it was read."""

    tag: str
    image: Digest
    """Of which image it says it is."""


@dataclass(frozen=True)
class Message:
    """One that was read."""

    descriptor: Descriptor
    """Of its manifest."""
    note: NodeNote
    recording: Recording


@dataclass(frozen=True)
class Listed:
    """What lies in an inbox."""

    waiting: tuple[Waiting, ...]
    other: tuple[str, ...]
    """Tags that no node of ours makes."""
    more: bool
    """Whether there is more than was read."""


def send(inbox: Place, recording: Recording, note: NodeNote) -> Descriptor:
    """Put a recording into an inbox; the descriptor of its manifest. A node's same one twice is there once.

    note: ``image``, ``recording`` and ``pages`` are filled in here. Raises RecordingInvalid, RegistryError.
    """
    raw = encode(recording)
    told = msgspec.structs.replace(note, image=recording.image, recording=Digest.of(raw), pages=recording.pages)
    text = encode_json(told)
    push_blob(inbox, b"{}", media_type=OCI_EMPTY)
    layers = [
        push_blob(inbox, raw, media_type=MEDIA_TYPE),
        msgspec.structs.replace(
            push_blob(inbox, text, media_type=NOTE_TYPE), data=base64.b64encode(text).decode("ascii")
        ),
    ]
    manifest = artifact_manifest(artifact_type=INBOX_TYPE, layers=layers, subject=None)
    inbox.registry.put_manifest(inbox.repository, manifest, tag=tag_of(recording.image, told.node, told.recording))
    return manifest.descriptor


def tag_of(image: Digest, node: str, recording: Digest) -> str:
    """Under which a message lies: of an image, and half a digest of who says what. Nodes read the same pages; each
    has a voice."""
    return f"{image.hex}.{Digest.of(f'{node} {recording}'.encode()).hex[:32]}"


def waiting(inbox: Place) -> Listed:
    """What lies in an inbox, in the registry's order; at most ``MAX_TAGS``. Raises RegistryError; NotFound where nobody
    ever sent anything."""
    tags = list(itertools.islice(inbox.registry.tags(inbox.repository), MAX_TAGS + 1))
    found, other = [], []
    for tag in tags[:MAX_TAGS]:
        parts = _TAG.match(tag)
        if parts:
            found.append(Waiting(tag, Digest.parse(f"sha256:{parts[1]}")))
        else:
            other.append(tag)
    return Listed(tuple(found), tuple(other), len(tags) > MAX_TAGS)


def read_message(inbox: Place, each: Waiting, *, max_bytes: int = MAX_ENCODED_BYTES) -> Message:
    """Read a message, from whoever put it there. max_bytes: of its encoded recording.

    Raises RecordingInvalid: it is none, is larger, is not whole, or is of another image than its tag says; NotFound: it
    is not there any more; RegistryError.
    """
    where = f"{inbox}:{each.tag}"
    try:
        stored = inbox.registry.get_manifest(inbox.repository, each.tag)
        layer, note = _parts(inbox, stored, where)
        if layer.size > min(max_bytes, MAX_ENCODED_BYTES):
            raise RecordingInvalid(f"its recording has {layer.size} bytes", where=where)
        recording = decode(_blob(inbox, layer, where), where=where)
    except RecordingInvalid:
        raise
    except (ContentError, InputError) as error:  # InputError: a digest that is none
        raise RecordingInvalid(f"the message cannot be read: {error.what}", where=where) from error
    if {each.image, note.image, recording.image} != {each.image}:
        raise RecordingInvalid(f"it is a recording of {recording.image}, and its name says {each.image}", where=where)
    return Message(stored.descriptor, note, recording)


def _blob(inbox: Place, layer: Descriptor, where: str) -> bytes:
    """An encoded recording. Raises RecordingInvalid: the manifest is there without it; ContentError, RegistryError."""
    try:
        return read_blob(inbox, layer, limit=MAX_ENCODED_BYTES)
    except NotFound as error:
        raise RecordingInvalid("its recording is not there", where=where) from error


def _parts(inbox: Place, stored: ManifestBytes, where: str) -> tuple[Descriptor, NodeNote]:
    """The recording's descriptor and the note. Raises ContentError."""
    manifest = stored.content()
    if not isinstance(manifest, Manifest) or manifest.kind != INBOX_TYPE:
        raise RecordingInvalid("it is no message of a node", where=where)
    recordings = [each for each in manifest.layers if each.media_type == MEDIA_TYPE]
    notes = [each for each in manifest.layers if each.media_type == NOTE_TYPE]
    if len(recordings) != 1 or len(notes) != 1:
        raise RecordingInvalid("it has not one recording and one note", where=where)
    try:
        text = base64.b64decode(notes[0].data or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ManifestInvalid("its note is not base64", where=where) from error
    if not text or len(text) > MAX_NOTE_BYTES:
        raise RecordingInvalid(f"its note has {len(text)} bytes in the manifest", where=where)
    note = decode_json(text, NodeNote, what="note of a node", where=where)
    if note.recording != recordings[0].digest:
        raise RecordingInvalid("its note is about another recording", where=where)
    if any(len(word) > MAX_WORD for word in (note.node, note.at, note.carrier, note.kernel)):
        raise RecordingInvalid("its note has a word that is too long", where=where)
    return recordings[0], note


def of_images(listed: Listed) -> Iterator[tuple[Digest, tuple[Waiting, ...]]]:
    """The messages of each image, by digest."""
    ordered = sorted(listed.waiting, key=lambda each: (each.image, each.tag))
    for image, group in itertools.groupby(ordered, key=lambda each: each.image):
        yield image, tuple(group)


__all__ = [
    "INBOX_TYPE",
    "Listed",
    "Message",
    "NodeNote",
    "Waiting",
    "of_images",
    "read_message",
    "send",
    "tag_of",
    "waiting",
]
