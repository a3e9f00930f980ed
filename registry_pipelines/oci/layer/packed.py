"""A record's three files as one, for a place where other machines find it: their sizes, then their bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from registry_pipelines.errors import LayerInvalid
from registry_pipelines.oci.behind import Pieces, file_pieces

_NAMES = ("record.json", "entries", "windows")
_SIZES = struct.Struct(f"<{len(_NAMES)}Q")
_PIECE_BYTES = 1 << 20


def packed(folder: Path) -> Pieces:
    """A record's folder, read when it is sent."""

    def read() -> Iterator[bytes]:
        paths = [folder / name for name in _NAMES]
        yield _SIZES.pack(*(path.stat().st_size for path in paths))
        for path in paths:
            yield from file_pieces(path)()

    return read


def unpack(path: Path, folder: Path) -> None:
    """Write the files of :func:`packed` into a folder. Raises OSError, LayerInvalid: it is something else."""
    with path.open("rb") as file:
        head = file.read(_SIZES.size)
        sizes = _SIZES.unpack(head) if len(head) == _SIZES.size else (0,)
        if sum(sizes) + _SIZES.size != path.stat().st_size:
            raise LayerInvalid("this is no record of a layer", where=str(path))
        for name, size in zip(_NAMES, sizes, strict=True):
            _copy(file, folder / name, size)


def _copy(file: BinaryIO, to: Path, size: int) -> None:
    with to.open("xb") as target:
        while size:
            piece = file.read(min(size, _PIECE_BYTES))
            size -= target.write(piece)


__all__ = ["packed", "unpack"]
