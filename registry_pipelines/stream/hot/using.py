"""A hot pack on a node: its tree is mounted at once, and its frames come in the order in which the start needs them.

What goes wrong with a pack is told in one line, and the layers are read as without one.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_pipelines.errors import (
    ContentError,
    DiskFull,
    IndexInvalid,
    NotFound,
    RegistryPipelinesError,
    Unavailable,
    Unsupported,
)
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.protocol import Place, Readable
from registry_pipelines.stream.hot.pack import Frame, Head, open_frame
from registry_pipelines.stream.hot.packs import FoundPack, find_packs, read_head
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.jobs import Fetched, Runs
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer
from registry_pipelines.stream.lazy.pages_ahead import PAGE_BYTES, Brought, Came
from registry_pipelines.stream.lazy.tree import Tree
from registry_pipelines.stream.ranges import blob_ranges

if TYPE_CHECKING:  # only who mounts EROFS needs it
    from registry_pipelines.stream.lazy.erofs import ReadyMetadata

CONNECTIONS = 3
"""Requests for frames at once: while one waits for the registry's first byte, others give."""
RUN_BYTES = 4 << 20
"""Of frames that follow each other in a blob, in one request."""
AHEAD_FRAMES = 16
"""How much later than the first frame of a request the start may need another one of it."""
MOST_ERRORS = 3
"""Requests that fail one after the other before the rest of a pack is left to the layers."""


@dataclass(frozen=True)
class OpenPack:
    """A believed pack of an image, whose head was read and fits."""

    found: FoundPack
    head: Head
    """Without its tree, which is open."""
    tree: Tree

    def check_fits(self, manifest: Manifest) -> None:
        """That the pack's layers are the image's. Raises IndexInvalid."""
        where = str(self.found.descriptor.digest)
        if [layer.digest for layer in self.head.layers] != [layer.digest for layer in manifest.layers]:
            raise IndexInvalid("it has other layers than the image", where=where)
        if not any(layer.table for layer in self.head.layers):
            return
        from registry_pipelines.oci.media_types import TOC_ANNOTATION

        for layer, own in zip(self.head.layers, manifest.layers, strict=True):
            if layer.table is not None and (own.annotations or {}).get(TOC_ANNOTATION) != layer.table:
                raise IndexInvalid(f"it was cut by another table of {layer.digest.short}", where=where)


def open_pack(
    place: Place,
    image: Digest,
    verifier: Verifier | None,
    *,
    log: Callable[[str], object],
    vouched: Callable[[], object] = lambda: None,
) -> OpenPack | None:
    """The pack that a node uses of a platform's manifest; None for none. vouched: is told that there is one which a
    believed indexer signed, before it is read. Raises nothing of the RegistryPipelinesError family: what is wrong with
    a pack is told, and the image starts without."""
    if verifier is None:
        return None
    try:
        packs = find_packs(place, image, verifier, first=True)
        if not packs.believed:
            for each in packs.not_used:
                log(f"a hot pack is not used: {each}")
            return None
        vouched()
        return read_pack(place, packs.believed[0])
    except RegistryPipelinesError as error:
        log(f"the hot pack is not used: {error}")
        return None


def read_pack(place: Place, found: FoundPack) -> OpenPack:
    """The head of a believed pack, with its tree. Raises what :func:`~registry_pipelines.stream.hot.packs.read_head`
    does."""
    head = read_head(place, found)
    tree = head.open_tree()
    return OpenPack(found, head._replace(tree=b""), tree)


class Coming:
    """A frame on its way."""

    __slots__ = ("done", "failed", "frame", "part", "position", "rank", "taken")

    def __init__(self, part: int, position: int, frame: Frame, rank: int) -> None:
        """position: of its bytes in the blob. rank: when it is needed."""
        self.part, self.position, self.frame, self.rank = part, position, frame, rank
        self.taken = self.failed = False
        self.done = threading.Event()


class _LayerFrames:
    """The frames of one layer that are on their way, by position; what a layer's filler asks (``jobs.Ahead``)."""

    def __init__(self, stream: PackStream, frames: Sequence[Coming]) -> None:
        self._stream = stream
        rows = sorted(
            (start, start + size, number)
            for number, coming in enumerate(frames)
            for start, size in coming.frame.extents
        )
        self._frames = frames
        self._starts = [start for start, _, _ in rows]
        self._rows = rows

    def wanted(self, start: int, stop: int) -> tuple[list[Coming], list[tuple[int, int]]]:
        """See ``jobs.Ahead``."""
        found: dict[int, Coming] = {}
        gaps: list[tuple[int, int]] = []
        at = start
        for row in range(max(bisect_right(self._starts, start) - 1, 0), len(self._rows)):
            first, last, number = self._rows[row]
            if first >= stop:
                break
            coming = self._frames[number]
            if last <= at or coming.failed:
                continue
            if not coming.done.is_set():
                found[number] = coming
            if first > at:
                gaps.append((at, first))
            at = last
        if at < stop:
            gaps.append((at, stop))
        return list(found.values()), gaps

    def wait(self, wanted: Sequence[Coming], patience_s: float) -> None:
        """See ``jobs.Ahead``."""
        self._stream.wait(wanted, patience_s)


class PackStream:
    """Brings the frames of a pack to the layers' files; see the module. For many threads. Close it."""

    def __init__(
        self,
        place: Place,
        pack: OpenPack,
        layers: Sequence[LazyLayer],
        store: BlockStore,
        *,
        count: Fetched,
        log: Callable[[str], object],
    ) -> None:
        """layers: as the head has them. count: of what comes."""
        self.layers = layers
        self.digest = str(pack.found.descriptor.digest)
        """Of the pack."""
        self.gpu = pack.found.note.gpu
        """Whether a GPU was there when it was recorded."""
        self.read_ahead_bytes = pack.head.window // PAGE_BYTES * PAGE_BYTES or PAGE_BYTES
        """Of the mounts that it was cut for."""
        self._place, self._head, self._layers, self._store = place, pack.head, layers, store
        self._count, self._log = count, log
        self._lock = threading.Condition()
        self._closed, self._errors, self._said = False, 0, False
        self._moved_at = time.monotonic()
        self._told: Came | None = None
        self._brought: Brought | None = None
        self._metadata: Future[ReadyMetadata | None] | None = None
        self._parts = self._wanted_frames()
        self._demand: deque[Coming] = deque()
        ordered = sorted((each for part in self._parts for each in part if each is not None), key=lambda c: c.rank)
        self.frames = len(ordered)
        """How many are to come."""
        self._left = deque(ordered)
        self._syncing, self._ended = threading.Lock(), 0
        """Threads that have nothing more to do."""
        self._threads = [
            threading.Thread(target=self._work, name=f"pack_{number}", daemon=True) for number in range(CONNECTIONS)
        ]

    def _wanted_frames(self) -> list[list[Coming | None]]:
        """By part, those that the node lacks."""
        ranks = {key: rank for rank, key in enumerate(self._head.order)}
        found: list[list[Coming | None]] = []
        for number, part in enumerate(self._head.parts):
            lazy, position = self._layers[part.layer], 0
            row: list[Coming | None] = []
            for index, frame in enumerate(part.frames):
                rank = ranks.get((number, index))
                there = rank is None or all(lazy.holds(start, start + size) for start, size in frame.extents)
                row.append(None if there or rank is None else Coming(number, position, frame, rank))
                position += frame.stored
            found.append(row)
        return found

    def ask_metadata(self) -> None:
        """Begin to fetch what :meth:`metadata` gives; before :meth:`start`, for it would wait behind the frames."""
        alone = ThreadPoolExecutor(1, thread_name_prefix="metadata")
        self._metadata = alone.submit(self._read_metadata)
        alone.shutdown(wait=False)

    def metadata(self) -> ReadyMetadata | None:
        """The tree as EROFS; None where the pack has none that can be used, which is told."""
        asked, self._metadata = self._metadata, None
        return asked.result() if asked else self._read_metadata()

    def _read_metadata(self) -> ReadyMetadata | None:
        from registry_pipelines.stream.hot.metadata import read_metadata

        if self._head.metadata is None:
            return None
        try:
            return read_metadata(self._place, self._head.metadata, [layer.size for layer in self._head.layers])
        except RegistryPipelinesError as error:
            self._log(f"the hot pack's metadata is not used, and is made here: {error}")
            return None

    def of_layer(self, number: int) -> _LayerFrames | None:
        """What comes of one layer; None for nothing."""
        frames = [
            coming
            for part, row in zip(self._head.parts, self._parts, strict=True)
            if part.layer == number
            for coming in row
            if coming is not None
        ]
        return _LayerFrames(self, frames) if frames else None

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Let go who waits; what is under way ends by itself."""
        with self._lock:
            self._closed = True
            self._fail([each for row in self._parts for each in row if each is not None and not each.taken])
        with self._syncing:  # else who closes the layers would take them for synced
            pass

    def join(self) -> None:
        """Until all came, or failed."""
        for thread in self._threads:
            thread.join()

    def wait(self, wanted: Sequence[Coming], patience_s: float) -> None:
        """Until these came or failed, or nothing came for so long; they are fetched before others."""
        with self._lock:
            self._demand.extend(each for each in wanted if not each.taken)
        for each in wanted:
            left_s = patience_s
            while left_s > 0 and not each.done.wait(left_s):
                left_s = self._moved_at + patience_s - time.monotonic()

    def _work(self) -> None:
        while run := self._take():
            try:
                self._fetch(run)
            except RegistryPipelinesError as error:
                self._trouble(run, error)
            except Exception as error:  # readers would wait for a thread that is gone
                self._trouble(run, RegistryPipelinesError(f"unexpected: {error!r}", where=str(self._place)))
            with self._lock:
                self._fail(run)  # after the end not all of them came
        with self._syncing:
            self._ended += 1
            if self._ended == len(self._threads):
                self._sync()

    def _sync(self) -> None:
        """While the start goes on, the disk takes what came: at the end somebody would wait for that."""
        try:
            for lazy in self._layers:
                if not self._closed:
                    lazy.sync()
        except (RegistryPipelinesError, OSError) as error:
            self._log(f"the disk did not take all of the hot pack, which is fetched again: {error}")

    def _take(self) -> list[Coming]:
        """Frames for one request; none at the end."""
        with self._lock:
            first = next((each for each in _drained(self._demand) if not each.taken), None) or next(
                (each for each in _drained(self._left) if not each.taken), None
            )
            if first is None or self._closed:
                return []
            run, size = [first], first.frame.stored
            row = self._parts[first.part]
            for each in row[row.index(first) + 1 :]:
                if each is None or each.taken or each.rank > first.rank + AHEAD_FRAMES:
                    break
                size += each.frame.stored
                if size > RUN_BYTES:
                    break
                run.append(each)
            for each in run:
                each.taken = True
            return run

    def _fetch(self, run: Sequence[Coming]) -> None:
        """Raises the RegistryError family, LocalError: the frames that are not done did not come."""
        digest = self._head.parts[run[0].part].digest
        last = run[-1]
        try:
            with blob_ranges(self._place, digest)(run[0].position, last.position + last.frame.stored) as reader:
                self._receive(run, reader, run[0].position)
        except Unsupported:
            row = self._parts[run[0].part]
            with self._lock:
                rest = [each for each in row if each is not None and (each in run or not each.taken)]
                for each in rest:
                    each.taken = True
            try:
                with self._place.registry.open_blob(self._place.repository, digest) as reader:
                    self._receive(rest, reader, 0)
            finally:
                with self._lock:
                    self._fail(rest)

    def _receive(self, run: Sequence[Coming], reader: Readable, position: int) -> None:
        with self._lock:
            self._count.requests += 1
        buffer = memoryview(bytearray(max(each.frame.stored for each in run)))
        for each in run:
            while position < each.position:
                position += self._read(reader, buffer[: each.position - position])
            stored = buffer[: each.frame.stored]
            filled = 0
            while filled < len(stored):
                filled += self._read(reader, stored[filled:])
            position += filled
            try:
                content = open_frame(each.frame, stored, where=f"{self._place}@{self._head.parts[each.part].digest}")
                if (brought := self._brought) is not None:
                    brought(self._head.parts[each.part].layer, each.frame.extents, content)
                self._keep(each, content)
            except ContentError as error:
                self._say(error)
                with self._lock:
                    self._fail([each])
                continue
            with self._lock:
                self._errors = 0
                told = self._told
            try:
                if told is not None:
                    told(self._head.parts[each.part].layer, each.frame.extents)
            finally:  # who waits for it needs what lies beside it next
                each.done.set()
            if self._closed:
                return

    def _read(self, reader: Readable, buffer: memoryview) -> int:
        count = reader.readinto(buffer)
        if not count:
            raise Unavailable("the blob of a hot pack ends early", where=str(self._place))
        self._moved_at = time.monotonic()
        with self._lock:
            self._count.bytes += count
        return count

    def _keep(self, coming: Coming, content: memoryview) -> None:
        lazy, written, start = self._layers[self._head.parts[coming.part].layer], Runs(), 0
        for position, size in coming.frame.extents:
            try:
                lazy.put(position, content[start : start + size])
            except DiskFull:
                if not self._store.make_room(size):
                    raise
                lazy.put(position, content[start : start + size])
            written.add(position, position + size)
            start += size
        lazy.mark_all(written.runs)

    def tell(self, came: Came, brought: Brought | None = None) -> None:
        """Tell of the extents of each frame that the start needs, by layer: first of those that are here, in the order
        of need, then of each when it comes, before those that wait for it go on. brought: gets the content of what
        comes, before it stands in the layer's file."""
        with self._lock:
            self._told, self._brought = came, brought
            here = [(part, frame) for part, frame in self._head.order if _is_here(self._parts[part][frame])]
        for part, frame in here:
            came(self._head.parts[part].layer, self._head.parts[part].frames[frame].extents)

    def _trouble(self, run: Sequence[Coming], error: RegistryPipelinesError) -> None:
        self._say(error)
        with self._lock:
            self._errors += 1
            gone = isinstance(error, NotFound | DiskFull) or self._errors >= MOST_ERRORS
            row = self._parts[run[0].part] if isinstance(error, NotFound) else ()
            if gone and not row:
                self._closed = True
                row = [each for each in self._left if not each.taken]
            more = [each for each in row if each is not None and not each.taken]
            self._fail([*run, *more])

    def _fail(self, frames: Sequence[Coming]) -> None:
        """Let go who waits for what did not come; hold the lock."""
        for each in frames:
            if not each.done.is_set():
                each.taken = each.failed = True
                each.done.set()

    def _say(self, error: RegistryPipelinesError) -> None:
        with self._lock:
            first, self._said = not self._said and not self._closed, True
        if first:
            self._log(f"of the hot pack not all is used, and the rest is read from the layers: {error}")


def _is_here(coming: Coming | None) -> bool:
    """Whether a frame's content is in the layer's file: it was before, or came."""
    return coming is None or (coming.done.is_set() and not coming.failed)


def _drained(waiting: deque[Coming]) -> Iterator[Coming]:
    """From the front, each taken away."""
    with suppress(IndexError):
        while True:
            yield waiting.popleft()


__all__ = ["OpenPack", "PackStream", "open_pack", "read_pack"]
