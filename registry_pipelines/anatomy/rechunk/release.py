"""A release whose layers are a package each: made of a pushed image, with a tag of its own and signed records.

What is made lies in the release's own repository under ``<tag>-rechunked``. Two records are attached to it: of what it
was made (``stream.derivation``, by which the gate finds the provenance), and why both have the same files
(``stream.rechunk_record``). It is a release of its own then: scanned, signed and judged by its own digest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from registry_pipelines.anatomy.rechunk.engine import read_layouts, rechunk
from registry_pipelines.anatomy.rechunk.model import Rechunked, RechunkedImage, RechunkOptions
from registry_pipelines.errors import ContentError, InputError, NotFound
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.keys import verifier_of
from registry_pipelines.evidence.model import Attestations, Signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.references import check_tag
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at, put_tag
from registry_pipelines.stream.derivation import Derivation, DerivedPlatform, attest_derivation, read_derivations
from registry_pipelines.stream.model import RECHUNKED
from registry_pipelines.stream.pushing import has_tag
from registry_pipelines.stream.rechunk_record import (
    DroppedFiles,
    LaidLayer,
    RechunkedPlatform,
    RechunkRecord,
    attest_rechunk,
    read_rechunks,
)
from registry_pipelines.stream.signed_index import TOOL
from registry_pipelines.stream.source import Source, read_source
from registry_pipelines.transfer.engine import Engine

Lender = tuple[Place, Digest]
"""Where an image is that lends its layout, and its top digest."""

MAX_PATHS = 20
"""Of what was left out, named in a record for each reason."""
SILENT = Silent()


@dataclass(frozen=True, kw_only=True)
class RechunkResult:
    """What was made of an image."""

    rechunked: Descriptor
    """The top manifest of what was made."""
    tag: str
    record: RechunkRecord
    carrier: Digest | None
    """Of the manifest that carries the signed record; None for an image that stayed as it is."""
    seconds: float
    how: Mapping[Digest, str] = field(default_factory=dict)
    """By the digest of a layer how it came to be there: ``present``, ``mounted``, ``uploaded``."""
    bytes_sent: int = 0
    changed: bool = False
    """False: image, records and tag were there; nothing was written."""
    notes: tuple[str, ...] = ()


def rechunk_release(
    place: Place,
    release: Descriptor,
    tag: str,
    wanted: RechunkOptions,
    *,
    target: Place | None = None,
    previous: Lender | None = None,
    state: Path,
    signer: Signer,
    engine: Engine | None = None,
    progress: Progress = SILENT,
) -> RechunkResult:
    """Rechunk a release, and push what comes out, its signed records, and last its tag.

    release: the top manifest. tag: what is made gets. target: where it is pushed to; beside the release unless told,
    and there alone the gate finds the provenance. previous: what lends its layout. state: folder of what is remembered
    between runs. signer: the indexer's. engine: what is uploaded with.

    Nothing is written when an image under that tag was made of this very release with these options. Killed at any
    point it leaves parts that nothing names, and the next run goes on from there.
    Raises InputError (it was derived itself), TagImmutable (the tag names something else), ManifestInvalid,
    LayerInvalid, DigestMismatch, ClosureIncomplete, and the RegistryError family.
    """
    return _Run(place, release, check_tag(tag), wanted, target or place, signer, state, engine, progress).run(previous)


@dataclass
class _Run:
    place: Place
    release: Descriptor
    tag: str
    wanted: RechunkOptions
    target: Place
    signer: Signer
    state: Path
    engine: Engine | None
    progress: Progress

    def run(self, previous: Lender | None) -> RechunkResult:
        started = time.monotonic()
        if there := self._there():
            top = self.target.registry.resolve(self.target.repository, there[0].rechunked)
            return self._result(top, *there, seconds=time.monotonic() - started)
        self._refuse()
        layouts = read_layouts(*previous) if previous else {}
        made = rechunk(
            self.place,
            self.release.digest,
            self.target,
            previous=layouts,
            options=self.wanted,
            state=self.state,
            engine=self.engine,
            progress=self.progress,
        )
        record = _record_of(
            made, self.wanted, previous[1] if previous and layouts else None, read_source(self.place, made.origin)
        )
        tagged = has_tag(self.target, self.tag, made.derived)
        carrier, signed = self._sign(made.descriptor, record)
        if not tagged:
            put_tag(self.target, self.target.registry.get_manifest(self.target.repository, made.derived), self.tag)
        result = self._result(made.descriptor, record, carrier, seconds=time.monotonic() - started)
        return replace(
            result,
            how={layer.digest: layer.how for image in made.images for layer in image.layers},
            bytes_sent=made.bytes_sent,
            changed=made.changed or signed or not tagged,
            notes=_notes(made),
        )

    def _result(
        self, top: Descriptor, record: RechunkRecord, carrier: Digest | None, *, seconds: float
    ) -> RechunkResult:
        return RechunkResult(rechunked=top, tag=self.tag, record=record, carrier=carrier, seconds=seconds)

    def _there(self) -> tuple[RechunkRecord, Digest] | None:
        """What an earlier run made of this release with these options, and the manifest that carries its record; None
        where there is none, or something of it is gone: then it is made again."""
        digest = digest_at(self.target, self.tag)
        if digest is None:
            return None
        known = self._known(self.target, digest)
        if not any(each.origin == self.release.digest for each, _ in read_derivations(known, digest)[0]):
            return None
        for record, carrier in read_rechunks(known, digest)[0]:
            told = (record.origin, record.times, record.drop, record.only)
            wanted = (self.release.digest, self.wanted.times, self.wanted.drop, self._platforms)
            if told == wanted and self._is_whole(digest):
                return record, carrier.descriptor.digest
        return None

    @property
    def _platforms(self) -> tuple[str, ...]:
        return tuple(map(str, self.wanted.platforms))

    def _is_whole(self, digest: Digest) -> bool:
        try:
            images = read_source(self.target, digest).images
        except (ContentError, NotFound):
            return False
        blobs = {layer.digest: layer.size for image in images for layer, _ in image.layers}
        return all(self.target.registry.blob_size(self.target.repository, one) == size for one, size in blobs.items())

    def _known(self, place: Place, digest: Digest) -> Attestations:
        """What this key signed about an image."""
        return read_attestations(place, digest, verifier_of(self.signer))

    def _refuse(self) -> None:
        """What was derived is not rechunked: its origin is. Raises InputError."""
        known = self._known(self.place, self.release.digest)
        for record, _ in read_derivations(known, self.release.digest)[0]:
            raise InputError(
                f"it was derived itself ({record.format}), of {record.origin}",
                where=f"{self.place}@{self.release.digest}",
                do="Rechunk what it was made of; what comes out can be converted after that",
            )

    def _sign(self, top: Descriptor, record: RechunkRecord) -> tuple[Digest | None, bool]:
        """Attach what this key says of what was made. The manifest that carries the record of both roots, and whether
        anything is new; nothing is signed of an image that stayed as it is."""
        if record.origin == record.rechunked:
            return None, False
        pairs = [
            DerivedPlatform(platform=each.platform, origin=each.origin, derived=each.rechunked)
            for each in record.platforms
        ]
        origin = Derivation(
            origin=record.origin,
            derived=record.rechunked,
            format=RECHUNKED,
            options={"times": self.wanted.times, "drop": list(self.wanted.drop), "platforms": self._platforms},
            platforms=tuple(pairs),
            tool=TOOL,
        )
        same = attest_rechunk(self.target, top, record, self.signer)
        made = attest_derivation(self.target, top, origin, self.signer)
        return same.descriptor.digest, same.changed or made.changed


def _record_of(made: Rechunked, wanted: RechunkOptions, previous: Digest | None, source: Source) -> RechunkRecord:
    """What is signed of both roots, and of images that stay as they are that they do."""
    done = {image.origin for image in made.images}
    stayed = [
        RechunkedPlatform(
            platform=image.platform,
            origin=image.entry.digest,
            rechunked=image.entry.digest,
            size_before=sum(layer.size for layer, _ in image.layers),
            layers=tuple(LaidLayer(digest=layer.digest, size=layer.size, contents="") for layer, _ in image.layers),
        )
        for image in source.images
        if image.entry.digest not in done
    ]
    return RechunkRecord(
        origin=made.origin,
        rechunked=made.derived,
        times=wanted.times,
        drop=tuple(wanted.drop),
        only=tuple(map(str, wanted.platforms)),
        previous=previous or "",
        platforms=(*map(_platform, made.images), *stayed),
        tool=TOOL,
    )


def _platform(image: RechunkedImage) -> RechunkedPlatform:
    return RechunkedPlatform(
        platform=image.platform,
        origin=image.origin,
        rechunked=image.derived,
        origin_tree=image.origin_tree,
        tree=image.tree,
        layers=tuple(LaidLayer(digest=each.digest, size=each.size, contents=each.name) for each in image.layers),
        size_before=image.size_before,
        dropped=tuple(
            DroppedFiles(why=each.kind, files=each.files, bytes=each.size, paths=tuple(each.examples[:MAX_PATHS]))
            for each in image.dropped
        ),
        pyc_rewritten=image.rewritten,
    )


def _notes(made: Rechunked) -> tuple[str, ...]:
    told = [f"{image.platform}: {note}" for image in made.images for note in image.notes]
    return tuple(dict.fromkeys((*made.notes, *told)))


__all__ = ["RechunkResult", "rechunk_release"]
