"""Lists and deletions by Artifact Registry's API, through the one caller, and how it takes what goes wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import (
    Forbidden,
    NotFound,
    RateLimited,
    ReferenceInvalid,
    Refused,
    RegistryError,
    Stalled,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from registry_pipelines.oci.manifests import Index, Platform, manifest_bytes
from registry_pipelines.registry.client import Retries
from registry_pipelines.registry.gar import images
from registry_pipelines.registry.gar.access import GoogleAccess
from registry_pipelines.registry.gar.calls import GoogleCalls
from registry_pipelines.registry.gar.hosts import GarHost, locate, read_host, read_name
from registry_pipelines.registry.gar.registry import GarRegistry
from registry_pipelines.transfer.limits.apis import pace_of
from registry_pipelines.transfer.limits.machine import MachineLimits
from tests.registry.gar.conftest import APP, HOST, QUICK, REPOSITORY
from tests.registry.gar.test_registry import push


def fill(google: Any, count: int) -> None:
    """So many images that were never pushed, as an inventory finds them."""
    from tests.doubles.google.images import Image, Package

    held = google.images.held[REPOSITORY.name]
    for number in range(count):
        name = f"team/app-{number % 10}"
        package = held.packages.setdefault(name, Package(name, datetime.now(UTC), datetime.now(UTC)))
        when = datetime(2026, 1, 1, tzinfo=UTC)
        digest = f"sha256:{number:064x}"
        package.images[digest] = Image(digest, "application/vnd.oci.image.manifest.v1+json", when, when, size=number)
        package.set_tag(f"v{number}", digest, when)


def test_every_field_of_an_image(calls: GoogleCalls, registry: GarRegistry) -> None:
    child = push(registry, APP, "")
    platform = Platform(os="linux", architecture="arm64", variant="v8")
    described = msgspec.structs.replace(child, platform=platform)
    registry.put_manifest(APP, manifest_bytes(Index(schema_version=2, manifests=(described,))), tag="v1")
    found = {image.tags: image for image in images.list_images(calls, REPOSITORY)}
    index, leaf = found[("v1",)], found[()]
    assert (leaf.name, leaf.digest, leaf.size) == ("team/app", str(child.digest), len(b"{}") + len(b"layer"))
    assert leaf.uri == f"{HOST}/{APP}@{child.digest}"
    assert leaf.pulled is None and leaf.built is None and leaf.uploaded and leaf.uploaded.tzinfo is UTC
    assert index.platforms == (images.GarPlatform(str(child.digest), "linux", "arm64", "v8"),)
    assert images.get_image(calls, REPOSITORY, "team/app", child.digest) == leaf
    assert [each.name for each in images.list_images(calls, REPOSITORY.name)] == ["team/app", "team/app"]


def test_long_lists_come_by_the_thousand_and_survive_what_fails_in_between(calls: GoogleCalls, google: Any) -> None:
    from tests.doubles.google import Fault, Refusal

    fill(google, 2500)
    google.world.fail("ListDockerImages", Fault(html=502))
    google.world.fail("ListDockerImages", Refusal("UNAVAILABLE", "try later"))
    found = list(images.list_images(calls, REPOSITORY))
    assert len({image.digest for image in found}) == 2500
    assert google.world.calls["ListDockerImages"] == 3 + 2 == calls.sent.value
    assert sorted(images.list_packages(calls, REPOSITORY)) == [f"team/app-{number}" for number in range(10)]
    assert len(list(images.list_versions(calls, REPOSITORY, "team/app-3"))) == 250
    tags = {each.tag: each.digest for each in images.list_tags(calls, REPOSITORY, "team/app-3")}
    assert tags["v13"] == f"sha256:{13:064x}"


def test_a_list_that_leads_in_a_circle_ends(calls: GoogleCalls) -> None:
    class Circle:
        def __init__(self) -> None:
            self.items, self.next_page_token = [1], "again"

        @property
        def pages(self) -> list[Circle]:
            return [self]

    with pytest.raises(RegistryError, match="names itself"):
        list(calls.pages(lambda **_: Circle(), {}, "items", where="here", doing="listing"))


def test_an_answer_that_was_lost_is_settled(calls: GoogleCalls, registry: GarRegistry, google: Any) -> None:
    from tests.doubles.google import Fault, Refusal

    pushed = push(registry, APP, "v1")
    for method in ("DeleteTag", "DeleteVersion"):
        google.world.fail(method, Fault(Refusal("UNAVAILABLE", "the answer was lost"), after=True))
    images.delete_tag(calls, REPOSITORY, "team/app", "v1")
    images.delete_version(calls, REPOSITORY, "team/app", pushed.digest)
    with pytest.raises(NotFound):
        images.delete_version(calls, REPOSITORY, "team/app", pushed.digest)


def test_an_operation_that_does_not_end(calls: GoogleCalls, registry: GarRegistry, google: Any) -> None:
    from tests.doubles.google.services.operations import Operations

    pushed = push(registry, APP, "")
    google.world.state(Operations).questions = 10**6
    from google.cloud.artifactregistry_v1 import ArtifactRegistryClient

    client = calls.client(ArtifactRegistryClient)
    operation = client.delete_version(name=f"{REPOSITORY.package('team/app')}/versions/{pushed.digest}")
    with pytest.raises(Stalled, match="goes on at Google"):
        calls.finished(operation, client, where="here", doing="deleting", limit_s=0.0)


REFUSALS = [
    ("RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Requests'", "RATE_LIMIT_EXCEEDED", RateLimited, "quota"),
    ("PERMISSION_DENIED", "Artifact Registry API has not been used", "SERVICE_DISABLED", Forbidden, "services enable"),
    ("PERMISSION_DENIED", "Project not found", "CONSUMER_INVALID", Forbidden, "`project`"),
    ("PERMISSION_DENIED", "Request is prohibited", "SECURITY_POLICY_VIOLATED", Forbidden, "VPC Service Controls"),
    ("UNAUTHENTICATED", "invalid credentials", "ACCESS_TOKEN_EXPIRED", Unauthorized, "gcloud auth"),
    ("NOT_FOUND", "Repository not found", "", NotFound, "repositories create"),
    ("INVALID_ARGUMENT", "bad", "", Refused, "bad"),
    ("ABORTED", "concurrent", "", Unavailable, "later"),
    ("UNIMPLEMENTED", "no", "", Unsupported, "no"),
]


@pytest.mark.parametrize(
    ("code", "words", "reason", "kind", "said"), REFUSALS, ids=[each[2] or each[0] for each in REFUSALS]
)
@pytest.mark.parametrize("door", ["rest", "grpc"])
def test_refusals_are_translated(
    google: Any, calls: GoogleCalls, door: str, code: str, words: str, reason: str, kind: type, said: str
) -> None:
    from google.cloud.artifactregistry_v1 import ArtifactRegistryClient
    from google.cloud.artifactregistry_v1.services.artifact_registry.transports.grpc import (
        ArtifactRegistryGrpcTransport,
    )

    from tests.doubles.google import Fault, Refusal

    google.world.fail("GetRepository", Fault(Refusal(code, words, reason=reason), times=3))
    client = calls.client(ArtifactRegistryClient)
    if door == "grpc":
        client = ArtifactRegistryClient(transport=ArtifactRegistryGrpcTransport(channel=google.channel()))
    with pytest.raises(kind, match=re.escape(said)) as caught:
        calls.call(client.get_repository, {"name": REPOSITORY.name}, where="here", doing="asking")
    assert type(caught.value) is kind
    assert google.world.calls["GetRepository"] == (3 if caught.value.temporary else 1)


def test_how_long_to_wait_is_read_from_the_answer(google: Any, access: GoogleAccess) -> None:
    from tests.doubles.google import Fault

    waits: list[float] = []
    calls = GoogleCalls(access, retries=Retries(attempts=2, sleep=waits.append))
    google.world.fail("GetRepository", Fault(html=503, retry_after_s=7))
    assert images.get_repository(calls, REPOSITORY).name == REPOSITORY.name
    assert 7 <= waits[0] < 8


def test_calls_keep_within_the_registrys_limits(google: Any, access: GoogleAccess) -> None:
    from tests.doubles.google import Fault

    limits = MachineLimits()
    calls = GoogleCalls(access, retries=QUICK, pace=pace_of(limits, HOST))
    google.world.fail("GetRepository", Fault(html=503, retry_after_s=0.01))
    before = limits.window(HOST, "read-manifest").size
    images.get_repository(calls, REPOSITORY)
    assert limits.window(HOST, "read-manifest").size < before
    assert limits.window(HOST, "write-manifest").per_second == 150


@pytest.mark.parametrize(
    ("host", "repository", "expected"),
    [
        ("europe-west1-docker.pkg.dev", "ml-prod/models/team/app", ("ml-prod", "europe-west1", "models", "team/app")),
        ("us-docker.pkg.dev", "example.com/ml/models/app", ("example.com:ml", "us", "models", "app")),
        ("gcr.io", "ml-prod/app", ("ml-prod", "us", "gcr.io", "app")),
        ("eu.gcr.io", "ml-prod/team/app", ("ml-prod", "europe", "eu.gcr.io", "team/app")),
    ],
)
def test_names_of_both_kinds_of_host(host: str, repository: str, expected: tuple[str, str, str, str]) -> None:
    known = read_host(host)
    assert known is not None
    found, image = locate(known, repository)
    assert (found.project, found.location, found.repository, image) == expected
    assert found.host(image) == (host, repository)


@pytest.mark.parametrize(
    "host", ["docker.pkg.dev", "eu-docker.pkg.dev.example", "xgcr.io", "gcr.io.example", "", "a-b-docker.pkg.dev"]
)
def test_other_hosts_are_none_of_googles(host: str) -> None:
    assert read_host(host) is None


PART = st.text("ab-9", min_size=1, max_size=8)


@given(PART, PART, st.lists(PART, min_size=1, max_size=4))
def test_a_name_and_its_resource_read_back(project: str, repository: str, parts: list[str]) -> None:
    from registry_pipelines.registry.gar.hosts import package_name

    found, image = locate(GarHost("us"), "/".join([project, repository, *parts]))
    assert read_name(found.name) == found
    assert package_name(f"{found.package(image)}/versions/sha256:00") == image == "/".join(parts)


@given(st.text(max_size=60))
def test_what_is_no_name_is_refused(text: str) -> None:
    for read in (lambda: read_name(text), lambda: locate(GarHost("us"), text)):
        try:
            found = read()
        except ReferenceInvalid:
            continue
        assert found


def test_the_smallest_role_is_named() -> None:
    from registry_pipelines.registry.permissions import role_with

    assert role_with("artifactregistry.repositories.downloadArtifacts") == "roles/artifactregistry.reader"
    assert role_with("artifactregistry.versions.delete") == "roles/artifactregistry.repoAdmin"
    assert role_with("nobody.has.this") == ""
