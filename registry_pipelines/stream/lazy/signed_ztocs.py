"""The ztocs of an image's layers, as the indexes that somebody who is believed signed name them."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from registry_pipelines.errors import ContentError, DigestMismatch, IndexInvalid, NotFound
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, replaced
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BlobStream
from registry_pipelines.registry.protocol import BUFFER_BYTES, Place, Readable
from registry_pipelines.stream.lazy.kept import KeptFiles
from registry_pipelines.stream.lazy.layer_table import FoundTable, LayerTable
from registry_pipelines.stream.lazy.pieces import SpanPieces
from registry_pipelines.stream.lazy.vouching import NotBelieved, vouched
from registry_pipelines.stream.signed_index import find_index
from registry_pipelines.stream.table_checks import MAX_TABLE_BYTES
from registry_pipelines.stream.ztoc import read_ztoc
from registry_pipelines.threads import Pool

FETCHERS = 4
"""Ztocs that are fetched at the same time."""

NO_KEY = "no key of an indexer is believed (--key, or `signing` in the configuration), so no index is"
NO_INDEX = "the image has no index"
LEFT_OUT = "the image's index leaves it out, as it does with small layers"


class SignedZtocs:
    """Of one image. The registry is asked for its indexes when the first layer is asked for, and once."""

    def __init__(self, place: Place, image: Digest, verifier: Verifier | None, kept: KeptFiles) -> None:
        """verifier: whose indexes are believed; None for nobody's. kept: the ztocs that this node has."""
        self._place, self._image, self._verifier, self._kept = place, image, verifier, kept
        self._ztocs: dict[str, Descriptor] | None = None
        self._no_index = ""
        self.held: set[Digest] = set()
        """Layers that indexes leave out and their maker read (``StreamingIndex.held``), once they were asked for."""

    def lacks(self, layer: Digest) -> str:
        """Why there is none of a layer, as far as that is known before it is here; empty: there is one."""
        ztoc = self._named().get(layer)
        return "" if ztoc is not None and 0 < ztoc.size <= MAX_TABLE_BYTES else self._no_index or LEFT_OUT

    def come(self, layers: Iterable[Digest]) -> None:
        """Fetch those of several layers that are not here, of indexes that were asked for. What is wrong with one is
        said where it is used."""
        named = self._ztocs or {}
        with Pool(FETCHERS, "lazy-table") as pool:
            list(pool.map(self._come, [named[layer] for layer in layers if layer in named]))

    def table(self, layer: Descriptor, *, where: str) -> tuple[FoundTable | None, str]:
        """How a layer is read by its ztoc; or why not. Raises LocalError, DiskFull; the RegistryError family."""
        descriptor = self._named().get(layer.digest)
        if descriptor is None:
            return None, self._no_index or LEFT_OUT
        try:
            ztoc = read_ztoc(self._mapped(descriptor), where=where)
            if ztoc.spans.size != layer.size:
                raise IndexInvalid(f"the ztoc is of a layer of {ztoc.spans.size} bytes, not {layer.size}", where=where)
            pieces = SpanPieces(ztoc.spans, table=descriptor.digest, where=where)
        except (ContentError, NotFound) as error:
            return None, f"its part of the image's index cannot be used: {error.what}"
        assert self._verifier is not None  # noqa: S101 - nothing is believed without
        return FoundTable(LayerTable(layer, pieces, voucher=vouched(self._verifier)), ztoc), ""

    def _named(self) -> dict[str, Descriptor]:
        """By layer."""
        if self._ztocs is None:
            self._ztocs, self._no_index = self._believed()
        return self._ztocs

    def _believed(self) -> tuple[dict[str, Descriptor], str]:
        """The ztocs of signed indexes by layer; and if there is none, why."""
        if self._verifier is None:
            return {}, NO_KEY
        indexes = find_index(self._place, self._image, self._verifier)
        ztocs: dict[str, Descriptor] = {}
        for index in reversed(indexes.signed):
            ztocs |= index.ztocs
            self.held |= set(index.note.held)
        if indexes.signed:
            return ztocs, ""
        refused = "; ".join(f"index {each}" for each in indexes.not_served)
        return {}, NotBelieved(f"no index of the image is believed: {refused}") if refused else NO_INDEX

    def _come(self, ztoc: Descriptor) -> None:
        with suppress(ContentError, NotFound):
            self._mapped(ztoc).close()

    def _mapped(self, descriptor: Descriptor) -> mmap.mmap:
        """A ztoc in a file of this node, held against its digest each time."""
        where = f"{self._place}@{descriptor.digest}"
        if not 0 < descriptor.size <= MAX_TABLE_BYTES:
            raise IndexInvalid(f"a ztoc has {descriptor.size} bytes", where=where)
        name = descriptor.digest.hex
        if path := self._kept.find(name):
            with suppress(OSError, ValueError, DigestMismatch):
                return _checked(path, descriptor, where)
        path = self._kept.path(name)
        with replaced(path) as temporary, temporary.open("wb") as file, BlobStream(self._place, descriptor) as stream:
            _copy(stream, file, descriptor.size)
        self._kept.make_room(path)
        with local_errors(path):
            return _checked(path, descriptor, where)


def _checked(path: Path, descriptor: Descriptor, where: str) -> mmap.mmap:
    """A file of the node as memory that the kernel may take back. Raises OSError, ValueError, DigestMismatch."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with memoryview(mapped) as view:
        descriptor.digest.check(view, where=where)
    return mapped


def _copy(stream: Readable, file: IO[bytes], size: int) -> None:
    """At most ``size`` bytes."""
    buffer = memoryview(bytearray(BUFFER_BYTES))
    while size and (count := stream.readinto(buffer[:size])):
        file.write(buffer[:count])
        size -= count


__all__ = ["LEFT_OUT", "NO_INDEX", "NO_KEY", "SignedZtocs"]
