"""Index a release without touching its digest: a SOCI index that refers to each platform's manifest, and is signed.

For images that others push: what they pushed is the release. Nodes that read by an index of version 1 (the official
snapshotter where ``soci_v1`` is on, and our own) find it by the manifest they start. Unsigned it is not served.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from registry_pipelines.evidence.model import Signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.image_warnings import MAX_TEXT
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.held import held_layers
from registry_pipelines.stream.indexing import NOTHING, index_image, index_options, index_rows, push_pieces, there_rows
from registry_pipelines.stream.model import Stream
from registry_pipelines.stream.pushing import put_referrer, scratch_folder
from registry_pipelines.stream.results import IndexedPlatform, IndexResult, StreamRow
from registry_pipelines.stream.signed_index import TOOL, SignedIndex, StreamingIndex, attest_index, find_index
from registry_pipelines.stream.soci import SociIndex
from registry_pipelines.stream.soci_index import read_soci_index
from registry_pipelines.stream.source import SourceImage, read_source
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.uploads import Uploads

SILENT = Silent()


def index_release(
    place: Place,
    release: Descriptor,
    stream: Stream,
    *,
    state: Path,
    store: LayerStore,
    signer: Signer,
    engine: Engine | None = None,
    progress: Progress = SILENT,
) -> IndexResult:
    """Index every platform of a release and attach what was made, signed.

    release: the top manifest. stream: sizes, and files to fetch first; its format is not asked for. state: folder for
    what is on its way. store: records of layers that were read; those that are there are not read again. signer: the
    indexer's. engine: what is uploaded with; one with its state in ``state`` unless told.

    A platform that has an index by this key with these sizes, whole, is not looked into. One whose layers are all too
    small, or cannot be indexed, is no error: it has no index, and ``why``. Parts go first and the index last, so what
    is killed leaves parts that nothing names.
    Raises ManifestInvalid, LayerInvalid, DigestMismatch, ClosureIncomplete (the release is damaged; nothing is attached
    to that platform), and the RegistryError family.
    """
    started = time.monotonic()
    engine = engine or Engine(state=state / "transfer")
    own = engine.place(place)
    with engine.opened() as opened, scratch_folder(state / "stream") as folder:
        run = _Run(own, release, stream, folder, store, signer, Uploads(opened, own, progress), progress)
        images = read_source(own, release.digest).images
        looked = [(image, run.look(image)) for image in images]
        done = [run.push(image, found) for image, found in looked]
        opened.cancel_abandoned([own.registry])
    platforms = tuple(platform for platform, _, _ in done)
    return IndexResult(
        release=release.digest,
        platforms=platforms,
        rows=tuple(row for _, rows, _ in done for row in rows),
        bytes_sent=sum(sent for _, _, sent in done),
        seconds=time.monotonic() - started,
        changed=any(each.changed for each in platforms),
        missing=tuple(
            dict.fromkeys(path for _, found in looked if isinstance(found, SociIndex) for path in found.not_found)
        ),
    )


_Done = tuple[IndexedPlatform, tuple[StreamRow, ...], int]
"""What became of one platform, its rows, and bytes sent."""


@dataclass(frozen=True)
class _Run:
    """One release being indexed."""

    place: Place
    release: Descriptor
    stream: Stream
    folder: Path
    store: LayerStore
    signer: Signer
    uploads: Uploads
    progress: Progress

    def look(self, image: SourceImage) -> SociIndex | _Done:
        """A platform's index, made and not pushed, or what is to be said of it without: nothing is sent before all
        platforms were looked at, so that a damaged one leaves all as they are."""
        if image.soci_index:
            why = f"it names a SOCI index of its own, {image.soci_index[:MAX_TEXT]}"
            return replace(_platform(image), why=why), (), 0
        return self._there(image) or index_image(
            self.place,
            image,
            self.stream,
            store=self.store,
            folder=self.folder,
            subject=image.entry.descriptor,
            progress=self.progress,
        )

    def _there(self, image: SourceImage) -> _Done | None:
        """An index that this key signed for these sizes, all of whose parts are there."""
        from registry_pipelines.evidence.keys import verifier_of

        for found in find_index(self.place, image.entry.digest, verifier_of(self.signer)).signed:
            same = found.note.format == "soci-v1" and found.note.options == index_options(self.stream)
            if same and all(map(self._has, found.manifest.layers)):
                statement, changed = self._hold(image, found)
                platform = replace(_platform(image), index=found.descriptor, statement=statement, changed=changed)
                return platform, there_rows(image, found.stored, self.stream), 0
        return None

    def _hold(self, image: SourceImage, found: SignedIndex) -> tuple[Digest, bool]:
        """Sign again where the note says less of layers that are left out than could be said: who wrote it did not look
        at them. The digest of what says it, and whether that is new."""
        small = [(layer, diff_id) for layer, diff_id in image.layers if layer.digest not in found.note.held]
        held = held_layers(self.place, small, found.ztocs, self.store)
        if not held:
            return found.statement, False
        note = structs.replace(found.note, held=(*found.note.held, *held), tool=TOOL)
        signed = attest_index(self.place, image.entry.descriptor, note, self.signer)
        return signed.descriptor.digest, signed.changed

    def _has(self, part: Descriptor) -> bool:
        return self.uploads.find(part.digest, part.size) is not None

    def push(self, image: SourceImage, found: SociIndex | _Done) -> _Done:
        """Send an index that was made: its parts, the index, the signature."""
        if not isinstance(found, SociIndex):
            return found
        platform = _platform(image)
        if found.document is None:
            return (
                replace(platform, why=NOTHING),
                index_rows(image, found, {}),
                0,
            )
        sent = push_pieces(self.uploads, found)
        written = put_referrer(self.place, found.document, image.entry.digest)
        listed = [each.layer for each in read_soci_index(found.document).tables]
        note = StreamingIndex(
            image=image.entry.digest,
            index=found.document.digest,
            format="soci-v1",
            release=self.release.digest,
            options=index_options(self.stream),
            tool=TOOL,
            held=held_layers(self.place, image.layers, listed, self.store),
        )
        signed = attest_index(self.place, image.entry.descriptor, note, self.signer)
        byte_count = written + sum(bytes_sent for _, bytes_sent in sent.values())
        done = replace(
            platform,
            index=found.document.descriptor,
            statement=signed.descriptor.digest,
            changed=bool(byte_count) or signed.changed,
        )
        return done, index_rows(image, found, sent), byte_count


def _platform(image: SourceImage) -> IndexedPlatform:
    return IndexedPlatform(platform=image.platform, image=image.entry.digest, index=None)
