"""Converts a layer to eStargz: a gzipped tar whose files are gzip members of their own, with a table of contents, so
that a node reads single files of it before it has the whole (stargz-snapshotter, docs/estargz.md).

Any layer that a runtime unpacks goes in: plain, gzip or zstd, by its first bytes. One pass over it is enough as long as
names stand in it once and nothing is prioritized. Otherwise all names must be known before the first byte is written:
they come from what an earlier pass kept (``entries``), or the layer is read twice. Nothing of it is kept on disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from registry_pipelines.errors import LayerInvalid, LayerUnlisted, LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.decompress import Readable
from registry_pipelines.oci.layer.record import RawEntry
from registry_pipelines.oci.layer.walk import Entry, LayerFacts, LayerWalk, open_layer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from registry_pipelines.progress import count_text
from registry_pipelines.stream.estargz_headers import other_header, own_header, toc_row
from registry_pipelines.stream.estargz_members import MemberWriter, Write, Written
from registry_pipelines.stream.estargz_plan import Plan, Survey
from registry_pipelines.stream.estargz_toc import (
    LANDMARK_CONTENT,
    NO_PREFETCH_LANDMARK,
    PREFETCH_LANDMARK,
    RESERVED,
    TocEntry,
    toc_annotations,
)
from registry_pipelines.stream.toc import FileMetadata, file_metadata

CHUNK_BYTES = 4 * 1024 * 1024
"""Larger files are read in pieces of this size; the official tool's default."""
LEVEL = 6
"""Of libdeflate: smaller than the official tool's level 9, at a tenth of its time."""
THREADS = 2
_NAMES_TOLD = 100
"""Names of entries that were left out, in what is told of a conversion."""
_MOST_OWNERS = 1 << 16

Opener = Callable[[], AbstractContextManager[Readable]]
"""Opens the layer's stored bytes from the beginning; called once for each pass."""


class NotInOnePass(LocalError):
    """The layer has names more than once, so what was written so far is of no use; see :class:`Conversion`."""


@dataclass(frozen=True)
class Converted:
    """What a layer became. Sizes in bytes."""

    descriptor: Descriptor
    """Of the new layer, with both annotations; its type stays OCI's tar+gzip."""
    diff_id: Digest
    """What the image's config must name in place of the source's."""
    uncompressed_size: int
    toc_digest: Digest
    toc_size: int
    members: int
    files: int
    """Entries in the table that are files with content."""
    chunks: int
    source: LayerFacts
    """What was read."""
    left_out: int
    """Entries that are not there any more: a later one has their name, or the format has it for itself."""
    left_out_names: tuple[str, ...]
    """At most a hundred of them."""
    prioritized: int
    """Entries before the landmark, folders and link targets included."""
    missing: tuple[str, ...]
    """Prioritized paths that this layer does not have, as they were given."""


@dataclass(frozen=True)
class Options:
    """How a layer is written. The blob depends on all but ``threads``."""

    prioritized: tuple[str, ...] = ()
    """Paths that a container reads when it starts: nodes fetch them first. Links are not followed."""
    chunk_bytes: int = CHUNK_BYTES
    level: int = LEVEL
    threads: int = THREADS
    """That compress, beside the one that reads."""


class Conversion:
    """One layer to convert.

    :meth:`run` writes the blob, and is what ``Uploads.produce`` wants::

        conversion = Conversion(open_blob, where="...", expected=descriptor, diff_id=diff_id)
        converted = conversion.deliver(lambda produce: uploads.produce(name, produce))

    expected, diff_id: what the source must be; checked before the end is written. entries: of a record of this very
    layer. where: what to call the layer in errors. folder: gets the table of contents where it is too long for memory;
    the system's for temporary files unless told.
    """

    def __init__(
        self,
        open_blob: Opener,
        *,
        where: str = "",
        expected: Descriptor | None = None,
        diff_id: Digest | None = None,
        entries: Iterable[RawEntry] | None = None,
        options: Options = Options(),
        folder: Path | None = None,
    ) -> None:
        self._open, self._where, self._expected, self._diff_id = open_blob, where, expected, diff_id
        self._entries, self._options, self._folder = entries, options, folder
        self._names = tuple(_clean(name) for name in options.prioritized)
        self._plan: Plan | None = None
        self.result: Converted | None = None
        """Once it ran to its end."""

    def deliver(self, deliver: Callable[[Callable[[Write], Descriptor]], object]) -> Converted:
        """Run within ``deliver``, which is called with a function that writes the blob; a second time when the layer
        turned out to need a second pass: what the first one wrote is then to be thrown away.

        Raises LayerUnlisted: an entry that the format cannot carry; LayerInvalid: damaged, unsafe; DigestMismatch; what
        ``deliver`` raises.
        """
        try:
            deliver(self.run)
        except NotInOnePass:
            deliver(self.run)
        assert self.result is not None  # noqa: S101 - run ended
        return self.result

    def run(self, write: Write) -> Descriptor:
        """Write the blob. Raises as :meth:`deliver` does, and NotInOnePass when the next call will know better."""
        if self._plan is None and (self._entries is not None or self._names):
            self._plan = self._survey().plan(self._names)
        plan = self._plan or Plan()
        survey = None if self._plan else Survey()
        options = self._options
        with MemberWriter(write, level=options.level, threads=options.threads, folder=self._folder) as members:
            writing = _Writing(members, plan, options.chunk_bytes, self._where)
            if plan.first:
                with self._open() as stream:
                    writing.entries(self._walk(stream), only_first=True)
            writing.landmark(PREFETCH_LANDMARK if plan.first else NO_PREFETCH_LANDMARK)
            with self._open() as stream:
                walk = self._walk(stream)
                writing.entries(_surveyed(walk, survey) if survey else walk)
                source = walk.finish()
            if survey is not None:
                plan = survey.plan()
                if not plan.in_order:
                    self._plan = plan
                    raise NotInOnePass("the layer has names more than once", where=self._where)
            elif source.entries != plan.entries:
                found = count_text(source.entries, "entry", "entries")
                raise LayerInvalid(f"the layer has {found}, an earlier pass found {plan.entries}", where=self._where)
            missing = tuple(name for name in options.prioritized if _clean(name) in plan.missing)
            self.result = writing.result(members.finish(), source, missing)
        return self.result.descriptor

    def _walk(self, stream: Readable) -> LayerWalk:
        return open_layer(stream, OCI_LAYER_GZIP, where=self._where, expected=self._expected, diff_id=self._diff_id)

    def _survey(self) -> Survey:
        survey = Survey()
        if self._entries is not None:
            for raw in self._entries:
                entry = file_metadata(raw.position, raw.size, raw.blocks, where=self._where)
                target = _clean(entry.link) if entry.kind == b"hardlink" else b""
                survey.add(_clean(entry.name), folder=entry.kind == b"dir", target=target)
            return survey
        with self._open() as stream:
            walk = self._walk(stream)
            for _ in _surveyed(walk, survey):
                pass
            walk.finish()
        return survey


def _surveyed(walk: Iterable[Entry], survey: Survey) -> Iterator[Entry]:
    for entry in walk:
        target = _raw(entry.link) if entry.kind == "hardlink" else b""
        survey.add(_raw(entry.name), folder=entry.kind == "directory", target=target)
        yield entry


def _raw(name: str | bytes) -> bytes:
    """A name as it stands in the tar, whatever the locale."""
    return name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")


def _clean(name: str | bytes) -> bytes:
    """Below the root, as ``Entry.name`` has it."""
    return os.path.normpath(b"/" + _raw(name)).lstrip(b"/")


class _Writing:
    """Entries of the source, as the plan has them."""

    def __init__(self, members: MemberWriter, plan: Plan, chunk_bytes: int, where: str) -> None:
        self._members, self._plan, self._chunk_bytes, self._where = members, plan, chunk_bytes, where
        self._users: dict[int, bytes] = {}
        self._groups: dict[int, bytes] = {}
        self._left_out: list[str] = []
        self._left_out_count = self._files = self._chunks = 0

    def landmark(self, name: str) -> None:
        """One of the format's own files, which says whether something stands before it."""
        entry = TocEntry(name=name, type="reg", size=len(LANDMARK_CONTENT))
        self._members.header(own_header(name, entry.size))
        self._members.list(entry)
        self._members.content(entry, entry.size, lambda view: view.__setitem__(slice(None), LANDMARK_CONTENT))
        self._members.pad(entry.size)

    def entries(self, walk: Iterable[Entry], *, only_first: bool = False) -> None:
        """Those that stand before the landmark, or the others."""
        first = self._plan.first
        last = max(first, default=0) if only_first else -1
        for number, entry in enumerate(walk):
            if (number in first) is only_first:
                self._entry(number, entry)
            if number == last:
                break

    def _entry(self, number: int, entry: Entry) -> None:
        plan = self._plan
        if number in plan.superseded or entry.name in RESERVED:
            self._left_out_count += 1
            if len(self._left_out) < _NAMES_TOLD:
                self._left_out.append(entry.name)
            return
        if number in plan.moved:
            return
        if number in plan.refused:
            raise self._refusal(entry, plan.refused[number])
        blocks, position = entry.blocks, entry.position
        found = file_metadata(position, entry.size, blocks, where=self._where)
        if number in plan.renamed or number in plan.links:
            blocks = other_header(found, name=plan.renamed.get(number, b""), link=plan.links.get(number, b""))
            found = file_metadata(position, entry.size, blocks, where=self._where)
        listed = self._listed(found, entry)
        self._members.header(blocks)
        self._members.list(listed)
        if listed.size:
            self._content(listed, entry)

    def _content(self, listed: TocEntry, entry: Entry) -> None:
        size, chunk_bytes = listed.size, self._chunk_bytes
        hasher = sha256() if size > chunk_bytes else None

        def fill(view: memoryview) -> None:
            entry.readinto(view)
            if hasher is not None:
                hasher.update(view)

        for start in range(0, size, chunk_bytes):
            if start:
                listed_chunk = TocEntry(name=listed.name, type="chunk", chunk_offset=start)
                self._members.list(listed_chunk)
            else:
                listed_chunk = listed
            if size - start >= chunk_bytes:
                listed_chunk.chunk_size = chunk_bytes
            self._members.content(listed_chunk, min(chunk_bytes, size - start), fill)
            self._chunks += 1
        if hasher is not None:
            listed.digest = f"sha256:{hasher.hexdigest()}"
        self._members.pad(size)
        self._files += 1

    def _listed(self, found: FileMetadata, entry: Entry) -> TocEntry:
        """The entry's row of the table."""
        if found.kind == b"hardlink" and not found.link:
            raise self._refusal(entry, "is a hard link to nothing")
        try:
            row = toc_row(found)
        except UnicodeDecodeError as error:
            raise self._refusal(entry, "has a name, a link or an attribute that is not UTF-8") from error
        row.user, row.group = _news(self._users, found.uid, found.user), _news(self._groups, found.gid, found.group)
        return row

    def _refusal(self, entry: Entry, why: str) -> LayerUnlisted:
        return LayerUnlisted(
            f"eStargz cannot carry this layer: {entry.name!r} {why}",
            where=self._where,
            do="Build the layer without such an entry, or leave it as it is: nodes fetch it whole",
        )

    def result(self, written: Written, source: LayerFacts, missing: tuple[str, ...]) -> Converted:
        """What to tell at the end."""
        return Converted(
            descriptor=Descriptor(
                media_type=OCI_LAYER_GZIP,
                digest=written.digest,
                size=written.size,
                annotations=toc_annotations(written.toc_digest, written.uncompressed_size),
            ),
            diff_id=written.diff_id,
            uncompressed_size=written.uncompressed_size,
            toc_digest=written.toc_digest,
            toc_size=written.toc_size,
            members=written.members,
            files=self._files,
            chunks=self._chunks,
            source=source,
            left_out=self._left_out_count,
            left_out_names=tuple(self._left_out),
            prioritized=len(self._plan.first),
            missing=missing,
        )


def _news(told: dict[int, bytes], number: int, name: bytes) -> str:
    """The name, unless it is the one that was told last for this number: a reader remembers it."""
    if told.get(number, b"") == name:
        return ""
    if len(told) >= _MOST_OWNERS:
        told.clear()
    told[number] = name
    return name.decode("utf-8", "replace")
