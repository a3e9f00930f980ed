"""What the embedded server keeps: an OCI layout per repository below one root folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from registry_pipelines.errors import ReferenceInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import PRIVATE_FOLDER, Layout
from registry_pipelines.oci.references import check_repository

RESERVED_PARTS = frozenset({"blobs", "index.json", "oci-layout"})
"""Files of a layout. A repository may lie below another (``a``, ``a/b``), so no later part may be named so."""


def check_stored_name(repository: str) -> str:
    """A repository name that can be a folder here. Raises ReferenceInvalid."""
    check_repository(repository)
    if RESERVED_PARTS.intersection(repository.split("/")[1:]):
        raise ReferenceInvalid(
            f"{repository!r} has a part named like a file of an OCI layout",
            do=f"After the first slash do not use {', '.join(sorted(RESERVED_PARTS))}",
        )
    return repository


def walk_repositories(root: Path, *, begun: bool = False) -> Iterator[str]:
    """Names of all layouts below ``root``, sorted part by part; whatever does not look like one is passed over.

    begun: also folders where something was only ever being uploaded.
    """
    pending = [("", root)]
    while pending:
        prefix, folder = pending.pop()
        if prefix and ((folder / "index.json").is_file() or (begun and (folder / PRIVATE_FOLDER).is_dir())):
            yield prefix
        try:
            with os.scandir(folder) as entries:
                parts = sorted((entry.name for entry in entries if entry.is_dir(follow_symlinks=False)), reverse=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for part in parts:
            name = f"{prefix}/{part}" if prefix else part
            try:
                check_stored_name(name)
            except ReferenceInvalid:
                continue
            pending.append((name, folder / part))


class Store:
    """All repositories of one server or folder, with one :class:`Layout` object each, so that caches are shared."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._layouts: dict[str, Layout] = {}
        self._guard = threading.Lock()

    def layout(self, repository: str) -> Layout:
        """The repository's layout, whether it exists yet or not. Raises ReferenceInvalid."""
        cached = self._layouts.get(repository)
        if cached is not None:
            return cached
        check_stored_name(repository)
        fresh = Layout(self.root / repository)
        with self._guard:
            if len(self._layouts) > MAX_CACHED_LAYOUTS:
                self._layouts.clear()
            return self._layouts.setdefault(repository, fresh)

    def repositories(self, *, begun: bool = False) -> list[str]:
        """All repositories in ASCII order; ``begun``: see walk_repositories."""
        return sorted(walk_repositories(self.root, begun=begun))

    def holder_of(self, digest: Digest) -> Layout | None:
        """Some repository that has the blob."""
        for repository in self.repositories():
            layout = self.layout(repository)
            if layout.blob_size(digest) is not None:
                return layout
        return None


MAX_CACHED_LAYOUTS = 4096
"""Layout objects kept; each holds one parsed index. Asking for names that do not exist must not fill the memory."""

__all__ = ["MAX_CACHED_LAYOUTS", "RESERVED_PARTS", "Store", "check_stored_name", "walk_repositories"]
