"""What the far side asks the near side to make again: the parts of bundles that are missing or damaged.

A small JSON file, not signed: who asks learns nothing, and gets bytes that the signed document names already.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from registry_pipelines.errors import InputError, ManifestInvalid
from registry_pipelines.mirror.bundle.media import Found
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.manifests import decode_json, encode_json

SCHEMA = 1

MAX_REQUEST_BYTES = 16 * 1024 * 1024
"""A part takes a few bytes."""


class WantedParts(msgspec.Struct, frozen=True, kw_only=True):
    """Parts of one bundle, from 1; ``bundle create MIRROR --again NUMBER --parts ...`` takes the same."""

    mirror: str
    line: str
    number: int
    parts: tuple[int, ...]
    tool: tuple[str, ...] = ()
    """Files of the folder ``tool``."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """All that is wanted again."""

    schema: int = SCHEMA
    bundles: tuple[WantedParts, ...]


def request_of(found: Iterable[Found]) -> Request:
    """What is lacking of bundles that were looked at; one without bundles where nothing is."""
    wanted = []
    for each in found:
        tool = tuple(file.name for file in each.tool if file.path is None)
        if each.lacking or tool:
            bundle = each.bundle
            parts = tuple(each.lacking)
            wanted.append(
                WantedParts(mirror=bundle.mirror, line=bundle.line, number=bundle.number, parts=parts, tool=tool)
            )
    return Request(bundles=tuple(wanted))


def write_request(request: Request, path: Path) -> None:
    """Write the file. Raises DiskFull, LocalError."""
    with local_errors(path):
        write_file(path, encode_json(request) + b"\n")


def read_request(path: Path) -> Request:
    """Read the file. Raises InputError for one that is none."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_REQUEST_BYTES)
        request = decode_json(raw, Request, where=str(path), what="request")
    except OSError as error:
        raise InputError(f"the request cannot be read: {error.strerror}", where=str(path)) from error
    except ManifestInvalid as error:
        raise InputError(error.what, where=str(path), do="Have `bundle verify --request` write it") from error
    if request.schema != SCHEMA or any(part < 1 for each in request.bundles for part in each.parts):
        raise InputError("this is no request of this build", where=str(path))
    return request
