"""New layers on their way into a registry. Each is read back while it passes: what a reader finds in the very bytes
that are sent is its digest, its diffID and its record, and what a scan would ask of it."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path

from registry_pipelines.anatomy.rechunk.bytecode import hashes_source, new_head, source_hash
from registry_pipelines.anatomy.rechunk.joining import JoinedLayer, Sink
from registry_pipelines.anatomy.rechunk.planning import Plan, PlannedEntry, PlannedLayer
from registry_pipelines.anatomy.rechunk.spilling import Spill
from registry_pipelines.build.entries import header_bytes
from registry_pipelines.build.splice import LayerDigests
from registry_pipelines.errors import LayerInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.layer.pushed import PushedTar
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.layer.walk import LayerFacts, open_layer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.scan.collecting import collect_read
from registry_pipelines.stream.lazy.tree import Inode
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.blob.produced import Write
from registry_pipelines.transfer.uploads import Uploads

_NS = 10**9
_TYPES = {
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def send_layer(
    plan: Plan,
    planned: PlannedLayer,
    spill: Spill,
    uploads: Uploads,
    *,
    records: LayerStore,
    state: Path,
    advance: Callable[[int], object],
) -> LayerDigests:
    """Make a layer while it is sent. advance: is told bytes of the tar.

    Raises LayerInvalid: what was made cannot be read; RegistryError, ContentError, DiskFull, LocalError.
    """
    made: list[LayerDigests] = []

    def produce(write: Write) -> Descriptor:
        made.append(_made(plan, planned, spill, write, records, state, advance))
        return Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=made[-1].digest, size=made[-1].size)

    uploads.produce(planned.key, produce)
    return made[-1]


def _made(
    plan: Plan,
    planned: PlannedLayer,
    spill: Spill,
    write: Write,
    records: LayerStore,
    state: Path,
    advance: Callable[[int], object],
) -> LayerDigests:
    back = PushedTar()
    with Pool(1, "read-back") as pool:
        reading = pool.submit(_read_back, back, records, state)

        def sink(piece: bytes | memoryview) -> None:
            back.write(piece)
            write(piece)

        try:
            _write_layer(plan, planned, spill, sink, advance)
        except BaseException:
            # Nobody is to believe the part that there is: without its end it is no layer.
            back.close()
            raise
        back.close()
        facts = reading.result()
    if facts.digest is None or facts.diff_id is None:
        raise CancelledError
    return LayerDigests(facts.digest, facts.diff_id, facts.size, facts.uncompressed_size)


def _read_back(back: PushedTar, records: LayerStore, state: Path) -> LayerFacts:
    try:
        with records.writing() as writer:
            walk = open_layer(back, media_types.OCI_LAYER_GZIP, where="the layer that was made", writer=writer)
            collect_read(walk, state=state)
            return walk.finish()
    finally:
        back.abandon()


def _write_layer(plan: Plan, planned: PlannedLayer, spill: Spill, sink: Sink, advance: Callable[[int], object]) -> None:
    layer, told = JoinedLayer(sink), 0
    for entry in planned.entries:
        inode = plan.merged.tree.node(entry.number)
        is_link = bool(entry.first) and entry.first != entry.path
        layer.content(_header(plan, entry, inode, is_link=is_link))
        if stat.S_ISREG(inode.mode) and inode.size and not is_link:
            _write_content(plan, entry, inode, spill, layer)
            layer.pad()
        if layer.tar_size - told >= 1 << 20:
            advance(layer.tar_size - told)
            told = layer.tar_size
    layer.finish()


def _write_content(plan: Plan, entry: PlannedEntry, inode: Inode, spill: Spill, layer: JoinedLayer) -> None:
    spilled = spill.find(inode.layer, inode.position, inode.size)
    if spilled.size != inode.size:
        raise LayerInvalid(f"{entry.path.decode('utf-8', 'replace')}: has {spilled.size} bytes, not {inode.size}")
    rewrite = plan.bytecode.rewrites.get(entry.number)
    if spilled.packed:
        layer.run(spill.read(spilled), spilled.size, spilled.crc)
        return
    content = b"".join(spill.read(spilled))
    if rewrite is not None:
        hashed = b""
        if rewrite.source is not None and hashes_source(rewrite):
            source = plan.merged.tree.node(rewrite.source)
            read = source.size > 0
            hashed = (
                spill.hashed(source.layer, source.position, rewrite.magic) if read else source_hash(rewrite.magic, b"")
            )
        head = new_head(rewrite, hashed)
        content = head + content[len(head) :]
    layer.content(content)


def _header(plan: Plan, entry: PlannedEntry, inode: Inode, *, is_link: bool) -> bytes:
    info = tarfile.TarInfo(_text(entry.path) if entry.path else "./")
    info.mode, info.uid, info.gid = stat.S_IMODE(inode.mode), inode.uid, inode.gid
    seconds, rest = divmod(plan.mtime_ns(entry.number, inode), _NS)
    info.mtime = seconds
    records = {"mtime": f"{seconds}.{rest:09d}"} if rest else {}
    if is_link:
        info.type, info.linkname = tarfile.LNKTYPE, _text(entry.first)
    else:
        kind = stat.S_IFMT(inode.mode)
        info.type = _TYPES[kind]
        if kind == stat.S_IFREG:
            info.size = inode.size
        elif kind == stat.S_IFLNK:
            info.linkname = _text(inode.target)
        info.devmajor, info.devminor = os.major(inode.rdev), os.minor(inode.rdev)
        records |= {f"SCHILY.xattr.{_text(name)}": _text(value) for name, value in sorted(inode.xattrs.items())}
    info.pax_headers = records
    return header_bytes(info)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


__all__ = ["send_layer"]
