"""256 static parts of a fleet: sweeps go by them, so that a fleet of any size is a fixed number of pieces of work.

A bucket is held by one sweep of a kind at a time, and what the sweep knows of it lies in one place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from registry_pipelines.chain.session import Session
from registry_pipelines.config import Config, Image
from registry_pipelines.shared.documents import Documents

BUCKETS: tuple[str, ...] = tuple(f"{number:02x}" for number in range(256))
"""Their names."""


def bucket_of(image: Image) -> str:
    """The bucket of an image: by the hash of its repository, so that images of one repository share what is read."""
    return bucket_of_repository(image.registry, image.repository)


def bucket_of_repository(registry: str, repository: str) -> str:
    """The bucket of a repository of one of the configuration's registries."""
    return hashlib.sha256(f"{registry}/{repository}".encode()).hexdigest()[:2]


def filled_buckets(config: Config) -> list[str]:
    """Buckets that hold an image, sorted."""
    return sorted({bucket_of(image) for image in config.images.values()})


def by_bucket(images: Iterable[Image], bucket: str = "") -> dict[str, list[Image]]:
    """Images by bucket, sorted by it. bucket: only this one."""
    found: dict[str, list[Image]] = {}
    for image in images:
        if bucket in ("", bucket_of(image)):
            found.setdefault(bucket_of(image), []).append(image)
    return dict(sorted(found.items()))


class Bucket:
    """What one kind of sweep keeps of one bucket: small documents of the state."""

    def __init__(self, documents: Documents, name: str) -> None:
        self.documents, self.name = documents, name

    def read(self, ending: str) -> bytes:
        """One of them, ``json`` for example; nothing where it is not there: it is made anew. Raises LocalError."""
        found = self.documents.read(f"{self.name}.{ending}")
        return found.content if found else b""

    def write(self, ending: str, content: bytes) -> None:
        """Replace one of them. Raises LocalError, DiskFull."""
        self.documents.write(f"{self.name}.{ending}", content, lasting=False)


@contextmanager
def held(session: Session, kind: str, name: str) -> Iterator[Bucket]:
    """Hold one bucket for a sweep. kind: ``rescan`` for example. Raises StateLocked where another process has it."""
    place = kept(session, kind, name)
    with place.documents.held(f"{name}.lock", f"another process sweeps bucket {name} ({kind})"):
        yield place


def kept(session: Session, kind: str, name: str) -> Bucket:
    """What is kept of one bucket, for who only reads it."""
    return Bucket(session.documents.under("rescan" if kind == "rescan" else f"sweeps/{kind}"), name)


__all__ = ["BUCKETS", "Bucket", "bucket_of", "bucket_of_repository", "by_bucket", "filled_buckets", "held", "kept"]
