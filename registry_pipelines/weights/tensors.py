"""One tensor of weights in a registry, by two ranges: the header of its file, and its bytes.

Source: the safetensors format (its repository's README, "Format"): 8 bytes, the length N of the header, little endian;
N bytes of JSON, ``{"NAME": {"dtype", "shape", "data_offsets": [BEGIN, END]}, "__metadata__": {...}}``; then the bytes,
to which the offsets are relative. Sharded models have an index beside them (``*.safetensors.index.json``) whose
``weight_map`` says which file has which tensor.

A part of a blob cannot be held against the blob's digest: the bytes are what the registry gave. ``pull`` and ``verify``
hold whole files against theirs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path, PurePosixPath

import msgspec

from registry_pipelines.errors import ContentError, InputError, ManifestInvalid, Unavailable
from registry_pipelines.oci.files import local_errors, replaced
from registry_pipelines.oci.manifests import decode_json
from registry_pipelines.registry.blobs import READ_ATTEMPTS, read_blob
from registry_pipelines.registry.protocol import BUFFER_BYTES
from registry_pipelines.threads import Pool
from registry_pipelines.weights.model import WeightFile
from registry_pipelines.weights.opening import OpenedWeights
from registry_pipelines.weights.reading import FILES_AT_ONCE

FIRST_RANGE_BYTES = 256 * 1024
"""Read of a file at first: the headers of all but the largest single files are shorter."""
SHARD_RANGE_BYTES = 32 * 1024
"""Read of each of many files at first, where all of their headers are listed."""
MAX_HEADER_BYTES = 16 * 1024 * 1024
"""Of a header or an index: 100,000 tensors. The format permits 100 MB, which would fill the memory here."""
MAX_DIMENSIONS = 64
"""Of one tensor; numpy takes no more. The product of a million numbers would hold us for hours."""
METADATA = "__metadata__"

_FNUZ = ("F8_E4M3FNUZ", "F8_E5M2FNUZ")
BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", *_FNUZ), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}
"""Bits of one element. Of others a tensor's length is taken as it is written."""


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct, frozen=True, kw_only=True):
    weight_map: dict[str, str]


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies. file: of the set. start, stop: bytes of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: WeightFile
    start: int
    stop: int


def safetensors_of(opened: OpenedWeights) -> list[WeightFile]:
    """The safetensors files of a set, by their names. Raises InputError where it has none, or archives."""
    opened.need_raw()
    files = [file for file in opened.weights.files if file.path.lower().endswith(".safetensors")]
    if not files:
        raise InputError("no file of these weights is safetensors, of which tensors are read", where=str(opened))
    return files


def find_tensor(opened: OpenedWeights, name: str) -> Tensor:
    """Where a tensor lies. Reads the header of one file, where the set has one or an index that names it; else of one
    file after another.

    Raises InputError (no safetensors, no such tensor; it names near ones), ManifestInvalid for a header or an index
    that is wrong, the RegistryError family.
    """
    files = {file.path: file for file in safetensors_of(opened)}
    known: list[str] = []
    for path in _candidates(opened, files, name, known):
        header = read_header(opened, files[path])
        if name in header:
            return header[name]
        known += header
    near = get_close_matches(name, known)
    raise InputError(
        f"there is no tensor {name!r}" + (f"; near: {', '.join(near)}" if near else ""),
        where=str(opened),
        do="List them: `registry-pipelines weights ls REF --tensors`",
    )


def _candidates(opened: OpenedWeights, files: Mapping[str, WeightFile], name: str, known: list[str]) -> Iterator[str]:
    """Files that may have it; known: takes the names that indexes have."""
    indexes = [file for file in opened.weights.files if file.path.endswith(".safetensors.index.json")]
    for index in indexes if len(files) > 1 else ():
        raw = read_blob(opened.content, index.descriptor, limit=MAX_HEADER_BYTES)
        where = f"{opened} {index.path}"
        named = decode_json(raw, _Index, where=where, what="index of tensors").weight_map
        if name in named:
            path = str(PurePosixPath(index.path).parent / named[name])
            if path not in files:
                raise ManifestInvalid(f"the index says that {name!r} is in {path!r}, which is not there", where=where)
            yield path
            raise ManifestInvalid(f"the index says that {name!r} is in {path!r}, whose header lacks it", where=where)
        known += named
    if not known:
        yield from files


def read_header(opened: OpenedWeights, file: WeightFile, *, first_bytes: int = FIRST_RANGE_BYTES) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in its order. first_bytes: read at once; a longer header takes a second range.
    Raises ManifestInvalid, the RegistryError family."""
    where = f"{opened} {file.path}"
    raw = _read(opened, file, 0, min(first_bytes, file.size))
    length = struct.unpack("<Q", raw[:8])[0] if len(raw) >= 8 else -1
    if not 2 <= length <= min(MAX_HEADER_BYTES, file.size - 8):
        raise ManifestInvalid(
            f"this is no safetensors file: its header would have {length} bytes, of {file.size} in all", where=where
        )
    if len(raw) < 8 + length:
        raw += _read(opened, file, len(raw), 8 + length)
    members = decode_json(raw[8 : 8 + length], dict[str, msgspec.Raw], where=where, what="header of tensors")
    decode_json(bytes(members.get(METADATA, b"{}")), dict[str, str], where=where, what=f"{METADATA} of tensors")
    first = 8 + length
    tensors = {
        name: _tensor(name, bytes(entry), file, first, where) for name, entry in members.items() if name != METADATA
    }
    _check_order(tensors.values(), first, file.size, where)
    return tensors


def _check_order(tensors: Iterable[Tensor], first: int, size: int, where: str) -> None:
    """The bytes of a file belong to one tensor each, and all to one, as the format says; its own readers refuse others.
    Raises ManifestInvalid."""
    behind = first
    for tensor in sorted(tensors, key=lambda each: (each.start, each.stop)):
        if tensor.start != behind:
            what = "has bytes of the one before it" if tensor.start < behind else "leaves bytes out before it"
            raise ManifestInvalid(f"the tensor {tensor.name[:80]!r} {what}", where=where)
        behind = tensor.stop
    if behind != size:
        raise ManifestInvalid(f"{size - behind} bytes at the end belong to no tensor", where=where)


def _tensor(name: str, raw: bytes, file: WeightFile, first: int, where: str) -> Tensor:
    entry = decode_json(raw, _Entry, where=where, what=f"entry of {name[:80]!r}")
    begin, end = entry.data_offsets
    if len(entry.shape) > MAX_DIMENSIONS:
        raise ManifestInvalid(f"the tensor {name[:80]!r} has {len(entry.shape)} dimensions", where=where)
    length = math.prod(entry.shape) * BITS[entry.dtype] if entry.dtype in BITS else (end - begin) * 8
    if not 0 <= begin <= end <= file.size - first or min(entry.shape, default=0) < 0 or length != (end - begin) * 8:
        raise ManifestInvalid(
            f"the tensor {name[:80]!r} has bytes {begin} to {end}, which do not fit its shape or the file", where=where
        )
    return Tensor(name, entry.dtype, entry.shape, file, first + begin, first + end)


def all_tensors(opened: OpenedWeights) -> list[Tensor]:
    """The tensors of all safetensors files of a set. Raises as :func:`read_header`, InputError where there are none."""
    files = safetensors_of(opened)
    read = partial(read_header, opened, first_bytes=FIRST_RANGE_BYTES if len(files) == 1 else SHARD_RANGE_BYTES)
    with Pool(FILES_AT_ONCE, "headers") as pool:
        return [tensor for header in pool.map(read, files) for tensor in header.values()]


def write_tensor(opened: OpenedWeights, tensor: Tensor, target: Path) -> int:
    """Write a safetensors file that has this tensor alone, whole or not at all; its bytes. Raises InputError for a
    folder, LocalError, DiskFull, the RegistryError family."""
    if target.is_dir():
        raise InputError("this is a folder, and a file is to be written", where=str(target), do="Name a file in it")
    size = tensor.stop - tensor.start
    entry = {tensor.name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (0, size)}}
    header = msgspec.json.encode(entry)
    header += b" " * (-len(header) % 8)
    with replaced(target) as fresh, local_errors(target), fresh.open("wb") as written:
        written.write(struct.pack("<Q", len(header)) + header)
        for piece in _pieces(opened, tensor.file, tensor.start, tensor.stop):
            written.write(piece)
    return 8 + len(header) + size


def _read(opened: OpenedWeights, file: WeightFile, start: int, stop: int) -> bytes:
    return b"".join(bytes(piece) for piece in _pieces(opened, file, start, stop))


def _pieces(opened: OpenedWeights, file: WeightFile, start: int, stop: int) -> Iterator[memoryview]:
    """A range of a file, read on a few times where the connection breaks; each piece is overwritten by the next."""
    buffer, attempts = memoryview(bytearray(min(BUFFER_BYTES, max(stop - start, 1)))), 0
    registry, repository = opened.content.registry, opened.content.repository
    while start < stop:
        try:
            with registry.open_blob(repository, file.digest, start=start, stop=stop) as reader:
                if reader.size not in (file.size, None):
                    raise ContentError(
                        f"it has {reader.size} bytes, {file.size} expected", where=f"{opened} {file.path}"
                    )
                while start < stop and (count := reader.readinto(buffer[: min(len(buffer), stop - start)])):
                    start, attempts = start + count, 0
                    yield buffer[:count]
            if start < stop:
                raise Unavailable(f"the content ended {stop - start} bytes early", where=f"{opened} {file.path}")
        except Unavailable:
            attempts += 1
            if attempts == READ_ATTEMPTS:
                raise


__all__ = ["Tensor", "all_tensors", "find_tensor", "read_header", "write_tensor"]
