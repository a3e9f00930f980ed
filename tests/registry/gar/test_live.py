"""Real Artifact Registry, where somebody says which: ``RP_LIVE_GCP`` (docs/artifact-registry.md).

What the double plays and the documents do not say outright is asked here of the real one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from registry_pipelines.errors import NotFound, Refused, RegistryError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index, Manifest, artifact_manifest, manifest_bytes
from registry_pipelines.registry.gar import images
from registry_pipelines.registry.gar.access import GoogleAccess
from registry_pipelines.registry.gar.hosts import GarRepository
from registry_pipelines.registry.gar.registry import GarRegistry
from tests.needs import live, needed_module
from tests.registry.contract import upload
from tests.registry.gar.test_registry import push


class Live(NamedTuple):
    """A real repository, and an image name of this test alone."""

    registry: GarRegistry
    repository: GarRepository
    image: str

    @property
    def name(self) -> str:
        return f"{self.repository.project}/{self.repository.repository}/{self.image}"


@pytest.fixture
def there() -> Iterator[Live]:
    project, location, repository = live("RP_LIVE_GCP").split("/")
    needed_module("google.cloud.artifactregistry_v1", "google")
    registry = GarRegistry(f"{location}-docker.pkg.dev", access=GoogleAccess(project, location))
    found = Live(registry, GarRepository(project, location, repository), f"live-{uuid.uuid4().hex[:12]}")
    try:
        yield found
    finally:
        left = [each for each in images.list_images(registry.calls, found.repository) if each.name == found.image]
        for each in sorted(left, key=lambda one: not one.platforms):  # indexes before what they name
            images.delete_version(registry.calls, found.repository, found.image, each.digest)


def test_an_image_is_pushed_listed_and_deleted(there: Live) -> None:
    child = push(there.registry, there.name, "")
    index = manifest_bytes(Index(schema_version=2, manifests=(child,)))
    there.registry.put_manifest(there.name, index, tag="v1")
    found = {
        image.digest: image
        for image in images.list_images(there.registry.calls, there.repository)
        if image.name == there.image
    }
    assert found.keys() == {str(child.digest), str(index.digest)}
    assert found[str(index.digest)].tags == ("v1",) and found[str(child.digest)].size > 0
    with pytest.raises(Refused):
        there.registry.delete_manifest(there.name, child.digest)
    there.registry.delete_tag(there.name, "v1")
    with pytest.raises(NotFound):
        there.registry.resolve(there.name, "v1")
    there.registry.delete_manifest(there.name, index.digest)
    there.registry.delete_manifest(there.name, child.digest)


def test_chunks_are_refused_ranges_are_read_and_mounts_are_answered(there: Live) -> None:
    content = bytes(range(256)) * 64
    layer = upload(there.registry, there.name, content)
    with there.registry.open_blob(there.name, layer.digest, start=100, stop=200) as reader:
        buffer = bytearray(200)
        assert reader.readinto(memoryview(buffer)) and buffer[:1] == content[100:101]
    assert there.registry.probe(there.name, blob=layer.digest).range_reads is True
    other = f"{there.name}-other"
    mounted = there.registry.mount_blob(other, layer.digest, source=there.name)
    assert mounted in (True, False)
    session = there.registry._uploads.begin(there.name)
    with pytest.raises(RegistryError):
        for _ in range(2):
            there.registry._uploads.append(session, memoryview(b"x" * 1024))


def test_referrers_come_by_the_api(there: Live) -> None:
    subject = push(there.registry, there.name, "v1")
    upload(there.registry, there.name, b"{}", media_type="application/vnd.oci.empty.v1+json")
    layer = upload(there.registry, there.name, b"note", media_type="text/plain")
    note = artifact_manifest(artifact_type="text/plain", layers=(layer,), subject=subject)
    there.registry.put_manifest(there.name, note)
    assert [each.digest for each in there.registry.referrers(there.name, subject.digest)] == [note.digest]
    assert there.registry.capabilities(there.name).referrers_api is True


def test_a_manifest_whose_layer_is_missing_is_refused(there: Live) -> None:
    config = upload(there.registry, there.name, b"{}", media_type="application/vnd.oci.image.config.v1+json")
    lost = config.__class__(media_type="application/vnd.oci.image.layer.v1.tar", digest=Digest.of(b"lost"), size=4)
    with pytest.raises(RegistryError):
        there.registry.put_manifest(
            there.name, manifest_bytes(Manifest(schema_version=2, config=config, layers=(lost,))), tag="bad"
        )
