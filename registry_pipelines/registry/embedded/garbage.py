"""Freeing what nothing refers to, beside pushes.

The rule: a blob goes when no manifest of its repository refers to it **and** nobody uploaded it, mounted it, asked for
it (HEAD) or pushed a manifest that names it for the grace time. A client that finds a blob and skips its upload has
therefore the whole grace time to push its manifest. Manifests are never removed here, tagged or not: that is a
decision, made by deleting them. What hard links share is freed with its last link.

No lock is held, so no push waits, and it may run in another process than the server. Manifests are read first (the
mark); a manifest that comes later touched its blobs before it was listed, which starts their grace time again. A blob
goes in two steps: it is set aside under another name, where every use still finds it and brings it back
(``Layout.touch_blob``), and removed only after the index was looked at once more. Kill it anywhere: what was set aside
is found by whoever uses it, and removed by the next collection.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from registry_pipelines.errors import ContentError, DigestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import Descriptor, descriptors
from registry_pipelines.registry.embedded.storage import Store
from registry_pipelines.registry.embedded.uploads import Uploads

GRACE_S = 24 * 3600.0
"""A 20 GB image over a poor line, whose manifest comes last, is pushed in less."""

BATCH = 256
"""Blobs that are set aside before the index is looked at again and they are removed."""


@dataclass(frozen=True)
class Freed:
    """What went from one repository, or would go. blobs, uploads: how many; bytes: of blobs whose last link went.
    skipped: why it was left alone, empty when it was not."""

    repository: str
    blobs: int = 0
    bytes_freed: int = 0
    uploads: int = 0
    skipped: str = ""


@dataclass
class Collected:
    """What a collection did, or would do. ``bytes_freed`` counts only content whose last link went."""

    repositories: list[Freed] = field(default_factory=list)
    """In ASCII order, those with something to say alone."""

    @property
    def blobs(self) -> int:
        """Blobs of all repositories."""
        return sum(each.blobs for each in self.repositories)

    @property
    def bytes_freed(self) -> int:
        """Bytes on the disk."""
        return sum(each.bytes_freed for each in self.repositories)

    @property
    def uploads(self) -> int:
        """Abandoned uploads."""
        return sum(each.uploads for each in self.repositories)

    @property
    def skipped(self) -> list[str]:
        """Repositories that were left alone because a manifest could not be read, with the reason."""
        return [f"{each.repository}: {each.skipped}" for each in self.repositories if each.skipped]


def collect_garbage(
    store: Store, uploads: Uploads, *, grace_s: float = GRACE_S, dry_run: bool = False, only: Collection[str] = ()
) -> Collected:
    """Free unreferenced blobs and abandoned uploads of all repositories, or of ``only`` some.

    grace_s: see above; 0 gives no protection to running pushes. dry_run: change nothing, say what would go. Raises
    OSError.
    """
    result = Collected()
    links: dict[int, int] = {}
    for repository in store.repositories(begun=True):
        if not only or repository in only:
            freed = _collect_one(store.layout(repository), repository, uploads, time.time() - grace_s, dry_run, links)
            if freed != Freed(repository):
                result.repositories.append(freed)
    return result


def _collect_one(
    layout: Layout, repository: str, uploads: Uploads, limit: float, dry_run: bool, links: dict[int, int]
) -> Freed:
    expired = uploads.expire(layout, before=limit, dry_run=dry_run)
    if not layout.exists():
        return Freed(repository, uploads=expired)
    try:
        marks = Marks(layout)
        unused = [digest for digest in _unneeded(layout, marks) if not _used_since(layout, digest, limit)]
        if dry_run:
            paths = [*map(layout.aside_path, layout.set_aside()), *map(layout.blob_path, unused)]
            count, freed = len(paths), sum(_would_free(path, links) for path in paths)
        else:
            count, freed = _sweep(layout, marks, [*layout.set_aside(), *unused], limit)
    except ContentError as error:
        return Freed(repository, uploads=expired, skipped=str(error))
    return Freed(repository, count, freed, expired)


class Marks:
    """What the manifests of a repository need: each of them, and every digest they name. Raises ContentError when one
    is unreadable: what it needs is then not known."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._needed: set[Digest] = set()
        self._read: set[Digest] = set()
        self.renew()

    def __contains__(self, digest: str) -> bool:
        return digest in self._needed

    def renew(self) -> None:
        """Read what was pushed since. Cheap where nothing was. Raises ContentError."""
        self._layout.learn()
        known = self._layout.known_manifests()
        for digest in known.keys() - self._read:
            self._needed.update(_needs(self._layout, known[digest]))
            self._read.add(digest)


def _needs(layout: Layout, descriptor: Descriptor) -> Iterable[Digest]:
    yield descriptor.digest
    manifest = layout.read_manifest(descriptor)
    if manifest is None:
        return
    content = manifest.content()
    yield from (item.digest for item in descriptors(content))
    if content.subject is not None:
        yield content.subject.digest


def _sweep(layout: Layout, marks: Marks, unused: Sequence[Digest], limit: float) -> tuple[int, int]:
    """Set aside and remove, batch by batch; how many, and their bytes. Big files take long to remove: by then nothing
    waits for them."""
    count = freed = 0
    for start in range(0, len(unused), BATCH):
        batch = unused[start : start + BATCH]
        for digest in batch:
            layout.put_aside(digest)
        try:
            marks.renew()
        except ContentError:
            for digest in batch:
                layout.bring_back(digest)
            raise
        for digest in batch:
            path = layout.aside_path(digest)
            with suppress(FileNotFoundError):  # somebody used it, and it is back
                facts = path.stat()
                if digest in marks or facts.st_mtime > limit:
                    layout.bring_back(digest)
                    continue
                path.unlink()
                count += 1
                freed += facts.st_size if facts.st_nlink == 1 else 0
    return count, freed


def _unneeded(layout: Layout, marks: Marks) -> Iterator[Digest]:
    for folder in sorted((layout.folder / "blobs").iterdir()):
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            names = sorted(name for entry in entries if (name := f"{folder.name}:{entry.name}") not in marks)
        for name in names:
            with suppress(DigestInvalid):
                yield Digest.parse(name)


def _used_since(layout: Layout, digest: Digest, limit: float) -> bool:
    try:
        return layout.blob_path(digest).stat().st_mtime > limit
    except FileNotFoundError:
        return True


def _would_free(path: Path, links: dict[int, int]) -> int:
    """As the sweep counts it: bytes go with the last link. links: by inode, how many would be gone before this one."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return 0
    links[facts.st_ino] = links.get(facts.st_ino, 0) + 1
    return facts.st_size if links[facts.st_ino] == facts.st_nlink else 0


__all__ = ["GRACE_S", "Collected", "Freed", "Marks", "collect_garbage"]
