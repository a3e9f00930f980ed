"""Records of layers in a folder of the state: each layer is read once, for all images and all stages.

A record is a folder, made under another name and renamed when it is whole; what is there by its name is whole, and
checksums say whether it still is. Any number of processes may read, write and delete: two that read the same layer at
once both do the work, and the first one's record stays. Everything here may be deleted at any time.

Of a state that several machines share, a record that is not in this folder is looked for where the others keep theirs
(``oci.behind``), and one that is made here is sent there; ``turn`` has one machine read a layer while the others wait.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from registry_pipelines.errors import LayerInvalid, ManifestInvalid
from registry_pipelines.oci.behind import behind
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.checkpoints import SPAN_BYTES
from registry_pipelines.oci.layer.decompress import Readable
from registry_pipelines.oci.layer.packed import packed, unpack
from registry_pipelines.oci.layer.record import LayerRecord, RecordFacts, RecordWriter
from registry_pipelines.oci.layer.walk import LayerWalk, open_layer
from registry_pipelines.oci.manifests import Descriptor

FORMAT = 4
"""Part of the paths; raised when records hold something else than before, or reading a layer gives other entries.
Older ones are deleted."""

MAX_BYTES = 4 * 1024**3
"""Of all records; that is enough for some 150 GB of compressed layers. The ones not used for longest go first."""

_LISTING = 0
"""What stands for the bytes of a span in a listing's name."""

_KIND = f"layers/v{FORMAT}"

_ABANDONED_S = 24 * 3600
"""A folder that is still being written was left by a process that was killed, when nothing was written for so long."""


def record_key(diff_id: Digest, digest: Digest) -> Digest:
    """Names a layer's bytes and what its image says they unpack to: only both together were checked when it was read.

    By the diffID alone, an image could name one that is known to be harmless for a layer of its own; Docker and
    containerd would refuse it when they unpack, containers/image (Podman, CRI-O) does not look (2026-11-28).
    """
    return Digest.of(f"{diff_id} {digest}".encode())


def layer_turn(folder: Path, diff_id: Digest, digest: Digest) -> AbstractContextManager[object]:
    """Be the only one who reads a layer for a state folder, or a folder in it, of all machines that share it. Ask once
    more what is known of the layer before it is read: another machine may have read it meanwhile."""
    return behind(folder).turn(f"layer {record_key(diff_id, digest)}")


class LayerStore:
    """The records below ``folder``; there is nothing to close."""

    def __init__(
        self, folder: Path, *, max_bytes: int = MAX_BYTES, collect: Callable[[LayerWalk], object] | None = None
    ) -> None:
        """collect: looks at the entries of what :meth:`read` reads, in the same pass (``scan.collecting``)."""
        self._collect = collect
        self.folder = folder
        self._folder = folder / f"v{FORMAT}"
        self._max_bytes = max_bytes

    def get(self, diff_id: Digest, digest: Digest, *, span_bytes: int = SPAN_BYTES) -> LayerRecord | None:
        """What was found of this layer; None when nobody read it, or what is kept is damaged (then it is deleted)."""
        path = self._path(diff_id, digest, span_bytes)
        return self._open(path) or self._from_others(path, diff_id, digest)

    def turn(self, diff_id: Digest, digest: Digest) -> AbstractContextManager[object]:
        """See :func:`layer_turn`."""
        return layer_turn(self.folder, diff_id, digest)

    def _from_others(self, path: Path, diff_id: Digest, digest: Digest) -> LayerRecord | None:
        """A record that another machine made, which is in this folder from then on."""
        others, temporary = behind(self.folder), self._folder / f".fetching-{uuid.uuid4().hex}"
        bundle = temporary / "packed"
        if not others.fetch(_KIND, path.name, bundle):
            return None
        try:
            unpack(bundle, temporary)
            bundle.unlink()
            record = LayerRecord(temporary)
            if (record.diff_id, record.digest) != (diff_id, digest):
                raise LayerInvalid("this is the record of another layer", where=str(path))
            self._put(temporary, path)
        except (ManifestInvalid, LayerInvalid):
            others.drop(_KIND, path.name)
            return None
        except OSError:
            return None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._make_room()
        return record

    def _open(self, path: Path) -> LayerRecord | None:
        if not path.is_dir():
            return None
        try:
            record = LayerRecord(path)
        except (OSError, ManifestInvalid, LayerInvalid):
            self._delete(path)
            return None
        with suppress(OSError):
            os.utime(path)
        return record

    def delete(self, diff_id: Digest, digest: Digest, *, span_bytes: int = SPAN_BYTES) -> None:
        """Forget what was found of a layer, if anything was: who reads it next looks again."""
        path = self._path(diff_id, digest, span_bytes)
        self._delete(path)
        behind(self.folder).drop(_KIND, path.name)

    def listing(self, diff_id: Digest, digest: Digest) -> LayerRecord | None:
        """The same for who needs nothing but entries and places: a record, whatever its spans, or a listing."""
        default, known = self._path(diff_id, digest, SPAN_BYTES), self._path(diff_id, digest, _LISTING)
        others = sorted(known.parent.glob(f"{known.name.rpartition('-')[0]}-*"), reverse=True)
        for path in (default, *others):
            if record := self._open(path):
                return record
        return self._from_others(known, diff_id, digest) or self._from_others(default, diff_id, digest)

    @contextmanager
    def writing(self, *, span_bytes: int = SPAN_BYTES, listing: bool = False) -> Iterator[RecordWriter]:
        """Write the record of a layer, by ``open_layer`` or who makes it: it is in the store after the block when its
        ``finish`` was called, else nothing is. listing: entries and places alone, which :meth:`listing` gives. Raises
        DiskFull, LocalError; leaves other errors of the block as they are."""
        temporary = self._folder / f".writing-{uuid.uuid4().hex}"
        with local_errors(self._folder):
            temporary.mkdir(parents=True)
        try:
            with RecordWriter(temporary, span_bytes=span_bytes, listing=listing) as writer:
                yield writer
            if writer.facts is not None:
                self._install(temporary, writer.facts, _LISTING if listing else span_bytes)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def read(
        self,
        stream: Readable,
        layer: Descriptor,
        diff_id: Digest,
        *,
        where: str = "",
        span_bytes: int = SPAN_BYTES,
        listing: bool = False,
        beside: Executor | None = None,
        ahead: Executor | None = None,
    ) -> LayerRecord:
        """Read a layer for its record, or a listing. Ask :meth:`get` (or :meth:`listing`) first, which needs no stream.

        layer, diff_id: what its manifest and its config say; both are verified. Names are not judged: containerd takes
        absolute ones, which a scan refuses. For the rest, and what it raises, see ``open_layer``; also DiskFull,
        LocalError.
        """
        with self.writing(span_bytes=span_bytes, listing=listing) as writer:
            walk = open_layer(
                stream,
                layer.media_type,
                where=where,
                expected=layer,
                diff_id=diff_id,
                writer=writer,
                beside=beside,
                ahead=ahead,
                any_names=True,
            )
            if self._collect is not None:
                self._collect(walk)
            walk.finish()
            # Before it is in the store, from where another process might delete it.
            return LayerRecord(writer.folder)

    def _install(self, temporary: Path, facts: RecordFacts, span_bytes: int) -> None:
        path = self._path(facts.diff_id, facts.digest, span_bytes)
        with local_errors(self._folder):
            self._put(temporary, path)
        behind(self.folder).keep(_KIND, path.name, packed(path))
        self._make_room()

    def _put(self, temporary: Path, path: Path) -> None:
        """Have a finished record under its name, unless one is there. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():
                raise

    def _path(self, diff_id: Digest, digest: Digest, span_bytes: int) -> Path:
        name = record_key(diff_id, digest).hex
        return self._folder / name[:2] / f"{name}-{int(span_bytes)}"

    def _delete(self, path: Path) -> None:
        """Under another name first, so that nobody finds half of it."""
        doomed = self._folder / f".deleting-{uuid.uuid4().hex}"
        with suppress(OSError):
            path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _make_room(self) -> None:
        """Delete what is too much, of an older format, or was left by a killed process."""
        for older in range(FORMAT):
            shutil.rmtree(self.folder / f"v{older}", ignore_errors=True)
        abandoned = time.time() - _ABANDONED_S
        for left in self._folder.glob(".*"):
            if _newest(left) < abandoned:
                shutil.rmtree(left, ignore_errors=True)
        records = sorted(
            ((used, size, path) for path in self._folder.glob("??/*") for used, size in _measured(path)), reverse=True
        )
        total = 0
        for number, (_, size, path) in enumerate(records):
            total += size
            # The newest stays whatever its size: somebody is about to use it.
            if number and total > self._max_bytes:
                self._delete(path)


def _measured(path: Path) -> list[tuple[float, int]]:
    """When a record was last used, and its bytes; nothing when it has just gone."""
    with suppress(OSError):
        return [(path.stat().st_mtime, sum(file.stat().st_size for file in path.iterdir()))]
    return []


def _newest(path: Path) -> float:
    """When something was last written there; infinity when it has just gone."""
    with suppress(OSError):
        return max(one.stat().st_mtime for one in (path, *path.iterdir()))
    return float("inf")
