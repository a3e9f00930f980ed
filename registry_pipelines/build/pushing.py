"""Layers on their way into a registry: known ones cost a HEAD, new ones are sent while they are made.

How they are sent is ``transfer.uploads``' business; what a layer came out as last time is the build cache's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from registry_pipelines.build.builder import LayerRow
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.recording import Keeping
from registry_pipelines.build.splice import LayerDigests, LayerWriter, Sink
from registry_pipelines.oci import media_types
from registry_pipelines.oci.layer.linkage import LinkCollector, LinkStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress
from registry_pipelines.transfer.blob.produced import Write
from registry_pipelines.transfer.uploads import Uploads

MODULE_BYTES = 512 * 1024
"""Compiling a module of usual size (3 ms) takes as long as taking over so many bytes of a wheel."""


@dataclass(frozen=True)
class LayerJob:
    """A layer that may have to be made. ``write`` gets a fresh writer and a callback for progress."""

    key: str
    contents: str
    work_bytes: int
    """Input bytes, for progress."""
    write: Callable[[LayerWriter, Callable[[int], None]], None]
    modules: int = 0
    """Python sources that are compiled."""

    @property
    def effort(self) -> int:
        """How long it takes beside other layers, as bytes that are only taken over."""
        return self.work_bytes + self.modules * MODULE_BYTES


def ensure_layer(
    job: LayerJob,
    uploads: Uploads,
    *,
    platform: str,
    cache: BuildCache,
    progress: Progress,
    keeping: Keeping | None = None,
    links: LinkStore | None = None,
) -> LayerRow:
    """Have the layer at the place: found, mounted from another repository of the registry, or made and uploaded."""
    task, place = f"layer {job.contents}", uploads.target
    known, sent = cache.layer(job.key), 0
    how: str | None = None
    if known:
        how = uploads.find(known.digest, known.size, cache.seen(known.digest, place.registry.name))
    if not known or not how:
        progress.begin(task, total_bytes=job.work_bytes)
        known = _upload(job, uploads, lambda count: progress.advance(task, count), keeping, links)
        how, sent = "uploaded", known.size
        cache.remember_layer(job.key, known)
    cache.remember_seen(known.digest, place.registry.name, place.repository)
    progress.end(task, note=how)
    return layer_row(job, known, platform=platform, how=how, bytes_uploaded=sent)


def layer_row(
    job: LayerJob, digests: LayerDigests, *, platform: str, how: str = "", bytes_uploaded: int = 0
) -> LayerRow:
    """The row of a layer that came out as ``digests``."""
    return LayerRow(
        platform=platform,
        contents=job.contents,
        key=job.key,
        digest=digests.digest,
        diff_id=digests.diff_id,
        size=digests.size,
        how=how,
        bytes_uploaded=bytes_uploaded,
    )


def measure_layer(
    job: LayerJob,
    *,
    cache: BuildCache,
    progress: Progress,
    keeping: Keeping | None = None,
    links: LinkStore | None = None,
    anew: bool = False,
) -> LayerDigests:
    """What the layer comes out as; made and thrown away when that is not known yet, or ``anew``. Nothing is sent."""
    known = cache.layer(job.key)
    if known is None or anew:
        task = f"compare {job.contents}"
        progress.begin(task, total_bytes=job.work_bytes)
        known = _make(job, lambda piece: None, lambda count: progress.advance(task, count), keeping, links)
        cache.remember_layer(job.key, known)
        progress.end(task)
    return known


def layer_descriptor(row: LayerRow) -> Descriptor:
    """The descriptor of a layer we made."""
    return Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=row.digest, size=row.size)


def _make(
    job: LayerJob, sink: Sink, advance: Callable[[int], None], keeping: Keeping | None, links: LinkStore | None
) -> LayerDigests:
    collector = LinkCollector() if links else None
    with ExitStack() as stack:
        record = stack.enter_context(keeping.records.writing(span_bytes=keeping.span_bytes)) if keeping else None
        if keeping is None or keeping.read is None:
            reader, writer = None, stack.enter_context(LayerWriter(sink, record, links=collector))
        else:
            reader = stack.enter_context(keeping.read())
            writer = stack.enter_context(LayerWriter(sink, record, tar_sink=reader.write, links=collector))
        job.write(writer, advance)
        digests = writer.finish()
        if reader is not None:
            reader.keep(digests.diff_id, digests.digest)
        if links and collector:
            links.keep(digests.diff_id, digests.digest, collector.finish())
        return digests


def _upload(
    job: LayerJob,
    uploads: Uploads,
    advance: Callable[[int], None],
    keeping: Keeping | None,
    links: LinkStore | None,
) -> LayerDigests:
    made: list[LayerDigests] = []
    reported = 0

    def produce(write: Write) -> Descriptor:
        done = 0

        def count(byte_count: int) -> None:
            """Of a layer that is made anew, what was told before is not told again."""
            nonlocal done, reported
            done += byte_count
            if done > reported:
                advance(done - reported)
                reported = done

        made.append(_make(job, write, count, keeping, links))
        return Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=made[-1].digest, size=made[-1].size)

    uploads.produce(job.key, produce)
    return made[-1]
