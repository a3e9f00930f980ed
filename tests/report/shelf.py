"""Inventories that are written down in a test: images by the names of their blobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from registry_pipelines.inventory.parts import Parts
from registry_pipelines.inventory.rows import Row, Rows
from registry_pipelines.inventory.value import Inventory, Source
from registry_pipelines.oci.digest import Digest

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def digest(name: str) -> Digest:
    """Of a blob or manifest that is called so."""
    return Digest(f"sha256:{sha256(name.encode()).hexdigest()}")


def image(
    repository: str,
    tag: str,
    blobs: Mapping[str, int],
    *,
    registry: str = "r",
    named: str = "",
    subject: str = "",
    status: str | None = None,
    age_days: float | None = None,
) -> Row:
    """A manifest with its blobs' bytes by their names. named: what others call it by. age_days: since its push."""
    return Row(
        registry,
        repository,
        digest(named or f"{registry}/{repository}:{tag}"),
        AT,
        tags=[tag] if tag else [],
        size_bytes=sum(blobs.values()),
        media_type=IMAGE,
        artifact_type=None if subject else CONFIG,
        subject=digest(subject) if subject else None,
        children=(),
        status=status,
        pushed=None if age_days is None else AT - timedelta(days=age_days),
        parts=Parts({digest(name): size for name, size in blobs.items()}),
    )


def index(repository: str, tag: str, children: Sequence[str], *, registry: str = "r") -> Row:
    """An index of manifests by what they are called."""
    return Row(
        registry,
        repository,
        digest(f"{registry}/{repository}:{tag}"),
        AT,
        tags=[tag],
        size_bytes=0,
        media_type=INDEX,
        children=tuple(digest(each) for each in children),
        parts=Parts({}),
    )


def shelf(rows: Sequence[Row], *, kind: str = "ecr", whole: bool = True) -> Inventory:
    """An inventory of rows, of one registry."""
    registry = rows[0].registry if rows else "r"
    filled = Rows()
    for row in sorted(rows, key=lambda each: each.repository):
        filled.add(row)
    return filled.inventory([Source(registry=registry, kind=kind, answered=AT, complete=whole)])
