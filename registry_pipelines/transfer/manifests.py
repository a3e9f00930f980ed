"""Manifests seen before, as files by digest: what is named by its digest never changes, so each is fetched once.

A cache, not a record: a file that is lost, cut short or damaged costs one request. Files and no database, because a
run that finds nothing to do reads only these, and ends before a database library would be loaded.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import uuid
from pathlib import Path

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import MAX_MANIFEST_BYTES, ManifestBytes

MAX_MEDIA_TYPE_BYTES = 256
"""RFC 6838 section 4.2 permits 127 characters on each side of the slash."""

KEPT_S = 90 * 24 * 3600.0
"""A manifest that is older is fetched again; most of the old ones belong to tags that are gone."""


class ManifestFolder:
    """See :class:`~registry_pipelines.transfer.closure.ManifestCache`. Safe to use from many threads and processes.

    Files are ``<algorithm>/<first two hex digits>/<hex>``: the media type, a line feed, the manifest's bytes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.is_new = not root.is_dir()

    def manifest(self, digest: Digest) -> ManifestBytes | None:
        """The cached bytes, verified: a damaged file must not damage a copy."""
        try:
            with self._path(digest).open("rb") as file:
                content = file.read(MAX_MEDIA_TYPE_BYTES + 1 + MAX_MANIFEST_BYTES)
            media_type, _, raw = content.partition(b"\n")
            if Digest.of(raw, digest.algorithm) != digest:
                return None
            return ManifestBytes(raw, media_type.decode("ascii"), digest)
        except (OSError, UnicodeDecodeError):
            return None

    def keep_manifest(self, manifest: ManifestBytes) -> None:
        """Remember the bytes, where they can be kept. Not made durable: see above."""
        path = self._path(manifest.digest)
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        with contextlib.suppress(OSError, UnicodeEncodeError):
            head = manifest.media_type.encode("ascii")
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(head + b"\n" + manifest.raw)
            temporary.rename(path)

    def sweep(self) -> None:
        """Remove old files of one of the 256 folders, chosen at random: in time all are swept, and no run is slow."""
        oldest = time.time() - KEPT_S
        for folder in self._root.glob(f"*/{random.randrange(256):02x}"):  # noqa: S311 - guards nothing
            for entry in os.scandir(folder):
                with contextlib.suppress(OSError):
                    if entry.stat().st_mtime < oldest:
                        Path(entry.path).unlink()

    def _path(self, digest: Digest) -> Path:
        return self._root / digest.algorithm / digest.hex[:2] / digest.hex
