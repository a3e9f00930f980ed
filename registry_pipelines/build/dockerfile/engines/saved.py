"""What ``docker save`` gives, as an OCI layout with compressed layers.

Docker's image tar (``manifest.json`` with the paths of config and layers, docker.io 20.10 and later; with the
containerd store its layers may be compressed already). Times later than the build's own date become that date, in
layers, config and history, so that equal steps make equal bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
from zlib_ng import zlib_ng

from registry_pipelines.build.dockerfile.engines.written import put_manifest, put_top, set_dates
from registry_pipelines.errors import LayerInvalid, ManifestInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import disk_errors
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.threads import Pool

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
"""Of ``manifest.json`` and of a config."""

LEVEL = 6
_PIECE = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_GZIP = 16 + zlib.MAX_WBITS
_SIZE_RECORD = re.compile(rb"(?<=[ \n])size=(\d{1,18})(?=\n)")
_TIME_RECORD = re.compile(rb"(?<=[ \n])mtime=(\d+)(?:\.\d+)?(?=\n)")


@dataclass(frozen=True)
class _Layer:
    """One that was written. diff_id: of the tar with its times as they are now."""

    descriptor: Descriptor
    diff_id: Digest


def save_as_layout(chunks: Iterable[bytes], folder: Path, scratch: Path, source_date: int | None) -> Descriptor:
    """Write what ``docker save`` sends into an OCI layout. folder: becomes the layout. scratch: a folder with room for
    the whole tar, which is removed. source_date: the latest time, in seconds since 1970; None leaves times alone.

    Returns the descriptor of the image manifest. Raises ManifestInvalid, LayerInvalid, DiskFull.
    """
    path = scratch / "saved.tar"
    layout = Layout(folder)
    layout.create()
    try:
        with disk_errors(path), path.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
        with tarfile.open(path) as saved:
            return _converted(saved, path, layout, source_date)
    except tarfile.TarError as error:
        raise ManifestInvalid(f"what Docker saved is no tar: {error}") from error
    finally:
        path.unlink(missing_ok=True)


def _converted(saved: tarfile.TarFile, path: Path, layout: Layout, source_date: int | None) -> Descriptor:
    entries = _json(saved, "manifest.json")
    if not (isinstance(entries, list) and len(entries) == 1 and isinstance(entries[0], dict)):
        raise ManifestInvalid("what Docker saved does not hold one image", where="manifest.json")
    config = _json(saved, str(entries[0].get("Config")))
    places = [_place(saved, str(name)) for name in entries[0].get("Layers") or ()]
    with Pool(min(len(places), os.cpu_count() or 1) or 1, "layers") as pool:
        jobs = {
            pool.submit(_write_layer, path, offset, size, layout, source_date): number
            for number, (offset, size) in enumerate(places)
        }
        layers = {jobs[job]: job.result() for job in as_completed(jobs)}
    ordered = [layers[number] for number in range(len(places))]
    if not isinstance(config, dict) or not isinstance(config.get("rootfs"), dict):
        raise ManifestInvalid("the config of what Docker saved has no rootfs", where="manifest.json")
    if len(config["rootfs"].get("diff_ids") or ()) != len(ordered):
        raise ManifestInvalid("config and manifest of what Docker saved have not as many layers")
    config["rootfs"]["diff_ids"] = [layer.diff_id for layer in ordered]
    if source_date is not None:
        set_dates(config, source_date)
    descriptor = put_manifest(layout, config, [layer.descriptor for layer in ordered])
    put_top(layout, [descriptor])
    return descriptor


def _json(saved: tarfile.TarFile, name: str) -> Any:
    offset, size = _place(saved, name)
    if size > MAX_DOCUMENT_BYTES:
        raise ManifestInvalid(f"it is larger than {MAX_DOCUMENT_BYTES} bytes", where=name)
    with Path(str(saved.name)).open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ManifestInvalid(f"it is no JSON: {error}", where=name) from error


def _place(saved: tarfile.TarFile, name: str) -> tuple[int, int]:
    """Where a file's bytes are in the tar. Old daemons write a layer once, and links to it."""
    for _ in range(3):
        try:
            member = saved.getmember(name)
        except KeyError:
            raise ManifestInvalid("it is missing in what Docker saved", where=name[:200]) from None
        if not member.issym():
            return member.offset_data, member.size
        name = os.path.normpath(f"{os.path.dirname(name)}/{member.linkname}")  # noqa: PTH120 - a name in a tar
    raise ManifestInvalid("links lead to links in what Docker saved", where=name[:200])


def _write_layer(path: Path, offset: int, size: int, layout: Layout, source_date: int | None) -> _Layer:
    temporary = layout.folder / f"layer-{offset}"
    compressed, plain = hashlib.sha256(), hashlib.sha256()
    compressor = zlib_ng.compressobj(LEVEL, zlib_ng.DEFLATED, _GZIP)
    written = 0
    with disk_errors(temporary), path.open("rb") as source, temporary.open("wb") as target:
        source.seek(offset)

        def put(data: bytes) -> None:
            nonlocal written
            compressed.update(data)
            written += target.write(data)

        for piece in clamped(_tar_pieces(source, size), source_date):
            plain.update(piece)
            put(compressor.compress(piece))
        put(compressor.flush())
    digest = Digest(f"sha256:{compressed.hexdigest()}")
    temporary.replace(layout.blob_path(digest))
    descriptor = Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=digest, size=written)
    return _Layer(descriptor, Digest(f"sha256:{plain.hexdigest()}"))


def _tar_pieces(source: IO[bytes], size: int) -> Iterator[bytes]:
    """The layer's tar, unpacked where it is compressed."""
    inflater: Any = None
    left = size
    while left:
        piece = source.read(min(left, _PIECE))
        if not piece:
            raise LayerInvalid("what Docker saved ends within a layer")
        if left == size and piece.startswith(b"\x1f\x8b"):
            inflater = zlib.decompressobj(_GZIP)
        left -= len(piece)
        while piece:
            if inflater is None:
                yield piece
                break
            try:
                yield inflater.decompress(piece, _PIECE)
            except zlib.error as error:
                raise LayerInvalid(f"a layer that Docker saved is no gzip: {error}") from error
            piece = inflater.unconsumed_tail


def clamped(pieces: Iterable[bytes], source_date: int | None) -> Iterator[bytes]:
    """A tar whose times are at most ``source_date``; the same bytes without one. Raises LayerInvalid."""
    if source_date is None:
        yield from pieces
        return
    buffer = b""
    content = told_size = 0
    kind = b""
    for piece in pieces:
        buffer += piece
        position = 0
        while position < len(buffer):
            if content:
                # Records of a header are rewritten as a whole; what files hold passes by.
                if kind in (b"x", b"g") and len(buffer) - position < content:
                    break
                taken = buffer[position : position + content]
                if kind in (b"x", b"g"):
                    told_size = int(found[1]) if (found := _SIZE_RECORD.search(taken)) else 0
                    taken = _clamped_records(taken, source_date)
                yield taken
                position += len(taken)
                content -= len(taken)
            elif len(buffer) - position < _BLOCK:
                break
            else:
                header = buffer[position : position + _BLOCK]
                position += _BLOCK
                if header.strip(b"\0"):
                    header, size, kind = _clamped_header(header, source_date)
                    if kind not in (b"x", b"g") and told_size:
                        size, told_size = told_size, 0
                    content = -(-size // _BLOCK) * _BLOCK
                yield header
        buffer = buffer[position:]
    if buffer or content:
        raise LayerInvalid("a layer's tar ends too early")


def _clamped_header(header: bytes, source_date: int) -> tuple[bytes, int, bytes]:
    """The header, the bytes of what follows with its padding, and the type."""
    try:
        entry = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise LayerInvalid(f"a layer's tar cannot be read: {error}") from error
    if entry.mtime > source_date:
        header = header[:136] + b"%011o\0" % source_date + b" " * 8 + header[156:]
        header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    kind = header[156:157]
    # Links, devices, folders and pipes have no content, whatever their size says.
    size = 0 if kind in b"123456" else entry.size
    if size < 0 or (kind in b"xg" and size > MAX_DOCUMENT_BYTES):
        raise LayerInvalid("a layer's tar has a header of a size that none has")
    return header, size, kind


def _clamped_records(records: bytes, source_date: int) -> bytes:
    """Times of a header's records; as long as before, since a record begins with its length."""

    def earlier(match: re.Match[bytes]) -> bytes:
        if int(match[1]) < source_date:
            return match[0]
        return (
            b"mtime="
            + str(source_date).encode().rjust(len(match[1]), b"0")
            + b"." * (len(match[0]) > len(match[1]) + 6)
            + b"0" * (len(match[0]) - len(match[1]) - 7)
        )

    return _TIME_RECORD.sub(earlier, records)
