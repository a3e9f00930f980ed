"""Manifests seen before, as files by digest: what is named by its digest never changes, so each is fetched once.

A cache, not a record: a file that is lost, cut short or damaged costs one request. Files and no database, because a
run that finds nothing to do reads only these, and ends before a database library would be loaded.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
import zlib
from pathlib import Path

from registry_pipelines.chance import CHANCE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import MAX_MANIFEST_BYTES, ManifestBytes

MAX_HEAD_BYTES = 256 + 10
"""Of a file. RFC 6838 section 4.2 permits 127 characters on each side of a media type's slash."""

KEPT_S = 90 * 24 * 3600.0
"""A manifest that is older is fetched again; most of the old ones belong to tags that are gone."""


class ManifestFolder:
    """Manifests known by digest: a hit saves a request for good. Safe to use from many threads and processes.

    is_new: it was empty when it was opened, so what a tag names is fetched at once, without asking first which digest
    that is.

    Files are ``<algorithm>/<first two hex digits>/<hex>``: the media type, a space, its CRC-32 in hex, a line feed, the
    manifest's bytes. The digest vouches for the bytes alone, and a wrong type would fail each copy until it is swept.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.is_new = not os.path.isdir(root)  # noqa: PTH112 - Path.is_dir raises where a parent cannot be entered

    def manifest(self, digest: Digest) -> ManifestBytes | None:
        """The cached bytes, verified: a damaged file must not damage a copy."""
        try:
            with self._path(digest).open("rb") as file:
                content = file.read(MAX_HEAD_BYTES + MAX_MANIFEST_BYTES)
            head, _, raw = content.partition(b"\n")
            media_type = head.rpartition(b" ")[0].decode("ascii")
            if head != _head(media_type) or Digest.of(raw, digest.algorithm) != digest:
                return None
            return ManifestBytes(raw, media_type, digest)
        except (OSError, UnicodeDecodeError):
            return None

    def keep_manifest(self, manifest: ManifestBytes) -> None:
        """Remember the bytes, where they can be kept. Not made durable: see above."""
        path = self._path(manifest.digest)
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        with contextlib.suppress(OSError, UnicodeEncodeError):
            head = _head(manifest.media_type)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(head + b"\n" + manifest.raw)
                temporary.rename(path)
            except BaseException:  # a full disk, which half a file would make fuller, or an interrupt
                temporary.unlink(missing_ok=True)
                raise

    def close(self) -> None:
        """The end of a run; a folder has all by then."""

    def sweep(self) -> None:
        """Remove old files of one of the 256 folders, chosen at random: in time all are swept, and no run is slow."""
        oldest = time.time() - KEPT_S
        name = f"{CHANCE.randrange(256):02x}"
        with contextlib.suppress(OSError):
            for path in [path for folder in self._root.iterdir() for path in (folder / name).glob("*")]:
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < oldest:
                        path.unlink()

    def _path(self, digest: Digest) -> Path:
        return self._root / digest.algorithm / digest.hex[:2] / digest.hex


def _head(media_type: str) -> bytes:
    raw = media_type.encode("ascii")
    return b"%s %08x" % (raw, zlib.crc32(raw))
