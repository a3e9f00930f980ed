"""What every implementation of ``Registry`` must do, whatever is behind it.

Inherit from :class:`RegistryContract` in a ``test_*.py`` and provide the fixture ``registry``; switch off by class
attribute only what the place behind it cannot do at all.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry_pipelines.errors import (
    ContentError,
    DigestMismatch,
    ManifestTooLarge,
    NotFound,
    Refused,
    RegistryError,
    Unsupported,
)
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    Manifest,
    ManifestBytes,
    artifact_manifest,
    manifest_bytes,
)
from registry_pipelines.registry.protocol import Registry

KIND = "application/vnd.example.note.v1+json"
OTHER_KIND = "application/vnd.example.other.v1+json"


def blob_of(content: bytes, media_type: str = "application/octet-stream", algorithm: str = "sha256") -> Descriptor:
    return Descriptor(media_type=media_type, digest=Digest.of(content, algorithm), size=len(content))


def upload(registry: Registry, repository: str, content: bytes, **facts: str) -> Descriptor:
    descriptor = blob_of(content, **facts)
    registry.upload_blob(repository, descriptor, io.BytesIO(content))
    return descriptor


def read(registry: Registry, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> bytes:
    content = bytearray()
    buffer = memoryview(bytearray(4096))
    with registry.open_blob(repository, digest, start=start, stop=stop) as reader:
        while count := reader.readinto(buffer):
            content += buffer[:count]
    return bytes(content)


def image(registry: Registry, repository: str, text: str, *, tag: str = "") -> ManifestBytes:
    """A small image, pushed."""
    config = upload(registry, repository, b'{"architecture":"amd64","os":"linux"}', media_type=media_types.OCI_CONFIG)
    layer = upload(registry, repository, text.encode(), media_type=media_types.OCI_LAYER)
    manifest = manifest_bytes(
        Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=(layer,))
    )
    registry.put_manifest(repository, manifest, tag=tag)
    return manifest


def note(registry: Registry, repository: str, subject: Descriptor, text: str, kind: str = KIND) -> ManifestBytes:
    """A small artifact about ``subject``, pushed."""
    upload(registry, repository, b"{}", media_type=media_types.OCI_EMPTY)
    layer = upload(registry, repository, text.encode(), media_type=kind)
    manifest = artifact_manifest(artifact_type=kind, layers=(layer,), subject=subject, annotations={"text": text})
    registry.put_manifest(repository, manifest)
    return manifest


class RegistryContract:
    """Needs the fixture ``registry``: an empty or shared place that may be written to."""

    deletes_tags = True
    deletes_last_tag = True
    """False: with its last tag a registry would delete the manifest, so it is refused."""
    deletes_blobs = True
    keeps_sha512_manifests = True

    @pytest.fixture
    def repository(self) -> str:
        return f"contract/{uuid.uuid4().hex[:12]}"

    # Blobs

    @pytest.mark.parametrize("size", [0, 1, 4096, 3 * 1024 * 1024 + 17])
    def test_a_blob_comes_back_as_it_went_in(self, registry: Registry, repository: str, size: int) -> None:
        content = hashlib.shake_128(str(size).encode()).digest(size)
        descriptor = upload(registry, repository, content)
        assert registry.blob_size(repository, descriptor.digest) == size
        with registry.open_blob(repository, descriptor.digest) as reader:
            assert (reader.size, reader.start) == (size, 0)
        assert read(registry, repository, descriptor.digest) == content

    def test_a_sha512_blob_comes_back(self, registry: Registry, repository: str) -> None:
        descriptor = upload(registry, repository, b"long digest", algorithm="sha512")
        assert read(registry, repository, descriptor.digest) == b"long digest"

    def test_a_range_of_a_blob(self, registry: Registry, repository: str) -> None:
        content = bytes(range(256)) * 40
        digest = upload(registry, repository, content).digest
        assert read(registry, repository, digest, start=5000) == content[5000:]
        assert read(registry, repository, digest, start=100, stop=300) == content[100:300]
        assert read(registry, repository, digest, start=10_000, stop=99_999) == content[10_000:]
        with registry.open_blob(repository, digest, start=100, stop=300) as reader:
            assert (reader.size, reader.start) == (len(content), 100)

    def test_an_unknown_blob(self, registry: Registry, repository: str) -> None:
        unknown = Digest.of(b"never pushed")
        upload(registry, repository, b"another")
        assert registry.blob_size(repository, unknown) is None
        assert registry.blob_size(f"{repository}-none", unknown) is None
        with pytest.raises(NotFound):
            registry.open_blob(repository, unknown)
        with pytest.raises(NotFound):
            registry.open_blob(f"{repository}-none", unknown)

    def test_content_with_another_digest_is_not_stored(self, registry: Registry, repository: str) -> None:
        promised = blob_of(b"what was promised")
        with pytest.raises(DigestMismatch):
            registry.upload_blob(repository, promised, io.BytesIO(b"what came instead"))
        assert registry.blob_size(repository, promised.digest) is None
        assert registry.blob_size(repository, Digest.of(b"what came instead")) is None

    @pytest.mark.parametrize("content", [b"too short", b"much longer than what was promised"])
    def test_content_of_another_length_is_not_stored(self, registry: Registry, repository: str, content: bytes) -> None:
        promised = blob_of(b"what was promised")
        with pytest.raises((ContentError, RegistryError)):
            registry.upload_blob(repository, promised, io.BytesIO(content))
        assert registry.blob_size(repository, promised.digest) is None

    def test_uploading_again_changes_nothing(self, registry: Registry, repository: str) -> None:
        descriptor = upload(registry, repository, b"twice")
        upload(registry, repository, b"twice")
        assert read(registry, repository, descriptor.digest) == b"twice"

    def test_many_uploads_of_one_blob_at_once(self, registry: Registry, repository: str) -> None:
        content = b"together" * 50_000
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: upload(registry, repository, content), range(6)))
        assert read(registry, repository, Digest.of(content)) == content

    def test_a_mounted_blob_is_in_both_places(self, registry: Registry, repository: str) -> None:
        descriptor = upload(registry, repository, b"shared")
        target = f"{repository}-target"
        if registry.mount_blob(target, descriptor.digest, source=repository):
            assert read(registry, target, descriptor.digest) == b"shared"
        else:
            assert registry.blob_size(target, descriptor.digest) is None

    def test_what_is_not_there_cannot_be_mounted(self, registry: Registry, repository: str) -> None:
        unknown = Digest.of(b"never pushed")
        assert registry.mount_blob(repository, unknown, source=f"{repository}-none") is False
        assert registry.blob_size(repository, unknown) is None

    def test_a_deleted_blob_is_gone(self, registry: Registry, repository: str) -> None:
        descriptor = upload(registry, repository, b"to be deleted")
        if not self.deletes_blobs:
            with pytest.raises(Unsupported):
                registry.delete_blob(repository, descriptor.digest)
            return
        registry.delete_blob(repository, descriptor.digest)
        assert registry.blob_size(repository, descriptor.digest) is None
        with pytest.raises(NotFound):
            registry.delete_blob(repository, descriptor.digest)

    # Manifests and tags

    def test_a_manifest_by_tag_and_by_digest(self, registry: Registry, repository: str) -> None:
        manifest = image(registry, repository, "one", tag="v1")
        for reference in ("v1", manifest.digest):
            assert registry.get_manifest(repository, reference) == manifest
            descriptor = registry.resolve(repository, reference)
            assert (descriptor.digest, descriptor.size, descriptor.media_type) == (
                manifest.digest,
                len(manifest.raw),
                media_types.OCI_MANIFEST,
            )

    def test_a_manifest_without_tag(self, registry: Registry, repository: str) -> None:
        manifest = image(registry, repository, "untagged")
        assert registry.get_manifest(repository, manifest.digest) == manifest
        image(registry, repository, "other", tag="v2")
        assert list(registry.tags(repository)) == ["v2"]

    def test_manifest_bytes_are_kept_exactly(self, registry: Registry, repository: str) -> None:
        tidy = image(registry, repository, "spaces")
        raw = tidy.raw.replace(b",", b" ,\n  ").replace(b":2,", b" : 2,")
        manifest = ManifestBytes(raw, media_types.OCI_MANIFEST, Digest.of(raw))
        registry.put_manifest(repository, manifest, tag="loose")
        assert registry.get_manifest(repository, "loose").raw == raw

    def test_a_sha512_manifest(self, registry: Registry, repository: str) -> None:
        tidy = image(registry, repository, "long")
        manifest = ManifestBytes(tidy.raw, tidy.media_type, Digest.of(tidy.raw, "sha512"))
        if not self.keeps_sha512_manifests:
            with pytest.raises(DigestMismatch):
                registry.put_manifest(repository, manifest)
            return
        registry.put_manifest(repository, manifest)
        assert registry.get_manifest(repository, manifest.digest) == manifest

    def test_a_tag_moves(self, registry: Registry, repository: str) -> None:
        first = image(registry, repository, "first", tag="latest")
        second = image(registry, repository, "second", tag="latest")
        assert registry.resolve(repository, "latest").digest == second.digest
        assert registry.get_manifest(repository, first.digest) == first
        assert list(registry.tags(repository)) == ["latest"]

    def test_many_tags_on_one_manifest_in_order(self, registry: Registry, repository: str) -> None:
        manifest = image(registry, repository, "many")
        tags = [f"t{number}" for number in range(12)]
        for tag in reversed(tags):
            registry.put_manifest(repository, manifest, tag=tag)
        assert sorted(registry.tags(repository)) == sorted(tags)
        assert {registry.resolve(repository, tag).digest for tag in tags} == {manifest.digest}

    def test_tags_pushed_at_once_are_all_there(self, registry: Registry, repository: str) -> None:
        manifest = image(registry, repository, "parallel")
        tags = {f"p{number}" for number in range(16)}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda tag: registry.put_manifest(repository, manifest, tag=tag), sorted(tags)))
        assert set(registry.tags(repository)) == tags

    def test_an_index_with_children(self, registry: Registry, repository: str) -> None:
        children = [image(registry, repository, f"platform {number}") for number in range(2)]
        index = manifest_bytes(
            Index(
                schema_version=2,
                media_type=media_types.OCI_INDEX,
                manifests=tuple(child.descriptor for child in children),
            )
        )
        registry.put_manifest(repository, index, tag="multi")
        assert registry.resolve(repository, "multi").media_type == media_types.OCI_INDEX
        assert registry.get_manifest(repository, "multi") == index
        for child in children:
            assert registry.get_manifest(repository, child.digest) == child

    def test_unknown_manifests(self, registry: Registry, repository: str) -> None:
        image(registry, repository, "there", tag="v1")
        for place, reference in [
            (repository, "v9"),
            (repository, Digest.of(b"never pushed")),
            (f"{repository}-none", "v1"),
        ]:
            with pytest.raises(NotFound):
                registry.resolve(place, reference)
            with pytest.raises(NotFound):
                registry.get_manifest(place, reference)

    def test_tags_of_an_unknown_repository(self, registry: Registry, repository: str) -> None:
        with pytest.raises(NotFound):
            list(registry.tags(f"{repository}-none"))

    def test_a_manifest_that_is_too_large_is_refused(self, registry: Registry, repository: str) -> None:
        raw = image(registry, repository, "large").raw
        raw += b" " * (MAX_MANIFEST_BYTES + 1 - len(raw))
        with pytest.raises((ManifestTooLarge, Refused)):
            registry.put_manifest(repository, ManifestBytes(raw, media_types.OCI_MANIFEST, Digest.of(raw)), tag="big")
        with pytest.raises(NotFound):
            registry.resolve(repository, "big")

    def test_a_manifest_that_is_none_is_refused(self, registry: Registry, repository: str) -> None:
        raw = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":"no"}'
        with pytest.raises((ContentError, Refused)):
            registry.put_manifest(repository, ManifestBytes(raw, media_types.OCI_MANIFEST, Digest.of(raw)), tag="bad")
        with pytest.raises(NotFound):
            registry.resolve(repository, "bad")

    def test_a_deleted_manifest_takes_its_tags(self, registry: Registry, repository: str) -> None:
        manifest = image(registry, repository, "leaving", tag="v1")
        registry.put_manifest(repository, manifest, tag="v1.0")
        stays = image(registry, repository, "staying", tag="v2")
        registry.delete_manifest(repository, manifest.digest)
        for reference in ("v1", "v1.0", manifest.digest):
            with pytest.raises(NotFound):
                registry.resolve(repository, reference)
        assert registry.resolve(repository, "v2").digest == stays.digest
        with pytest.raises(NotFound):
            registry.delete_manifest(repository, manifest.digest)

    def test_a_deleted_tag_leaves_its_manifest(self, registry: Registry, repository: str) -> None:
        manifest = image(registry, repository, "kept", tag="gone")
        if not self.deletes_tags:
            with pytest.raises(Unsupported):
                registry.delete_tag(repository, "gone")
            return
        registry.put_manifest(repository, manifest, tag="stays")
        registry.delete_tag(repository, "gone")
        assert list(registry.tags(repository)) == ["stays"]
        if not self.deletes_last_tag:
            with pytest.raises(Unsupported):
                registry.delete_tag(repository, "stays")
            assert registry.get_manifest(repository, manifest.digest) == manifest
            return
        registry.delete_tag(repository, "stays")
        assert registry.get_manifest(repository, manifest.digest) == manifest
        with pytest.raises(NotFound):
            registry.delete_tag(repository, "gone")

    def test_repositories_are_listed(self, registry: Registry, repository: str) -> None:
        image(registry, repository, "one", tag="v1")
        image(registry, f"{repository}/below", "two", tag="v1")
        assert {repository, f"{repository}/below"} <= set(registry.repositories())

    # Referrers

    def test_no_referrers_is_an_empty_list(self, registry: Registry, repository: str) -> None:
        manifest = image(registry, repository, "alone", tag="v1")
        assert registry.referrers(repository, manifest.digest) == []
        assert registry.referrers(repository, Digest.of(b"never pushed")) == []

    def test_referrers_with_kind_and_annotations(self, registry: Registry, repository: str) -> None:
        subject = image(registry, repository, "subject", tag="v1").descriptor
        first = note(registry, repository, subject, "first")
        second = note(registry, repository, subject, "second", OTHER_KIND)
        referrers = {entry.digest: entry for entry in registry.referrers(repository, subject.digest)}
        assert set(referrers) == {first.digest, second.digest}
        assert referrers[first.digest].artifact_type == KIND
        assert referrers[first.digest].annotations == {"text": "first"}
        assert referrers[first.digest].size == len(first.raw)
        only = registry.referrers(repository, subject.digest, artifact_type=OTHER_KIND)
        assert [entry.digest for entry in only] == [second.digest]

    def test_pushing_a_referrer_again_lists_it_once(self, registry: Registry, repository: str) -> None:
        subject = image(registry, repository, "subject", tag="v1").descriptor
        first = note(registry, repository, subject, "same")
        registry.put_manifest(repository, first)
        assert [entry.digest for entry in registry.referrers(repository, subject.digest)] == [first.digest]

    def test_a_referrer_may_come_before_its_subject(self, registry: Registry, repository: str) -> None:
        planned = image(registry, f"{repository}-elsewhere", "late")
        early = note(registry, repository, planned.descriptor, "early")
        image(registry, repository, "late", tag="v1")
        assert [entry.digest for entry in registry.referrers(repository, planned.digest)] == [early.digest]

    def test_referrers_of_referrers(self, registry: Registry, repository: str) -> None:
        subject = image(registry, repository, "subject", tag="v1").descriptor
        first = note(registry, repository, subject, "first")
        second = note(registry, repository, first.descriptor, "about the first")
        assert [entry.digest for entry in registry.referrers(repository, first.digest)] == [second.digest]

    def test_a_deleted_referrer_is_not_listed(self, registry: Registry, repository: str) -> None:
        subject = image(registry, repository, "subject", tag="v1").descriptor
        first = note(registry, repository, subject, "first")
        second = note(registry, repository, subject, "second")
        registry.delete_manifest(repository, first.digest)
        assert [entry.digest for entry in registry.referrers(repository, subject.digest)] == [second.digest]

    # Capabilities

    def test_capabilities_agree_with_behaviour(self, registry: Registry, repository: str) -> None:
        descriptor = upload(registry, repository, b"probe me")
        image(registry, repository, "probe", tag="v1")
        capabilities = registry.capabilities(repository)
        assert capabilities.mount in (
            None,
            registry.mount_blob(f"{repository}-mount", descriptor.digest, source=repository),
        )
        assert capabilities.range_reads in (None, True)


__all__ = ["KIND", "OTHER_KIND", "RegistryContract", "blob_of", "image", "note", "read", "upload"]
