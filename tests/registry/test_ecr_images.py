"""Images of ECR's double as AWS's own client sees them, and what ours makes of ECR's rules.

What a test on moto shows about manifests is worth nothing: its digests are not the manifest's, its lists have one page,
a tag that moves deletes the image that had it, and an index is taken without its images.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from registry_pipelines.errors import NotFound, RegistryError
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.retries import NEVER
from registry_pipelines.registry.ecr.registry import EcrRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.verify import compare
from tests.doubles.aws.ecr import ApiError, EcrDouble

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
NAME = "team/app"


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EcrDouble]:
    with EmbeddedServer(tmp_path / "behind") as server, EcrDouble(server.address) as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


@pytest.fixture
def aws(double: EcrDouble) -> Any:
    """AWS's own client."""
    return boto3.client("ecr", region_name="eu-west-1")


@pytest.fixture
def there(double: EcrDouble) -> Iterator[Place]:
    proxies = {"HTTP_PROXY": f"http://{double.proxy_address}"}
    registry = EcrRegistry(HOST, plain_http=True, retries=NEVER, environ=proxies)
    yield Place(registry, NAME)
    registry.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with EmbeddedServer(tmp_path / "source") as server:
        registry = DistributionRegistry(server.address)
        yield Place(registry, "app")
        registry.close()


def image(place: Place, text: str, *, tag: str = "") -> ManifestBytes:
    """Images that differ in their config only."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "name": text}).encode()
    made = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, config, media_type=media_types.OCI_CONFIG),
            layers=(push_blob(place, b"one layer for all", media_type=media_types.OCI_LAYER),),
        )
    )
    place.registry.put_manifest(place.repository, made, tag=tag)
    return made


def index_of(*children: ManifestBytes) -> ManifestBytes:
    entries = tuple(
        Descriptor(
            media_type=child.media_type,
            digest=child.digest,
            size=len(child.raw),
            platform=Platform(os="linux", architecture=f"arch{at}"),
        )
        for at, child in enumerate(children)
    )
    return manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=entries))


def listed(aws: Any, **options: Any) -> set[tuple[str, str]]:
    """Digest and tag of all images, by pages."""
    pages = aws.get_paginator("list_images").paginate(repositoryName=NAME, **options)
    return {(one["imageDigest"], one.get("imageTag", "")) for page in pages for one in page["imageIds"]}


def refusal(act: Any, **values: Any) -> str:
    with pytest.raises(ClientError) as caught:
        act(**values)
    return str(caught.value.response["Error"]["Code"])


def test_a_copy_is_listed_by_aws_under_the_digests_it_has_at_its_source(here: Place, there: Place, aws: Any) -> None:
    """Children first, or ECR would have refused the index."""
    children = [image(here, text) for text in ("one", "two")]
    index = index_of(*children)
    here.registry.put_manifest(here.repository, index, tag="v1")
    copy_closure(here, "v1", [there])
    assert listed(aws) == {(index.digest, "v1"), *((child.digest, "") for child in children)}
    [got] = aws.batch_get_image(repositoryName=NAME, imageIds=[{"imageTag": "v1"}])["images"]
    assert got["imageManifest"].encode() == index.raw
    assert Digest.of(got["imageManifest"].encode()) == got["imageId"]["imageDigest"] == index.digest
    assert compare(here, there, "v1", content=True) == []


def test_an_index_without_its_images_is_refused_through_both_doors(there: Place, aws: Any) -> None:
    children = [image(there, text) for text in ("one", "two")]
    orphan = index_of(children[0], ManifestBytes(b"{}", media_types.OCI_MANIFEST, Digest.of(b"{}")))
    with pytest.raises(RegistryError, match="required for pushing image"):
        there.registry.put_manifest(NAME, orphan, tag="v1")
    put = {"repositoryName": NAME, "imageManifest": orphan.raw.decode(), "imageManifestMediaType": orphan.media_type}
    assert refusal(aws.put_image, **put) == "ReferencedImagesNotFoundException"
    whole = index_of(*children)
    there.registry.put_manifest(NAME, whole, tag="v1")
    assert (whole.digest, "v1") in listed(aws)


def test_a_tag_that_moves_leaves_the_old_image_untagged(there: Place, aws: Any) -> None:
    old, new = image(there, "old", tag="v1"), image(there, "new", tag="v1")
    assert old.digest != new.digest
    assert listed(aws) == {(old.digest, ""), (new.digest, "v1")}
    assert listed(aws, filter={"tagStatus": "UNTAGGED"}) == {(old.digest, "")}
    assert there.registry.get_manifest(NAME, old.digest).raw == old.raw
    [got] = aws.batch_get_image(repositoryName=NAME, imageIds=[{"imageDigest": old.digest}])["images"]
    assert got["imageManifest"].encode() == old.raw


def test_what_an_index_needs_cannot_be_deleted_before_it(there: Place, aws: Any) -> None:
    child = image(there, "child", tag="child")
    index = index_of(child)
    there.registry.put_manifest(NAME, index, tag="v1")
    for asked in ({"imageDigest": child.digest}, {"imageTag": "child"}):
        answer = aws.batch_delete_image(repositoryName=NAME, imageIds=[asked])
        assert [one["failureCode"] for one in answer["failures"]] == ["ImageReferencedByManifestList"]
    with pytest.raises(RegistryError, match="referenced by a manifest list"):
        there.registry.delete_manifest(NAME, child.digest)
    assert (child.digest, "child") in listed(aws)
    there.registry.delete_manifest(NAME, index.digest)
    assert aws.batch_delete_image(repositoryName=NAME, imageIds=[{"imageTag": "child"}])["failures"] == []
    assert listed(aws) == set()
    assert list(there.registry.tags(NAME)) == []


def test_lists_come_in_pages(there: Place, aws: Any) -> None:
    made = {image(there, str(at), tag=f"v{at}").digest for at in range(7)}
    first = aws.describe_images(repositoryName=NAME, maxResults=3)
    assert len(first["imageDetails"]) == 3 and first["nextToken"]
    pages = list(aws.get_paginator("describe_images").paginate(repositoryName=NAME, PaginationConfig={"PageSize": 3}))
    assert [len(page["imageDetails"]) for page in pages] == [3, 3, 1]
    details = [one for page in pages for one in page["imageDetails"]]
    assert {one["imageDigest"] for one in details} == made
    assert all(one["imageManifestMediaType"] == media_types.OCI_MANIFEST for one in details)
    assert len(listed(aws, PaginationConfig={"PageSize": 2})) == 7
    for number in range(2):
        aws.create_repository(repositoryName=f"team/more{number}")
    names = aws.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 1})
    assert [one["repositoryName"] for page in names for one in page["repositories"]] == [
        NAME, "team/more0", "team/more1",
    ]  # fmt: skip
    assert refusal(aws.list_images, repositoryName=NAME, nextToken="2") == "InvalidParameterException"
    other = aws.describe_images(repositoryName=NAME, maxResults=3)["nextToken"]
    assert refusal(aws.list_images, repositoryName=NAME, nextToken=other) == "InvalidParameterException"


def test_an_immutable_tag_stays(here: Place, there: Place, aws: Any) -> None:
    first = image(there, "first", tag="v1")
    aws.put_image_tag_mutability(repositoryName=NAME, imageTagMutability="IMMUTABLE")
    image(here, "second", tag="v1")
    [outcome] = copy_closure(here, "v1", [there]).per_target
    assert [(drift.tag, drift.found) for drift in outcome.drift] == [("v1", first.digest)]
    raw = here.registry.get_manifest(here.repository, "v1").raw.decode()
    assert refusal(aws.put_image, repositoryName=NAME, imageManifest=raw, imageTag="v1") == (
        "ImageTagAlreadyExistsException"
    )
    assert there.registry.resolve(NAME, "v1").digest == first.digest
    same = {"repositoryName": NAME, "imageManifest": first.raw.decode(), "imageTag": "v1"}
    assert refusal(aws.put_image, **same) == "ImageAlreadyExistsException"


def test_a_manifest_under_another_digest_is_refused(there: Place, aws: Any) -> None:
    made = image(there, "one")
    wrong = f"sha256:{'0' * 64}"
    put = {"repositoryName": NAME, "imageManifest": made.raw.decode(), "imageTag": "v1", "imageDigest": wrong}
    assert refusal(aws.put_image, **put) == "ImageDigestDoesNotMatchException"
    assert (made.digest, "v1") not in listed(aws)
    with pytest.raises(RegistryError, match="ECR calculates"):
        there.registry.put_manifest(NAME, ManifestBytes(made.raw, made.media_type, Digest(wrong)))
    aws.put_image(**{**put, "imageDigest": made.digest})
    assert there.registry.resolve(NAME, "v1").digest == made.digest


def test_identifiers_that_name_nothing_are_failures_each_with_its_code(there: Place, aws: Any) -> None:
    one, two = image(there, "one", tag="one"), image(there, "two")
    asked = [
        {"imageTag": "one"}, {"imageTag": "none"}, {"imageDigest": "sha256:12"}, {},
        {"imageTag": "one", "imageDigest": two.digest},
    ]  # fmt: skip
    answer = aws.batch_get_image(repositoryName=NAME, imageIds=asked)
    assert [image["imageId"]["imageDigest"] for image in answer["images"]] == [one.digest]
    assert [failure["failureCode"] for failure in answer["failures"]] == [
        "ImageNotFound", "InvalidImageDigest", "MissingDigestAndTag", "ImageTagDoesNotMatchDigest",
    ]  # fmt: skip
    assert refusal(aws.describe_images, repositoryName=NAME, imageIds=[{"imageTag": "none"}]) == (
        "ImageNotFoundException"
    )
    assert refusal(aws.list_images, repositoryName="team/none") == "RepositoryNotFoundException"


def test_batches_are_bounded(there: Place, aws: Any) -> None:
    digests = [Digest.of(b"%d" % at) for at in range(101)]
    ids = [{"imageDigest": digest} for digest in digests]
    image(there, "one")
    for act, values in (
        (aws.get_authorization_token, {"registryIds": [f"{at:012}" for at in range(11)]}),
        (aws.batch_check_layer_availability, {"repositoryName": NAME, "layerDigests": digests}),
        (aws.batch_get_image, {"repositoryName": NAME, "imageIds": ids}),
        (aws.batch_delete_image, {"repositoryName": NAME, "imageIds": ids}),
        (aws.list_images, {"repositoryName": NAME, "maxResults": 1001}),
    ):
        assert refusal(act, **values) == "InvalidParameterException", act
    assert len(aws.batch_get_image(repositoryName=NAME, imageIds=ids[:100])["failures"]) == 100


def test_a_token_is_valid_in_the_future(aws: Any) -> None:
    [data] = aws.get_authorization_token()["authorizationData"]
    assert data["expiresAt"].timestamp() > time.time() + 11 * 3600


def test_an_archived_image_is_said_to_be_archived(here: Place, there: Place, double: EcrDouble) -> None:
    made = image(there, "old", tag="v1")
    kept = double.here.repositories[NAME].images[made.digest]
    kept.archived = True
    for reference in ("v1", made.digest):
        with pytest.raises(NotFound, match="the image is archived") as caught:
            copy_closure(there, reference, [here])
        assert f"={reference} --target-storage-class STANDARD" in caught.value.do
    kept.archived, kept.activated_at = False, time.time() + 600
    with pytest.raises(NotFound, match="is being restored"):
        there.registry.get_manifest(NAME, "v1")
    kept.activated_at = 0
    copy_closure(there, "v1", [here])
    with pytest.raises(NotFound, match="HTTP 404"):
        copy_closure(there, "nobody", [here])
    double.fail("DescribeImages", ApiError("AccessDeniedException", "no"))
    with pytest.raises(NotFound, match="HTTP 404"):
        copy_closure(there, "nobody", [here])


@pytest.mark.parametrize("template", [True, False])
def test_a_repository_is_made_on_push_only_where_a_template_says_so(
    template: bool, here: Place, there: Place, double: EcrDouble
) -> None:
    image(here, "one", tag="v1")
    if template:
        copy_closure(here, "v1", [there])
        return
    double.here.creates = lambda name: None
    with pytest.raises(NotFound, match=f"repository with name '{NAME}' does not exist") as caught:
        copy_closure(here, "v1", [there])
    assert "creation template" in caught.value.do
