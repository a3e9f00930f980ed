"""What was found of something, kept as a JSON file of the state folder, and where others keep it, too (``behind``)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.behind import behind, file_pieces
from registry_pipelines.oci.files import replaced
from registry_pipelines.oci.manifests import decode_json, encode_json

_T = TypeVar("_T")


def read_kept(path: Path, shape: type[_T], *, kind: str, name: str) -> _T | None:
    """What the file has, or what another machine that shares the state found; None when nobody did, or when it cannot
    be read: then it is made again. kind, name: of the entry that others find it by."""
    with suppress(OSError, ManifestInvalid):
        return decode_json(path.read_bytes(), shape)
    others = behind(path)
    if not others.fetch(kind, name, path):
        return None
    with suppress(OSError, ManifestInvalid):
        return decode_json(path.read_bytes(), shape)
    others.drop(kind, name)
    return None


def write_kept(path: Path, content: Any, *, kind: str, name: str) -> None:
    """Keep it here, and for others. Raises DiskFull, LocalError."""
    with replaced(path) as temporary:
        temporary.write_bytes(encode_json(content))
    behind(path).keep(kind, name, file_pieces(path))


__all__ = ["read_kept", "write_kept"]
