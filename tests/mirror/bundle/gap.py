"""Both sides of a gap: a near registry whose images change, and far sides that load what is written of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.evidence.model import Signer
from registry_pipelines.mirror.bundle.confirm import confirm
from registry_pipelines.mirror.bundle.far import FarFolder
from registry_pipelines.mirror.bundle.load import Load, load_bundles
from registry_pipelines.mirror.bundle.media import Found, look_at, open_media
from registry_pipelines.mirror.bundle.receipt import SignedReceipt
from registry_pipelines.oci.manifests import Index, Manifest
from registry_pipelines.progress import Silent
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.shared.documents import FolderDocuments
from registry_pipelines.transfer.engine import Engine
from tests.scan.images import push_image, push_platforms

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SHARED = {f"usr/lib/shared-{number}.so": bytes([number]) * 3000 + bytes(range(256)) * 20 for number in range(4)}
IMAGES = (("library/app", "latest"), ("library/tool", "1"), ("library/many", "1"))
Whole = dict[str, tuple[dict[str, str], frozenset[str], frozenset[str]]]


def publish(near: Registry, version: int) -> list[tuple[Place, str]]:
    """The upstreams as they stand in a version: a layer that two repositories share, an index, signatures in both
    forms, and a tag that moves each time."""
    app, tool, many = (Place(near, name) for name, _ in IMAGES)
    image = push_image(app, [SHARED, {"app/version": str(version) * 500}], tag="latest")
    push_image(app, [SHARED, {"app/version": str(version) * 500}], tag=f"{version}.0")
    push_image(tool, [SHARED, {"tool/main": "stays" * 500}], tag="1")
    index, children = push_platforms(many, "amd64", "arm64", tag="1")
    for place, subject in ((app, image), (many, index), (many, children[0])):
        note = f"signed {version}".encode()
        signed = attach(place, subject=subject, artifact_type="text/plain", content=note, media_type="text/plain")
        attach(place, subject=signed, artifact_type="text/x-of", content=b"and that too", media_type="text/plain")
    push_image(
        tool, [{"sig": f"of {version}"}], tag=f"{tool.registry.resolve(tool.repository, '1').digest.fallback_tag}.sig"
    )
    return [(app, "latest"), (app, f"{version}.0"), (tool, "1"), (many, "1")]


@dataclass
class Far:
    """A far side. folder: of its state."""

    registry: Registry
    folder: Path
    mirror: str = "upstreams"
    found: list[Found] = field(default_factory=list)

    @property
    def memory(self) -> FarFolder:
        return FarFolder(FolderDocuments(self.folder / "bundles"), self.mirror)

    @property
    def engine(self) -> Engine:
        return Engine(state=self.folder / "transfer")

    def look(self, *folders: Path) -> list[Found]:
        media = open_media(folders)
        return [look_at(media, each, Silent()) for each in media.documents]

    def load(self, *folders: Path, now: datetime = NOW, move_back: bool = False) -> list[Load]:
        found = self.look(*folders)
        return load_bundles(found, self.registry, self.memory, engine=self.engine, now=now, move_back=move_back)

    def receipt(self, signer: Signer) -> SignedReceipt:
        return confirm(self.memory, self.registry, signer, now=NOW).signed


def far_layout(root: Path) -> Far:
    return Far(LayoutRegistry(root / "registry"), root / "state")


def whole(registry: Registry, repositories: Sequence[str] = ()) -> Whole:
    """All that a registry has: tags, manifests and blobs by repository. Found from the tags and referrers, so what
    nothing leads to does not count."""
    found: Whole = {}
    for name in repositories or list(registry.repositories()):
        tags = {tag: str(registry.resolve(name, tag).digest) for tag in registry.tags(name)}
        manifests: set[str] = set()
        blobs: set[str] = set()
        waiting: list[Any] = [digest for tag, digest in tags.items() if not _is_list(tag)]
        while waiting:
            digest = waiting.pop()
            if digest in manifests:
                continue
            manifests.add(digest)
            raw = registry.get_manifest(name, digest)
            content = raw.content()
            waiting += [str(each.digest) for each in registry.referrers(name, raw.digest)]
            if isinstance(content, Index):
                waiting += [str(each.digest) for each in content.manifests]
            else:
                assert isinstance(content, Manifest)
                for blob in (content.config, *content.layers):
                    assert registry.blob_size(name, blob.digest) == blob.size
                    blobs.add(str(blob.digest))
        shown = {tag: digest for tag, digest in tags.items() if not _is_list(tag)}
        found[name] = (shown, frozenset(manifests), frozenset(blobs))
    return found


def _is_list(tag: str) -> bool:
    """Where a registry without the API has its lists of referrers."""
    return tag.startswith("sha256-") and "." not in tag
