"""Takes what nodes recorded of an image out of an inbox: read within limits, held against the image, put together,
signed, and deleted.

Whoever may write to the inbox may write anything there, as often as they want. So little is read of it at a time, one
node has one voice, and what is dropped is counted and said.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from registry_pipelines.errors import ContentError, NotFound, RecordingInvalid, RegistryError
from registry_pipelines.evidence.keys import verifier_of
from registry_pipelines.evidence.model import Signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.contents import files_like, tables_here
from registry_pipelines.stream.hot.cutting import MAX_BYTES
from registry_pipelines.stream.hot.inbox import Message, Waiting, read_message
from registry_pipelines.stream.hot.recording import Recording, merge_recordings, with_contents
from registry_pipelines.stream.hot.recordings import PublishedRecording, find_recordings, publish_recording
from registry_pipelines.stream.hot.together import fitted, pages_in, together
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.stream.lazy.tables import ImageTables

MOST_MESSAGES = 64
"""Of one image that are read at a time; the order of tags, which are digests, chooses."""
MOST_ENCODED_BYTES = 4 << 20
"""Of one recording; 50,000 pages have 300 KB."""
MOST_TOLD_PAGES = 4 << 20
"""Of all that are read at a time, for memory: 64 starts of 256 MB."""
MOST_SECONDS = 120.0
"""For reading one image's."""


@dataclass
class Taken:
    """What became of an image's messages."""

    published: PublishedRecording | None = None
    """None: nothing of them is about the image, or nothing was there."""
    nodes: int = 0
    """Whose recordings were used."""
    taken: int = 0
    """Messages that are in what is published now."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Messages that were not used, by why."""
    files_dropped: int = 0
    pages_dropped: int = 0
    """Of files that the image has not."""
    lone_pages: int = 0
    """That one node alone read."""
    pages_left_out: int = 0
    left: int = 0
    """Messages that were not read: too many, no time, or ``left_why``."""
    left_why: str = ""
    """What the inbox answered instead."""
    deleted: int = 0
    not_deleted: str = ""
    """Why what was taken is there still."""

    def notes(self) -> list[str]:
        """What a person should know, a sentence each."""
        said = [f"{count_text(count, 'recording')} of nodes dropped: {why}" for why, count in self.dropped.items()]
        if self.files_dropped:
            said.append(
                f"of files that the image has not {count_text(self.files_dropped, 'file')} with "
                f"{count_text(self.pages_dropped, 'page')} were dropped"
            )
        if self.lone_pages:
            said.append(f"{count_text(self.lone_pages, 'page')} that one node alone read were dropped")
        if self.pages_left_out:
            said.append(f"{count_text(self.pages_left_out, 'page')} at the end are too many")
        if self.left:
            why = f": {self.left_why}" if self.left_why else ""
            said.append(f"{count_text(self.left, 'recording')} wait for another time{why}")
        if self.not_deleted:
            said.append(f"what was taken is left in the inbox: {self.not_deleted}")
        return said


def take(
    inbox: Place,
    messages: Sequence[Waiting],
    place: Place,
    image: Descriptor,
    *,
    signer: Signer,
    state: Path,
    max_bytes: int = MAX_BYTES,
    clock: Callable[[], float] = time.monotonic,
) -> Taken:
    """Have in the signed recording of an image what nodes say of it, and delete their messages.

    messages: those of the image (``inbox.of_images``). image: the platform's manifest at ``place``. state: the folder
    with what this machine keeps. max_bytes: of content that is signed at most.

    A message is deleted after what it says is signed, or dropped. An inbox that does not answer is told, and no error.
    Raises RegistryError of ``place``, and then nothing was deleted; what ``tables.image_tables`` does.
    """
    taken, until = Taken(), clock() + MOST_SECONDS
    read, bad = _read(inbox, messages, taken, lambda: clock() < until)
    if read:
        itself, records = image_for(place, image.digest), LayerStore(state / "layers")
        tables = tables_here(place, itself, state=state)
        before = find_recordings(place, image.digest, verifier_of(signer)).merged
        nodes = _by_node(read, tables, taken)
        if nodes:
            merged = together(nodes, believed=before, max_pages=pages_in(max_bytes))
            taken.lone_pages, taken.pages_left_out = merged.lone_pages, merged.pages_left_out
            files = files_like(merged.recording, place, tables, itself.layers, records=records)
            recording = with_contents(merged.recording, files)
            taken.published = publish_recording(place, image, recording, signer, ordered=True)
            taken.nodes, taken.taken = len(nodes), len(read) - taken.dropped[NOTHING]
    _delete(inbox, [*((each.tag, message.descriptor.digest) for each, message in read), *bad], taken)
    return taken


NOTHING = "no file of it is in the image"


def _read(
    inbox: Place, messages: Sequence[Waiting], taken: Taken, has_time: Callable[[], bool]
) -> tuple[list[tuple[Waiting, Message]], list[tuple[str, Digest | None]]]:
    """What can be read within the limits, and what cannot be used."""
    read: list[tuple[Waiting, Message]] = []
    bad: list[tuple[str, Digest | None]] = []
    pages = 0
    for number, each in enumerate(messages):
        if number >= MOST_MESSAGES or pages >= MOST_TOLD_PAGES or not has_time():
            taken.left = len(messages) - number
            break
        try:
            message = read_message(inbox, each, max_bytes=MOST_ENCODED_BYTES)
        except NotFound:  # somebody else took it
            continue
        except RecordingInvalid as error:
            taken.dropped[error.what] += 1
            bad.append((each.tag, None))
            continue
        except RegistryError as error:  # who may write there may have seen to that: what was read counts
            taken.left, taken.left_why = len(messages) - number, error.what
            break
        pages += message.recording.pages
        read.append((each, message))
    return read, bad


def _by_node(read: Sequence[tuple[Waiting, Message]], tables: ImageTables, taken: Taken) -> list[Recording]:
    """What of them fits the image, as one for each node."""
    found: defaultdict[str, list[Recording]] = defaultdict(list)
    for _, message in read:
        fits = fitted(message.recording, tables.tree)
        taken.files_dropped += fits.files_dropped
        taken.pages_dropped += fits.pages_dropped
        if fits.recording.pages:
            found[message.note.node].append(fits.recording)
        else:
            taken.dropped[NOTHING] += 1
    return [merge_recordings(each) for each in found.values()]


def _delete(inbox: Place, done: Sequence[tuple[str, Digest | None]], taken: Taken) -> None:
    """Delete messages; what cannot be is told, and is no harm: read again it says nothing new."""
    for tag, digest in done:
        why = delete_message(inbox, tag, digest)
        taken.deleted += not why
        taken.not_deleted = taken.not_deleted or why


def delete_message(inbox: Place, tag: str, digest: Digest | None = None) -> str:
    """Delete what lies under a tag. Why it could not be; empty where it is gone."""
    try:
        digest = digest or inbox.registry.resolve(inbox.repository, tag).digest
        inbox.registry.delete_manifest(inbox.repository, digest)
    except NotFound:
        return ""
    except (RegistryError, ContentError) as error:
        return error.what
    return ""


__all__ = ["Taken", "delete_message", "take"]
