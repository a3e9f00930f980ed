"""Make an image of a release that starts before it is fetched whole: the same files, another digest, its own tag.

``soci-v2``: the layers stay, and each platform's manifest names an index of them. ``estargz``: each layer is written
anew, in pieces that a node can fetch. What is made lies in the release's own repository under ``<tag>-<format>``, with
a signed record of what it was made of, and is a release of its own: it is scanned, signed and judged by its own digest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from registry_pipelines.errors import ContentError, InputError, NotFound
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Signer
from registry_pipelines.evidence.predicates import DERIVATION_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.oci.references import check_tag as check_name
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.image_warnings import MAX_TEXT
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at, put_tag
from registry_pipelines.stream.converted import ConvertedLayers
from registry_pipelines.stream.derivation import Derivation, DerivedPlatform, attest_derivation, read_derivations
from registry_pipelines.stream.documents import converted_indexes
from registry_pipelines.stream.forms import EstargzForm, Form, MadeImage, SociForm
from registry_pipelines.stream.model import DERIVED_FORMATS, RECHUNKED, DerivedFormat, Stream
from registry_pipelines.stream.pushing import has_tag, put_missing, scratch_folder
from registry_pipelines.stream.results import ConversionResult, StreamRow
from registry_pipelines.stream.signed_index import TOOL, StreamingIndex, attest_index
from registry_pipelines.stream.source import Source, read_source
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.uploads import Uploads

SILENT = Silent()


def convert_release(
    place: Place,
    release: Descriptor,
    tag: str,
    stream: Stream,
    *,
    state: Path,
    store: LayerStore,
    signer: Signer,
    engine: Engine | None = None,
    progress: Progress = SILENT,
) -> ConversionResult:
    """Convert a release and push what comes out, its signed record, and last its tag.

    release: the top manifest. tag: the release's; what is made gets ``stream.released_tag(tag)``. stream: a format that
    derives, and its sizes. state: folder of what is remembered between runs. store: records of layers that were read.
    signer: the indexer's. engine: what is uploaded with; one with its state in ``state`` unless told.

    Nothing is written when an image under that tag was made of this very release with these options. A release of which
    nothing can be converted is no error: the result says why, and it ships as it is. Killed at any point it leaves
    parts that nothing names, and the next run goes on from there.
    Raises InputError (it was made by a conversion itself, or names a SOCI index already), TagImmutable (the tag names
    something else), ManifestInvalid, LayerInvalid, DigestMismatch, ClosureIncomplete, and the RegistryError family.
    """
    name = _derived_format(stream)
    engine = engine or Engine(state=state / "transfer")
    own = engine.place(place)
    with (
        closing(ConvertedLayers(state / "stream" / "converted.sqlite")) as cache,
        scratch_folder(state / "stream") as folder,
        engine.opened() as opened,
    ):
        uploads = Uploads(opened, own, progress)
        form: Form = SociForm(own, stream, folder, store, uploads, progress)
        if name == "estargz":
            form = EstargzForm(own, stream, folder, store, uploads, cache, progress)
        result = _Run(own, release, stream.released_tag(tag), form, name, signer).run()
        opened.cancel_abandoned([own.registry])
        return result


def _derived_format(stream: Stream) -> DerivedFormat:
    for name in DERIVED_FORMATS:
        if name == stream.format:
            return name
    raise InputError(
        f"{stream.format} makes no new image, so there is nothing to convert",
        do=f"Set `stream.format` to {' or '.join(DERIVED_FORMATS)}, or index the release: "
        "`registry-pipelines stream index`",
    )


class _Run:
    """One release being converted."""

    def __init__(
        self, place: Place, release: Descriptor, tag: str, form: Form, name: DerivedFormat, signer: Signer
    ) -> None:
        self._place, self._release, self._tag = place, release, check_name(tag)
        self._form, self._name, self._signer = form, name, signer
        self._started = time.monotonic()
        self._sent = 0
        self._changed = False

    def run(self) -> ConversionResult:
        source = read_source(self._place, self._release.digest)
        if there := self._there(source):
            return there
        self._refuse(source)
        images = self._form.make(source)
        remade = {image.source.entry.digest: image.remade for image in images if image.remade}
        if not remade:
            rows = tuple(row for image in images for row in self._form.push(image)[0])
            return self._result(None, None, rows, why="; ".join(dict.fromkeys(image.why for image in images)))
        indexes = converted_indexes(source.top, source.indexes, remade)
        top = indexes[-1] if indexes else remade[source.top.digest].manifest
        tagged = has_tag(self._place, self._tag, top.digest)
        rows = self._push(images, indexes)
        carrier = self._sign(source, images, top)
        if not tagged:
            put_tag(self._place, top, self._tag)
            self._changed = True
        missing = tuple(dict.fromkeys(path for image in images for path in image.missing))
        return replace(self._result(top.descriptor, carrier, rows), missing=missing)

    def _there(self, source: Source) -> ConversionResult | None:
        """What an earlier run made of this release with these options, when its manifests and indexes are there."""
        digest = digest_at(self._place, self._tag)
        if digest is None:
            return None
        for record, carrier in self._own_records(digest):
            told = (record.origin, record.format, record.options)
            if told == (self._release.digest, self._name, self._form.options):
                rows = self._rows_there(source, digest, record)
                if rows is not None:
                    return self._result(self._place.registry.resolve(self._place.repository, digest), carrier, rows)
        return None

    def _rows_there(self, source: Source, derived: Digest, record: Derivation) -> tuple[StreamRow, ...] | None:
        """None when something of it is gone: then it is made again."""
        try:
            made = {image.entry.digest: image for image in read_source(self._place, derived).images}
            after = {pair.origin: made[pair.derived] for pair in record.platforms}
            pairs = [(image, after[image.entry.digest]) for image in source.images]
            return tuple(row for pair in pairs for row in self._form.rows_there(*pair))
        except (ContentError, NotFound, KeyError):
            return None

    def _own_records(self, digest: Digest) -> list[tuple[Derivation, Digest]]:
        """What this key signed about how ``digest`` was made, each with the manifest that carries it."""
        from registry_pipelines.evidence.keys import verifier_of

        verifier = verifier_of(self._signer)
        known = read_attestations(self._place, digest, verifier, predicate_type=DERIVATION_TYPE)
        return [(record, carrier.descriptor.digest) for record, carrier in read_derivations(known, digest)[0]]

    def _refuse(self, source: Source) -> None:
        """What was converted once is not converted again; files may have been put into other layers before. Raises
        InputError."""
        where = f"{self._place}@{self._release.digest}"
        records = (record for record, _ in self._own_records(self._release.digest))
        for record in (each for each in records if each.format != RECHUNKED):
            raise InputError(
                f"it was made by a conversion itself ({record.format}), of {record.origin}",
                where=where,
                do="Convert what it was made of",
            )
        named = [image.soci_index for image in source.images if image.soci_index]
        if named and self._name == "soci-v2":
            raise InputError(
                f"it names a SOCI index already, {named[0][:MAX_TEXT]}",
                where=where,
                do="It is streamed as it is; `registry-pipelines stream check` says whether that index is whole",
            )

    def _push(self, images: Sequence[MadeImage], indexes: Sequence[ManifestBytes]) -> tuple[StreamRow, ...]:
        """Everything but the tag, each thing behind what it names."""
        rows: list[StreamRow] = []
        for image in images:
            own, sent = self._form.push(image)
            rows += own
            self._sent += sent
        for image in images:
            if image.remade:
                self._put(image.remade.manifest)
                self._put(image.remade.index)
        for index in indexes:
            self._put(index)
        return tuple(rows)

    def _put(self, manifest: ManifestBytes | None) -> None:
        if manifest is not None:
            self._sent += put_missing(self._place, manifest)

    def _sign(self, source: Source, images: Sequence[MadeImage], top: ManifestBytes) -> Digest:
        """What this key says of what was made: each index, and what it was made of."""
        for image in images:
            if image.remade and image.remade.index:
                manifest = image.remade.manifest.descriptor
                note = StreamingIndex(
                    image=manifest.digest,
                    index=image.remade.index.digest,
                    format="soci-v2",
                    release=top.digest,
                    options=self._form.options,
                    tool=TOOL,
                )
                self._changed |= attest_index(self._place, manifest, note, self._signer).changed
        record = Derivation(
            origin=source.top.digest,
            derived=top.digest,
            format=self._name,
            options=self._form.options,
            platforms=tuple(map(_pair, images)),
            tool=TOOL,
        )
        made = attest_derivation(self._place, top.descriptor, record, self._signer)
        self._changed |= made.changed
        return made.descriptor.digest

    def _result(
        self, derived: Descriptor | None, record: Digest | None, rows: tuple[StreamRow, ...], *, why: str = ""
    ) -> ConversionResult:
        return ConversionResult(
            origin=self._release.digest,
            derived=derived,
            tag=self._tag,
            record=record,
            rows=rows,
            bytes_sent=self._sent,
            seconds=time.monotonic() - self._started,
            changed=self._changed or self._sent > 0,
            why=why,
        )


def _pair(image: MadeImage) -> DerivedPlatform:
    before = image.source.entry.digest
    after = image.remade.manifest.digest if image.remade else before
    return DerivedPlatform(platform=image.source.platform, origin=before, derived=after)


__all__ = ["convert_release"]
