"""What is known of converted layers, in its file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.stream.converted import ConvertedLayer, ConvertedLayers

LAYER = Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=Digest.of(b"layer"), size=5)
MADE = ConvertedLayer(
    Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=Digest.of(b"made"), size=4, annotations={"a": "b"}),
    Digest.of(b"tar"),
    3,
)


def test_what_an_older_version_kept_is_emptied_and_what_this_one_keeps_stays(tmp_path: Path) -> None:
    path = tmp_path / "stream" / "converted.sqlite"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as older:
        older.executescript("CREATE TABLE layers (key TEXT PRIMARY KEY, digest TEXT); PRAGMA user_version = 1;")
    with closing(ConvertedLayers(path)) as known:
        assert known.find(LAYER, Digest.of(b"tar"), {}) is None
        known.keep(LAYER, Digest.of(b"tar"), {}, MADE)
    with closing(ConvertedLayers(path)) as known:
        assert known.find(LAYER, Digest.of(b"tar"), {}) == MADE
