"""Freeing what nothing refers to, beside pushes.

The rule: a blob goes when no manifest of its repository refers to it **and** nobody uploaded it, mounted it, asked for
it (HEAD) or pushed a manifest that names it for the grace time. A client that finds a blob and skips its upload has
therefore the whole grace time to push its manifest. Manifests are never removed here, tagged or not: that is a
decision, made by deleting them. What hard links share is freed with its last link.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from registry_pipelines.errors import ContentError, DigestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import descriptors
from registry_pipelines.registry.embedded.storage import Store
from registry_pipelines.registry.embedded.uploads import Uploads

GRACE_S = 24 * 3600.0
"""A 20 GB image over a poor line, whose manifest comes last, is pushed in less."""


@dataclass
class Collected:
    """What a collection did. ``bytes_freed`` counts only content whose last link went."""

    blobs: int = 0
    bytes_freed: int = 0
    uploads: int = 0
    skipped: list[str] = field(default_factory=list)
    """Repositories that were left alone because a manifest could not be read, with the reason."""


def collect_garbage(store: Store, uploads: Uploads, *, grace_s: float = GRACE_S) -> Collected:
    """Free unreferenced blobs and abandoned uploads of all repositories.

    grace_s: see above; 0 gives no protection to running pushes. Raises OSError.
    """
    result = Collected()
    for repository in store.repositories(begun=True):
        layout = store.layout(repository)
        result.uploads += uploads.expire(layout, older_than_s=grace_s)
        try:
            trash = _set_aside(layout, time.time() - grace_s) if layout.exists() else []
        except ContentError as error:
            result.skipped.append(f"{repository}: {error}")
            continue
        for path in trash:
            result.bytes_freed += _remove(path)
        result.blobs += len(trash)
    return result


def _set_aside(layout: Layout, limit: float) -> list[Path]:
    """Rename garbage out of the blobs while no index can change; deleting large files takes long and comes later."""
    trash: list[Path] = []
    with layout.locked():
        needed = referenced(layout)
        for digest, path in _stored(layout):
            if digest in needed or _used_since(path, limit):
                continue
            aside = layout.temporary_path()
            with suppress(FileNotFoundError):
                path.rename(aside)
                if _used_since(aside, limit):  # asked for between the two steps: the client was told that it is there
                    aside.rename(path)
                else:
                    trash.append(aside)
    return trash


def referenced(layout: Layout) -> set[Digest]:
    """Every manifest of the repository and every digest they name. Raises ContentError when one is unreadable."""
    needed: set[Digest] = set()
    for descriptor in layout.known_manifests().values():
        needed.add(descriptor.digest)
        manifest = layout.read_manifest(descriptor)
        if manifest is None:
            continue
        content = manifest.content()
        needed.update(item.digest for item in descriptors(content))
        if content.subject is not None:
            needed.add(content.subject.digest)
    return needed


def _stored(layout: Layout) -> Iterator[tuple[Digest, Path]]:
    for folder in sorted((layout.folder / "blobs").iterdir()):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            with suppress(DigestInvalid):
                yield Digest.parse(f"{folder.name}:{path.name}"), path


def _used_since(path: Path, limit: float) -> bool:
    try:
        return path.stat().st_mtime > limit
    except FileNotFoundError:
        return False


def _remove(path: Path) -> int:
    facts = path.stat()
    path.unlink()
    return facts.st_size if facts.st_nlink == 1 else 0


__all__ = ["GRACE_S", "Collected", "collect_garbage", "referenced"]
