"""What layers came out as in earlier conversions, in one SQLite file of the state folder: the next image with the same
layer finds it converted. Losing the file costs time, never correctness."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry_pipelines.caches import LayerCache
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor

VERSION = 2
"""Of the tables; what keys mean is in them. Those of an older version are emptied: what they knew is found again."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS layers (key TEXT PRIMARY KEY, digest TEXT, diff_id TEXT, size INTEGER, "
    "annotations TEXT, chunks INTEGER, note TEXT, missing TEXT)",
)


_Row = tuple[str, str, int, str, int | None, str, str]


@dataclass(frozen=True)
class ConvertedLayer:
    """A layer in its new form."""

    descriptor: Descriptor
    """With the annotations that make nodes find the table of contents."""
    diff_id: Digest
    chunks: int | None
    """Pieces in which a node can fetch it; None where nobody counted them."""
    note: str = ""
    """What of the layer is not in it, for people; empty when all is."""
    missing: tuple[str, ...] = ()
    """Paths that were to be fetched first, and that this layer does not have."""


class ConvertedLayers(LayerCache):
    """Converted layers by what they were made of, and where they were seen."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, what="the memory of converted layers", version=VERSION, tables=_TABLES)

    def find(self, layer: Descriptor, diff_id: Digest, options: Mapping[str, Any]) -> ConvertedLayer | None:
        """What this layer came out as with these options. layer: as its manifest names it; diff_id: as its config."""
        key = _key(layer, diff_id, options)
        with self.using() as database:
            query = "SELECT digest, diff_id, size, annotations, chunks, note, missing FROM layers WHERE key = ?"
            row = database.execute(query, (key,)).fetchone()
        if row is None:
            row = self.from_others("layers", key, _Row)
            if row is None:
                return None
            self._put(key, row)
        descriptor = Descriptor(
            media_type=media_types.OCI_LAYER_GZIP, digest=Digest(row[0]), size=row[2], annotations=json.loads(row[3])
        )
        return ConvertedLayer(descriptor, Digest(row[1]), row[4], row[5], tuple(json.loads(row[6])))

    def keep(self, layer: Descriptor, diff_id: Digest, options: Mapping[str, Any], made: ConvertedLayer) -> None:
        """Keep what a layer came out as."""
        notes = json.dumps(made.descriptor.annotations)
        key, digest = _key(layer, diff_id, options), str(made.descriptor.digest)
        size, missing = made.descriptor.size, json.dumps(made.missing)
        row = (digest, str(made.diff_id), size, notes, made.chunks, made.note, missing)
        self._put(key, row)
        self.for_others("layers", key, row)

    def _put(self, key: str, row: _Row) -> None:
        with self.using() as database:
            database.execute("INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (key, *row))


def _key(layer: Descriptor, diff_id: Digest, options: Mapping[str, Any]) -> str:
    """Both digests: an image could name a diffID that is not the layer's, and conversion checks them together."""
    return json.dumps([layer.digest, diff_id, dict(options)], sort_keys=True)
