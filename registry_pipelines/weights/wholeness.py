"""Whether the files of a folder are the model that they say to be: what a download that broke off, or a clone without
Git LFS, leaves has good digests, too, and would be signed and sent.

Sources: Git LFS's specification of pointers (first line ``version https://git-lfs.github.com/spec/``, below 1024
bytes); safetensors' format (header with ``data_offsets``, no byte behind the last one is missing); for GGUF see
``gguf``; Hugging Face's ``*.index.json`` (``weight_map``: tensor to file).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.files import local_errors
from registry_pipelines.progress import count_text

_POINTER = b"version https://git-lfs.github.com/spec/"
_MAX_POINTER_BYTES = 1024
_INDEX = (".safetensors.index.json", ".bin.index.json")
_PART = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})(\.[^/]+)")
MAX_READ_BYTES = 16 * 1024 * 1024
"""Of a header or an index; larger ones are not looked at."""
SHOWN = 5
_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class _Entry(msgspec.Struct):
    data_offsets: tuple[int, int] = (0, 0)


class _Index(msgspec.Struct):
    weight_map: dict[str, str] = {}


def check_whole(files: Mapping[str, Path]) -> None:
    """Raise InputError for a pointer of Git LFS, a safetensors or GGUF file that ends before its tensors do, also an
    empty one, and shards that an index names while others of it are here. files: path within the model to where it
    lies. What cannot be read as one of these is no business of this. Raises LocalError."""
    for name, path in files.items():
        with local_errors(path):
            size = path.stat().st_size
            if size < _MAX_POINTER_BYTES and _read(path, len(_POINTER)) == _POINTER:
                raise InputError(
                    "this is a pointer of Git LFS, and not the file it stands for",
                    where=str(path),
                    do="Fetch the files: git lfs pull",
                )
            if name.endswith(".safetensors"):
                _check_length(path, size, _end_of_safetensors(path))
            elif name.endswith(".gguf"):
                from registry_pipelines.weights.gguf import read_gguf  # few sets have one

                _check_length(path, size, read_gguf(_read(path, MAX_READ_BYTES)).end)
            elif name.endswith(_INDEX) and size <= MAX_READ_BYTES:
                _check_index(name, _read(path, MAX_READ_BYTES), files, path)


def _read(path: Path, size: int) -> bytes:
    """The first bytes of a file. What is a pipe by now holds nobody."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(size)


def _check_length(path: Path, size: int, end: int) -> None:
    """end: where its tensors end by its header; 0 where that is not known."""
    if size < max(end, 1):
        told = f", and its header speaks of {end}" if size and end else ""
        raise InputError(
            f"it ends before its tensors do: it has {size} bytes{told}",
            where=str(path),
            do="Fetch it again; the download broke off",
        )


def _end_of_safetensors(path: Path) -> int:
    head = _read(path, 9)
    if len(head) < 9:
        return 10  # the length of a header, and the shortest one
    (length,) = struct.unpack("<Q", head[:8])
    if head[8:] != b"{" or length > MAX_READ_BYTES:
        return 0
    raw, end = _read(path, 8 + length)[8:], 8 + int(length)
    if len(raw) < length:
        return end
    try:
        entries = msgspec.json.decode(raw, type=ready(dict[str, msgspec.Raw]))
        entries.pop("__metadata__", None)
        offsets = (msgspec.json.decode(each, type=ready(_Entry)).data_offsets[1] for each in entries.values())
        return end + max(offsets, default=0)
    except _UNREADABLE:
        return 0


def _check_index(name: str, raw: bytes, files: Mapping[str, Path], path: Path) -> None:
    try:
        named = set(msgspec.json.decode(raw, type=ready(_Index)).weight_map.values())
    except _UNREADABLE:
        return
    above = PurePosixPath(name).parent
    missing = sorted(each for each in named if str(above / each) not in files)
    if missing and len(missing) < len(named):  # none of them: a download of another format alone
        more = f", and {count_text(len(missing) - SHOWN, 'more', 'more')}" if len(missing) > SHOWN else ""
        raise InputError(
            f"of {count_text(len(named), 'shard')} that it names {count_text(len(missing), 'is', 'are')} not here: "
            f"{', '.join(missing[:SHOWN])}{more}",
            where=str(path),
            do="Fetch the missing ones, or write the index of those that are here",
        )


def gaps(paths: Iterable[str]) -> list[str]:
    """Files that are numbered as one of several (``-00001-of-00003``) while others of them are not here, one sentence
    each. No error: a part may be all that is wanted."""
    parts: dict[tuple[str, str, str], set[int]] = {}
    for path in paths:
        if found := _PART.fullmatch(path):
            name, number, count, ending = found.groups()
            parts.setdefault((name, count, ending), set()).add(int(number))
    told = []
    for (name, count, ending), there in sorted(parts.items()):
        if len(there) < int(count):
            told.append(f"{name}-*-of-{count}{ending}: {len(there)} of {count_text(int(count), 'part')} are here")
    return told


__all__ = ["check_whole", "gaps"]
