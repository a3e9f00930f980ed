"""What registries refused that nobody knew beforehand, remembered in the state folder: the next plan says it before a
byte moves. A hint with a date, not a record: it is believed for a month, because registries are brought up to date."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from registry_pipelines.oci.digest import Digest

BELIEVED_S = 30 * 24 * 3600.0
"""A refusal that is older is found out anew, at the price of the blobs of one image."""

MISSING_CHILD = frozenset({"MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
"""Codes by which registries refuse an index for a child that is not there (docker-registry 2.8.2: the first, 400)."""


class SparseRefusals:
    """Registries that refused an index without some of its children; an empty file for each below a folder. For many
    threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def learn(self, registry: str) -> None:
        """It refused one now. Where this cannot be kept, the next run finds it out again."""
        path = self._path(registry)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.utime(path)

    def refused_on(self, registry: str) -> str:
        """The day (UTC) on which it refused one, like ``2026-11-28``; empty when it did not, or too long ago."""
        try:
            learnt_at = self._path(registry).stat().st_mtime
        except OSError:
            return ""
        return datetime.fromtimestamp(learnt_at, UTC).date().isoformat() if learnt_at > time.time() - BELIEVED_S else ""

    def _path(self, registry: str) -> Path:
        return self._root / Digest.of(registry.encode()).hex
