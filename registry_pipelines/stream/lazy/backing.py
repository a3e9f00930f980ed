"""The file of an image that the kernel mounts as EROFS: metadata in front, and behind it what came of the layers.

It is filled from the layers' own files, which all images share: a block is fetched once however many images have it,
and stands on the disk once more for each that is mounted so, unless the file system lets files share blocks. One
process fills a file; who mounts the same image beside it gets another. The metadata is written before it is told of,
and the super block as the last of it: a file without one cannot be mounted. What a crash of the machine may have undone
is not believed (``blocks``).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from registry_pipelines.errors import ContentError, DiskFull
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.tar import BLOCK_BYTES
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.erofs import ALIGNMENT, FORMAT, Layout, Metadata, ReadyMetadata, Region
from registry_pipelines.stream.lazy.kept import KeptFiles
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer
from registry_pipelines.stream.lazy.mounting import mounts
from registry_pipelines.stream.lazy.pages_ahead import Extents
from registry_pipelines.stream.lazy.tree import Tree

MAX_BYTES = 32 * 1024**3
"""Of all images' files on the disk; those not used for longest go first, never one that is mounted."""

MAX_LAYOUTS_BYTES = 4 << 20

COPY_BYTES = 1 << 20
"""At once; whoever waits for the disk waits for no more."""

_SCAN_BYTES = 4 << 20
_FIRST_BYTES = 4096
"""In front, with the super block."""


class _Kept(msgspec.Struct, frozen=True):
    """What of a layout does not follow from the layers."""

    metadata_bytes: int
    left_out: list[str] = []


class BackingStore:
    """The files below ``folder``, on a disk of this machine alone; best that of the layers. There is nothing to
    close."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Raises what ``kept.make_own`` does."""
        self._files = BlockStore(folder, max_bytes=max_bytes, is_used=_is_mounted)
        # Nothing waits for the disk: a layout that a power cut tears is made again.
        self._layouts = KeptFiles(folder / "layouts", max_bytes=MAX_LAYOUTS_BYTES, lasting=False)

    def open(
        self,
        tree: Tree,
        layers: Sequence[LazyLayer],
        made: Callable[[], ReadyMetadata | None] = lambda: None,
    ) -> BackingFile:
        """The file of an image, ready to be mounted. It is this process's until it is closed. layers: as the tree
        counts them; they stay open as long as it. made: asked for metadata that is made already, where it is needed.

        Raises what ``erofs.Metadata`` does, LocalError, DiskFull.
        """
        sizes = [layer.size for layer in layers]
        content = _content(tree, layers)
        layout = self._layout(content, sizes)
        metadata: Metadata | ReadyMetadata | None = None
        if layout is None:
            metadata = made() or Metadata(tree, sizes)
            layout = metadata.layout
            kept = _Kept(layout.metadata_bytes, list(layout.left_out))
            self._layouts.put(content.hex, encode_json(kept))
        file = BackingFile(self._free(content, layout.size), layout, layers, self)
        try:
            if not file.ready:
                file.begin(metadata or made() or Metadata(tree, sizes))
        except BaseException:
            file.close()
            raise
        return file

    def adopt(self, tree: Tree, layers: Sequence[LazyLayer], data: int, filling: int) -> BackingFile | None:
        """The file of an image that another process had, and left with these descriptors (``LazyLayer.adopt``); None:
        it is not this image's. Raises LocalError."""
        sizes = [layer.size for layer in layers]
        content = _content(tree, layers)
        layout = self._layout(content, sizes)
        for number in itertools.count():
            name = _name(content, number)
            path = self._files.path(name, layout.size) / "data" if layout else None
            if layout is None or path is None or not path.exists():
                return None
            if os.path.samestat(path.stat(), os.fstat(data)):
                blocks = self._files.open(name, layout.size)
                blocks.adopt(data, filling)
                return BackingFile(blocks, layout, layers, self)
        raise AssertionError

    def make_room(self, wanted: int = 0) -> int:
        """Delete files that nobody has open or mounted: see ``BlockStore.make_room``."""
        return self._files.make_room(wanted)

    def drop(self, folder: Path) -> bool:
        """Delete a file, by its folder: see ``BlockStore.drop``. Its blocks are copies of the layers' own."""
        return self._files.drop(folder)

    def _layout(self, content: Digest, sizes: Sequence[int]) -> Layout | None:
        path = self._layouts.find(content.hex)
        try:
            kept = decode_json(path.read_bytes(), _Kept, what="layout") if path else None
        except (OSError, ContentError):  # evicted, or damaged
            return None
        return Layout.of(kept.metadata_bytes, sizes, kept.left_out) if kept else None

    def _free(self, content: Digest, size: int) -> LazyLayer:
        """The first file of the image that no other process has."""
        for number in itertools.count():
            name = _name(content, number)
            blocks = self._files.open(name, size)
            if blocks.fill_alone():
                return blocks
            blocks.close()
        raise AssertionError


class BackingFile:
    """Made by :meth:`BackingStore.open`; for many threads. Offsets are bytes of the file. What is not there reads as
    zeros: nobody may read of it before :meth:`fill`."""

    def __init__(self, blocks: LazyLayer, layout: Layout, layers: Sequence[LazyLayer], store: BackingStore) -> None:
        self.layout = layout
        self.path = blocks.folder / "data"
        """What is mounted."""
        self._blocks, self._layers, self._store = blocks, layers, store
        self._shares = any(blocks.may_share(layer) for layer in layers)

    def __enter__(self) -> BackingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let it go; safe to call twice. What was not synced is copied again after a crash of the machine."""
        self._blocks.close(synced=False)

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """See ``LazyLayer.descriptors``."""
        return self._blocks.descriptors

    def open_bits(self) -> int:
        """A descriptor of the file with a bit for each block of ``BLOCK_BYTES`` that is there. Raises OSError."""
        return os.open(self._blocks.folder / "blocks", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def ready(self) -> bool:
        """Whether its metadata is there."""
        return self.holds(0, self.layout.metadata_bytes)

    def begin(self, metadata: Metadata | ReadyMetadata) -> None:
        """Write the metadata. Raises LocalError, DiskFull."""
        out = _Front(self._put)
        metadata.write(out)
        for region in self.layout.regions:  # nobody reads what is between them
            stop = region.offset + region.size
            self._blocks.mark(stop + -stop % BLOCK_BYTES, stop + -stop % ALIGNMENT)
        self._put(0, out.first)
        self._blocks.mark(0, self.layout.metadata_bytes)

    def holds(self, start: int, stop: int) -> bool:
        """Whether all from ``start`` to ``stop`` is there."""
        return self._blocks.holds(*self._whole(start, stop))

    def fill(self, start: int, stop: int) -> None:
        """Have all from ``start`` to ``stop`` there; waits for layers.

        Raises what ``LazyLayer.view`` does; DiskFull, also where deleting other files did not help.
        """
        start, stop = self._whole(start, stop)
        if self._blocks.holds(start, stop):
            return
        for part in self.layout.parts(start, stop):
            for begin in range(0, part.size, COPY_BYTES):
                size = min(COPY_BYTES, part.size - begin)
                if not self.holds(part.offset + begin, part.offset + begin + size):
                    self._copy(part.layer, part.position + begin, size)

    def copy_extents(self, layer: int, extents: Extents) -> None:
        """Copy positions and sizes that a layer has; what it has not all of is left. It waits for nobody. Raises
        LocalError, DiskFull."""
        region, source, written = self.layout.regions[layer], self._layers[layer], []
        for position, size in extents:
            start, stop = self._whole(region.offset + position, region.offset + position + size)
            if self._blocks.holds(start, stop):
                continue
            # A block at an end, of which the rest is not here, comes with that.
            start += 0 if self._has(source, region, start) else BLOCK_BYTES
            stop -= 0 if self._has(source, region, stop - BLOCK_BYTES) else BLOCK_BYTES
            first, last = max(start, region.offset), min(stop, region.offset + region.size)
            if first >= last or self._blocks.holds(first, last):
                continue
            if source.holds(first - region.offset, last - region.offset):
                self._put(first, source.view(first - region.offset, last - first))
                written.append((start, stop))
        self._blocks.mark_all(written)

    def put_extents(self, layer: int, extents: Extents, content: memoryview) -> None:
        """Have bytes of a layer that were verified, one extent behind the other. Raises LocalError, DiskFull."""
        region, written, start = self.layout.regions[layer], [], 0
        for position, size in extents:
            offset = region.offset + position
            self._put(offset, content[start : start + size])
            stop = offset + size
            # Nothing else is in the last block of a layer.
            written.append((offset, stop if position + size < region.size else stop + -stop % BLOCK_BYTES))
            start += size
        self._blocks.mark_all(written)

    def _has(self, source: LazyLayer, region: Region, block: int) -> bool:
        """Whether a layer has all of a block that is its own."""
        first = max(block, region.offset) - region.offset
        return source.holds(first, min(block + BLOCK_BYTES - region.offset, region.size))

    def copy_held(self, most: int) -> int:
        """Copy some of what the layers have and the file has not, in the background. Returns the bytes, none when there
        are no more for now. Raises LocalError, DiskFull."""
        copied = 0
        for layer, start, stop in self._held():
            for position in range(start, stop, COPY_BYTES):
                size = min(COPY_BYTES, stop - position)
                self._copy_or_share(layer, position, size)
                copied += size
                if copied >= most:
                    return copied
        return copied

    @property
    def complete(self) -> bool:
        """Whether nothing of it is a hole any more."""
        return self._blocks.complete

    @property
    def twice_bytes(self) -> int:
        """Of layers, those that stand once more on the disk."""
        return max(0, self._blocks.file_bytes(shared=not self._shares) - self.layout.metadata_bytes)

    def sync(self) -> None:
        """Have what is there survive a crash of the machine. Raises DiskFull, OSError: it is not there any more, see
        ``LazyLayer.sync``; who reads it now gets what the disk has, so end the mount."""
        self._blocks.sync()

    def _copy(self, layer: int, position: int, size: int) -> None:
        offset = self.layout.regions[layer].offset + position
        self._put(offset, self._layers[layer].view(position, size))
        self._blocks.mark(*self._whole(offset, offset + size))

    def _copy_or_share(self, layer: int, position: int, size: int) -> None:
        """Whole blocks of the disk are shared. Not where somebody waits: the kernel first writes what came of them."""
        start, stop = position + -position % ALIGNMENT, (position + size) // ALIGNMENT * ALIGNMENT
        region = self.layout.regions[layer]
        if not self._shares or stop <= start:
            self._copy(layer, position, size)
            return
        if start > position:
            self._copy(layer, position, start - position)
        if self._blocks.share(region.offset + start, stop - start, self._layers[layer], start):
            self._blocks.mark(region.offset + start, region.offset + stop)
        else:
            self._copy(layer, start, stop - start)
        if position + size > stop:
            self._copy(layer, stop, position + size - stop)

    def _put(self, offset: int, content: bytes | memoryview) -> None:
        while True:
            try:
                self._blocks.put(offset, content)
            except DiskFull:
                if not self._store.make_room(len(content)):
                    raise
            else:
                return

    def _whole(self, start: int, stop: int) -> tuple[int, int]:
        """Blocks around it."""
        return start - start % BLOCK_BYTES, min(stop + -stop % BLOCK_BYTES, self.layout.size)

    def _held(self) -> Iterator[tuple[int, int, int]]:
        """Layer, from and to, of what could be copied."""
        for number, (region, layer) in enumerate(zip(self.layout.regions, self._layers, strict=True)):
            for start in range(0, region.size, _SCAN_BYTES):
                stop = min(start + _SCAN_BYTES, region.size)
                offset = region.offset
                missing = list(self._blocks.runs(offset + start, offset + stop, there=False))
                if missing:
                    wanted = [(first - offset, min(last - offset, stop)) for first, last in missing]
                    yield from ((number, *run) for run in _both(wanted, layer.runs(start, stop)))


def _content(tree: Tree, layers: Sequence[LazyLayer]) -> Digest:
    """Names all that a complete file has: the names of layers say whose table is believed."""
    names = " ".join(layer.folder.name for layer in layers)
    return Digest.of(f"{FORMAT} {names} {tree.digest}".encode())


def _name(content: Digest, number: int) -> Digest:
    """Of one of the files with the same content."""
    return Digest.of(f"{content} {number}".encode())


class _Front:
    """Writes metadata to a file, without the very first bytes."""

    def __init__(self, put: Callable[[int, memoryview], object]) -> None:
        self.first = b""
        self._put, self._at = put, 0

    def write(self, content: bytearray, /) -> None:
        """Keep the first bytes, write others."""
        view = memoryview(content)
        if not self._at:
            self.first = bytes(view[:_FIRST_BYTES])
            view = view[_FIRST_BYTES:]
        self._put(self._at + len(content) - len(view), view)
        self._at += len(content)


def _both(ones: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What two lists of runs have in common."""
    waiting = iter(others)
    other = next(waiting, None)
    for start, stop in ones:
        while other is not None and other[1] <= start:
            other = next(waiting, None)
        while other is not None and other[0] < stop:
            yield max(start, other[0]), min(stop, other[1])
            if other[1] > stop:
                break
            other = next(waiting, None)


def _is_mounted(folder: Path) -> bool:
    """Whether somebody's mount, maybe of a process that was killed, reads the file."""
    return any(each.kind == "erofs" and Path(each.source) == folder / "data" for each in mounts())


__all__ = ["BackingFile", "BackingStore"]
