"""What our client relies on at ECR: on the double always, and on the real one where somebody says which
(``RP_LIVE_AWS``, docs/ecr.md). What the documents do not say outright, the double only assumes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.errors import NotFound, RegistryError, Unsupported
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, artifact_manifest, manifest_bytes
from registry_pipelines.registry.ecr.registry import EcrRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.doubles.aws.ecr import EcrDouble
from tests.needs import live, needed_module
from tests.registry.contract import read, upload

PART_BYTES = 5 * 1024 * 1024
"""The least that ECR takes of a part that is not the last."""


@pytest.fixture(params=["double", "real"])
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A repository with mutable tags that nobody else uses meanwhile. Of the real one all goes that was made."""
    needed_module("boto3", "aws")
    if request.param == "double":
        with EmbeddedServer(tmp_path / "behind") as server, EcrDouble(server.address) as double:
            for name, value in double.environment.items():
                monkeypatch.setenv(name, value)
            proxies = {"HTTP_PROXY": f"http://{double.proxy_address}"}
            host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
            place = Place(EcrRegistry(host, plain_http=True, environ=proxies), "team/app")
            upload(place.registry, place.repository, b"first")
            yield place
            place.registry.close()
        return
    account, region, repository = live("RP_LIVE_AWS").split("/", 2)
    place = Place(EcrRegistry(f"{account}.dkr.ecr.{region}.amazonaws.com"), repository)
    before = digests(place)
    yield place
    for _ in range(3):  # indexes and subjects first: what they name goes after them
        if made := digests(place) - before:
            registry(place).images.delete(repository, sorted(made))
    place.registry.close()


def registry(place: Place) -> EcrRegistry:
    assert isinstance(place.registry, EcrRegistry)
    return place.registry


def digests(place: Place) -> set[str]:
    return {each.digest for each in registry(place).images.list_images(place.repository)}


def push(place: Place, *, tag: str = "") -> Descriptor:
    """An image that nobody pushed before."""
    config = upload(place.registry, place.repository, b"{}", media_type=media_types.OCI_CONFIG)
    layer = upload(place.registry, place.repository, uuid.uuid4().bytes, media_type=media_types.OCI_LAYER)
    made = manifest_bytes(
        Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=(layer,))
    )
    place.registry.put_manifest(place.repository, made, tag=tag)
    return made.descriptor


def name() -> str:
    return f"live-{uuid.uuid4().hex[:12]}"


def test_an_index_protects_its_images_and_the_last_tag_takes_the_image_with_it(there: Place) -> None:
    tag, child = name(), push(there)
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=(child,)))
    there.registry.put_manifest(there.repository, index, tag=tag)
    images = registry(there).images
    found = images.find_image(there.repository, str(child.digest))
    assert found.size > 0 and found.status == "ACTIVE" and found.tags == ()
    assert images.find_image(there.repository, tag).digest == str(index.digest)
    [failure] = images.delete(there.repository, [str(child.digest)])
    assert failure.code == "ImageReferencedByManifestList"
    with pytest.raises(Unsupported):
        there.registry.delete_tag(there.repository, tag)
    assert not images.delete(there.repository, [str(index.digest)])
    assert not images.delete(there.repository, [str(child.digest)])
    with pytest.raises(NotFound):
        there.registry.resolve(there.repository, tag)


def test_parts_follow_each_other_the_last_may_be_small_and_ranges_are_read(there: Place) -> None:
    content = uuid.uuid4().bytes * (PART_BYTES // 16) + b"rest"
    client = registry(there)
    session = client.begin_upload(there.repository)
    client.append_upload(session, memoryview(content)[:PART_BYTES])
    assert client.upload_offset(session) == PART_BYTES
    client.append_upload(session, memoryview(content)[PART_BYTES:])
    digest = Digest.of(content)
    client.commit_upload(session, digest)
    assert client.blob_sizes(there.repository, [digest, Digest.of(b"never")]) == {digest: len(content)}
    assert read(client, there.repository, digest, start=PART_BYTES - 2, stop=PART_BYTES + 2) == content[-6:-2]


def test_referrers_come_by_the_api(there: Place) -> None:
    subject = push(there, tag=name())
    empty = upload(there.registry, there.repository, b"{}", media_type=media_types.OCI_EMPTY)
    note = artifact_manifest(artifact_type="application/vnd.example.note", layers=(empty,), subject=subject)
    there.registry.put_manifest(there.repository, note)
    assert [each.digest for each in there.registry.referrers(there.repository, subject.digest)] == [note.digest]
    assert registry(there).images.find_image(there.repository, str(note.digest)).subject == str(subject.digest)


def test_an_image_whose_layer_is_missing_is_refused(there: Place) -> None:
    config = upload(there.registry, there.repository, b"{}", media_type=media_types.OCI_CONFIG)
    lost = Descriptor(media_type=media_types.OCI_LAYER, digest=Digest.of(uuid.uuid4().bytes), size=16)
    with pytest.raises(RegistryError):
        there.registry.put_manifest(
            there.repository,
            manifest_bytes(
                Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=(lost,))
            ),
            tag=name(),
        )


def test_many_manifests_are_one_question_and_the_account_says_whether_it_mounts(there: Place) -> None:
    pushed = push(there)
    assert registry(there).manifests_there(there.repository, [pushed.digest, Digest.of(b"never")]) == {pushed.digest}
    assert registry(there).images.mounts() in (True, False)
