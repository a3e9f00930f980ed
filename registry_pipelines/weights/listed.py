"""``weights.json``: our list of a folder's files, which lies beside them and is written last.

A folder without it is not whole: whoever put the files there did not finish. JSON: ``format`` (1), ``kind``,
``manifest`` (digest of the artifact the files are), ``files`` (``path``, ``sha256``, ``size``).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from registry_pipelines.errors import DigestInvalid, InputError, ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import decode_json
from registry_pipelines.weights.hashing import LIST_FILE
from registry_pipelines.weights.model import WeightSet
from registry_pipelines.weights.paths import fault_of_set
from registry_pipelines.weights.staging import write_staged

FORMAT = 1
KIND = "registry-pipelines: weights"
MAX_LIST_BYTES = 16 * 1024 * 1024
"""A row for each of 10,000 files with long paths."""


class ListedFile(msgspec.Struct, frozen=True, kw_only=True):
    """path: below the folder; sha256: hexadecimal; size: bytes."""

    path: str
    sha256: str
    size: int


class WeightList(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds; see the module."""

    format: int
    kind: str
    manifest: str
    files: tuple[ListedFile, ...]


def list_of(weights: WeightSet, manifest: Digest) -> WeightList:
    """The list of a set. Raises InputError for files whose digest is no sha256."""
    odd = [file.path for file in weights.files if file.digest.algorithm != "sha256"]
    if odd:
        raise InputError(f"{odd[0]} is named by another digest than sha256", do="Push the weights again")
    files = tuple(ListedFile(path=file.path, sha256=file.digest.hex, size=file.size) for file in weights.files)
    return WeightList(format=FORMAT, kind=KIND, manifest=str(manifest), files=files)


def write_list(folder: Path, staging: Path, listed: WeightList) -> None:
    """Put the list beside its files, whole or not at all. staging: of the folder. Raises DiskFull, LocalError."""
    write_staged(staging, folder / LIST_FILE, msgspec.json.format(msgspec.json.encode(listed), indent=1))


def read_list(folder: Path) -> WeightList | None:
    """The list of a folder, None where it has none. Raises ManifestInvalid for anything else under its name."""
    path = folder / LIST_FILE
    with local_errors(path):
        if not path.is_file():
            return None
        with path.open("rb") as file:
            raw = file.read(MAX_LIST_BYTES + 1)
    if len(raw) > MAX_LIST_BYTES:
        raise ManifestInvalid(f"the list has more than {MAX_LIST_BYTES} bytes", where=str(path))
    return parse_list(raw, where=str(path))


def parse_list(raw: bytes, *, where: str = "") -> WeightList:
    """Read and check a list. Raises ManifestInvalid."""
    listed = decode_json(raw, WeightList, where=where, what="list of weights")
    fault = fault_of_set(each.path for each in listed.files)
    if listed.kind != KIND or listed.format != FORMAT:
        fault = f"it is {listed.kind[:80]!r}, format {listed.format}, where {KIND!r}, format {FORMAT}, is read"
    try:
        Digest.parse(listed.manifest)
    except DigestInvalid:
        fault = fault or "it names no digest of an artifact"
    for each in listed.files:
        if len(each.sha256) != 64 or set(each.sha256) - set("0123456789abcdef") or each.size < 0:
            fault = f"{each.path!r} has no digest or no size"
    if fault:
        raise ManifestInvalid(f"this is no list of weights: {fault}", where=where)
    return listed


__all__ = ["ListedFile", "WeightList", "list_of", "parse_list", "read_list", "write_list"]
