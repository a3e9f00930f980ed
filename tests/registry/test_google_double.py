"""The double of Google's cloud, asked by Google's own clients, by gRPC and by REST."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.registry.client import DistributionRegistry, Retries
from tests.needs import needed_module
from tests.registry.contract import upload

REPOSITORY = "projects/ml-prod/locations/europe-west1/repositories/models"


@pytest.fixture
def google(tmp_path: Path) -> Iterator[Any]:
    needed_module("google.cloud.artifactregistry_v1", "google")
    from tests.doubles.google import GoogleCloud

    with GoogleCloud(tmp_path / "google") as cloud:
        yield cloud


def clients(google: Any, kind: Any, transport: Any) -> dict[str, Any]:
    """Of one kind by door. By REST errors are of the classes of HTTP, by gRPC of narrower ones below them."""
    from google.auth.credentials import AnonymousCredentials

    host = google.endpoint.removeprefix("http://")
    rest = kind.get_transport_class("rest")(host=host, credentials=AnonymousCredentials(), url_scheme="http")
    return {"grpc": kind(transport=transport(channel=google.channel())), "rest": kind(transport=rest)}


@pytest.fixture(params=["grpc", "rest"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def registry_client(google: Any, door: str) -> Any:
    from google.cloud.artifactregistry_v1 import ArtifactRegistryClient
    from google.cloud.artifactregistry_v1.services.artifact_registry.transports.grpc import (
        ArtifactRegistryGrpcTransport,
    )

    return clients(google, ArtifactRegistryClient, ArtifactRegistryGrpcTransport)[door]


@pytest.fixture
def plane(google: Any) -> Any:
    google.repository("ml-prod", "europe-west1", "models")
    return google.registry("europe-west1")


def at(plane: Any, google: Any) -> DistributionRegistry:
    return DistributionRegistry(
        plane.address, username="oauth2accesstoken", password=google.token(), retries=Retries(attempts=1)
    )


def push(registry: DistributionRegistry, repository: str, tag: str, content: bytes = b"layer") -> Any:
    config = upload(registry, repository, b"{}", media_type="application/vnd.oci.image.config.v1+json")
    layer = upload(registry, repository, content, media_type="application/vnd.oci.image.layer.v1.tar")
    manifest = manifest_bytes(Manifest(schema_version=2, config=config, layers=(layer,)))
    registry.put_manifest(repository, manifest, tag=tag)
    return manifest.descriptor


def test_repositories_are_made_changed_and_listed(google: Any, registry_client: Any) -> None:
    from google.api_core import exceptions
    from google.cloud import artifactregistry_v1 as api

    parent = "projects/ml-prod/locations/europe-west1"
    new = api.Repository(format_=api.Repository.Format.DOCKER, labels={"team": "ml"})
    made = registry_client.create_repository(parent=parent, repository=new, repository_id="models").result()
    assert made.name == REPOSITORY and made.mode == api.Repository.Mode.STANDARD_REPOSITORY
    with pytest.raises(exceptions.Conflict):
        registry_client.create_repository(parent=parent, repository=new, repository_id="models")
    with pytest.raises(exceptions.BadRequest, match="repository_id"):
        registry_client.create_repository(parent=parent, repository=new, repository_id="Models")
    changed = api.Repository(name=REPOSITORY, docker_config={"immutable_tags": True}, labels={"owner": "ada"})
    mask = {"paths": ["docker_config.immutable_tags", "labels"]}
    after = registry_client.update_repository(repository=changed, update_mask=mask)
    assert after.docker_config.immutable_tags and dict(after.labels) == {"owner": "ada"}
    with pytest.raises(exceptions.BadRequest, match="cannot be changed"):
        registry_client.update_repository(repository=changed, update_mask={"paths": ["kms_key_name"]})
    wrong = api.CleanupPolicy(id="x", action=api.CleanupPolicy.Action.DELETE, most_recent_versions={"keep_count": 3})
    with pytest.raises(exceptions.BadRequest, match="only with KEEP"):
        registry_client.update_repository(
            repository=api.Repository(name=REPOSITORY, cleanup_policies={"x": wrong}),
            update_mask={"paths": ["cleanup_policies"]},
        )
    assert [each.name for each in registry_client.list_repositories(parent=parent)] == [REPOSITORY]
    registry_client.delete_repository(name=REPOSITORY).result()
    with pytest.raises(exceptions.NotFound):
        registry_client.get_repository(name=REPOSITORY)


def test_what_is_pushed_is_listed_page_by_page_and_deleted_by_the_rules(
    google: Any, plane: Any, registry_client: Any
) -> None:
    from google.api_core import exceptions

    registry = at(plane, google)
    pushed = [push(registry, "ml-prod/models/team/app", f"v{n}", b"layer %d" % n) for n in range(3)]
    pages = list(registry_client.list_docker_images(request={"parent": REPOSITORY, "page_size": 2}).pages)
    assert [len(page.docker_images) for page in pages] == [2, 1]
    images = {image.uri: image for page in pages for image in page.docker_images}
    host = "europe-west1-docker.pkg.dev/ml-prod/models/team/app"
    assert set(images) == {f"{host}@{each.digest}" for each in pushed}
    first = images[f"{host}@{pushed[0].digest}"]
    assert first.tags == ["v0"] and first.image_size_bytes == len(b"{}") + len(b"layer 0")
    package = f"{REPOSITORY}/packages/team%2Fapp"
    assert [each.name for each in registry_client.list_packages(parent=REPOSITORY)] == [package]
    assert [each.name for each in registry_client.list_tags(parent=package, timeout=9)] == [
        f"{package}/tags/v{n}" for n in range(3)
    ]
    name = f"{package}/versions/{pushed[0].digest}"
    with pytest.raises(exceptions.GoogleAPICallError, match="tagged"):
        registry_client.delete_version(name=name)
    other = f"{package}/versions/{pushed[1].digest}"
    registry_client.delete_tag(name=f"{package}/tags/v1")
    tried = registry_client.batch_delete_versions(request={"parent": package, "names": [name, other]})
    with pytest.raises(exceptions.GoogleAPICallError, match="tagged"):
        tried.result()
    assert list(tried.metadata.failed_versions) == [name]
    registry_client.delete_version(request={"name": name, "force": True}).result()
    assert list(registry.tags("ml-prod/models/team/app")) == ["v2"]


def test_requests_that_the_clients_types_do_not_allow_are_refused(google: Any, registry_client: Any) -> None:
    from google.api_core import exceptions

    google.repository("ml-prod", "europe-west1", "models")
    for request, words in (
        ({"parent": REPOSITORY, "page_size": -1}, "page_size"),
        ({"parent": REPOSITORY, "page_token": "made up"}, "page_token"),
        ({"parent": REPOSITORY, "order_by": "size"}, "order_by"),
    ):
        with pytest.raises(exceptions.BadRequest, match=words):
            list(registry_client.list_docker_images(request=request))
    with pytest.raises((exceptions.BadRequest, ValueError)):
        list(registry_client.list_docker_images(request={"parent": "europe-west1/models"}))


def test_a_permission_that_is_missing_is_named(google: Any, registry_client: Any) -> None:
    from google.api_core import exceptions

    google.repository("ml-prod", "europe-west1", "models")
    google.world.deny("artifactregistry.dockerimages.list", REPOSITORY)
    with pytest.raises(exceptions.Forbidden, match=r"artifactregistry\.dockerimages\.list") as caught:
        list(registry_client.list_docker_images(parent=REPOSITORY))
    assert caught.value.reason == "IAM_PERMISSION_DENIED"


def test_an_operation_takes_its_time(google: Any, registry_client: Any) -> None:
    from google.cloud import artifactregistry_v1 as api

    from tests.doubles.google.services.operations import Operations

    google.world.state(Operations).questions = 2
    new = api.Repository(format_=api.Repository.Format.DOCKER)
    made = registry_client.create_repository(
        parent="projects/ml-prod/locations/us", repository=new, repository_id="models"
    )
    assert not made.done()
    assert made.result(timeout=60).name.endswith("/us/repositories/models")


def test_rest_is_strict(google: Any) -> None:
    import urllib3

    def ask(verb: str, path: str, body: object = None) -> tuple[int, Any]:
        answer = urllib3.request(verb, google.endpoint + path, body=json.dumps(body) if body is not None else None)
        return answer.status, answer.json()

    parent = "/v1/projects/ml-prod/locations/us/repositories"
    assert ask("POST", f"{parent}?repositoryId=a", {"format": "DOCKER", "colour": "red"})[0] == 400
    assert ask("POST", parent, {"format": "DOCKER"})[0] == 400
    assert ask("GET", f"{parent}?colour=red")[0] == 400
    status, document = ask("GET", f"{parent}/none")
    assert (status, document["error"]["status"], document["error"]["code"]) == (404, "NOT_FOUND", 404)


def test_immutable_tags_neither_move_nor_go(google: Any, plane: Any, registry_client: Any) -> None:
    from google.api_core import exceptions

    google.repository("ml-prod", "europe-west1", "fixed", immutable=True)
    registry = at(plane, google)
    name, package = "ml-prod/fixed/app", REPOSITORY.replace("models", "fixed") + "/packages/app"
    first = push(registry, name, "v1")
    push(registry, name, "v1")  # the same again is no change
    from registry_pipelines.errors import RegistryError, TagImmutable

    with pytest.raises(TagImmutable):
        push(registry, name, "v1", b"other")
    with pytest.raises(RegistryError):
        registry.delete_tag(name, "v1")
    for call in (
        lambda: registry_client.delete_tag(name=f"{package}/tags/v1"),
        lambda: registry_client.delete_version(request={"name": f"{package}/versions/{first.digest}", "force": True}),
    ):
        with pytest.raises(exceptions.GoogleAPICallError, match="immutability"):
            call()


def test_the_registry_wants_a_token_of_google_and_its_permission(google: Any, plane: Any) -> None:
    from registry_pipelines.errors import Forbidden, NotFound, Unauthorized

    registry = DistributionRegistry(plane.address, retries=Retries(attempts=1))
    with pytest.raises(Forbidden):
        registry.resolve("ml-prod/models/app", "v1")
    wrong = DistributionRegistry(plane.address, username="oauth2accesstoken", password="x", retries=Retries(attempts=1))
    with pytest.raises(Unauthorized):
        wrong.resolve("ml-prod/models/app", "v1")
    with pytest.raises(NotFound, match="none"):
        push(at(plane, google), "ml-prod/none/app", "v1")
    google.world.deny("artifactregistry.repositories.uploadArtifacts")
    with pytest.raises(Forbidden, match="uploadArtifacts"):
        push(at(plane, google), "ml-prod/models/app", "v1")


def test_messages_of_pushes_and_deletions(google: Any, plane: Any, door: str) -> None:
    from google.pubsub_v1 import PublisherClient, SubscriberClient
    from google.pubsub_v1.services.publisher.transports.grpc import PublisherGrpcTransport
    from google.pubsub_v1.services.subscriber.transports.grpc import SubscriberGrpcTransport

    topic, name = "projects/ml-prod/topics/gcr", "projects/ml-prod/subscriptions/pushes"
    clients(google, PublisherClient, PublisherGrpcTransport)[door].create_topic(name=topic)
    subscriber = clients(google, SubscriberClient, SubscriberGrpcTransport)[door]
    subscriber.create_subscription(request={"name": name, "topic": topic, "ack_deadline_seconds": 10})
    registry = at(plane, google)
    pushed = push(registry, "ml-prod/models/app", "v1")
    registry.delete_tag("ml-prod/models/app", "v1")
    received = subscriber.pull(subscription=name, max_messages=10).received_messages
    image = "europe-west1-docker.pkg.dev/ml-prod/models/app"
    assert [json.loads(each.message.data) for each in received] == [
        {"action": "INSERT", "digest": f"{image}@{pushed.digest}", "tag": f"{image}:v1"},
        {"action": "DELETE", "tag": f"{image}:v1"},
    ]
    subscriber.acknowledge(subscription=name, ack_ids=[received[0].ack_id])
    assert not subscriber.pull(subscription=name, max_messages=10).received_messages, "they are held"
    subscriber.modify_ack_deadline(subscription=name, ack_ids=[received[1].ack_id], ack_deadline_seconds=0)
    assert len(subscriber.pull(subscription=name, max_messages=10).received_messages) == 1


def test_findings_are_filtered_and_attestations_are_checked(google: Any, door: str) -> None:
    from google.api_core import exceptions
    from grafeas.grafeas_v1 import GrafeasClient
    from grafeas.grafeas_v1.services.grafeas.transports.grpc import GrafeasGrpcTransport

    client = clients(google, GrafeasClient, GrafeasGrpcTransport)[door]
    note = client.create_note(parent="projects/ml-prod", note_id="cve", note={"vulnerability": {"severity": "HIGH"}})
    for digest in ("a", "b"):
        client.create_occurrence(
            parent="projects/ml-prod",
            occurrence={
                "note_name": note.name,
                "resource_uri": f"https://eu.example/app@sha256:{digest * 64}",
                "vulnerability": {"effective_severity": "HIGH"},
            },
        )
    wanted = f'resourceUrl="https://eu.example/app@sha256:{"a" * 64}" AND kind="VULNERABILITY"'
    found = list(client.list_occurrences(parent="projects/ml-prod", filter=wanted))
    assert [each.resource_uri[-1] for each in found] == ["a"]
    with pytest.raises(exceptions.BadRequest):
        list(client.list_occurrences(parent="projects/ml-prod", filter="severity > 3"))
    with pytest.raises(exceptions.NotFound):
        client.create_occurrence(
            parent="projects/ml-prod",
            occurrence={"note_name": "projects/ml-prod/notes/none", "resource_uri": "x", "vulnerability": {}},
        )


def test_a_key_signs_digests(google: Any, door: str) -> None:
    import hashlib

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from google.api_core import exceptions
    from google.cloud.kms_v1 import KeyManagementServiceClient
    from google.cloud.kms_v1.services.key_management_service.transports.grpc import KeyManagementServiceGrpcTransport

    from tests.doubles.google.services.kms import add_key

    name = add_key(google.world, "projects/ml-prod/locations/global/keyRings/r/cryptoKeys/k")
    client = clients(google, KeyManagementServiceClient, KeyManagementServiceGrpcTransport)[door]
    public = serialization.load_pem_public_key(client.get_public_key(name=name).pem.encode())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    digest = hashlib.sha256(b"payload").digest()
    made = client.asymmetric_sign(name=name, digest={"sha256": digest})
    public.verify(made.signature, b"payload", ec.ECDSA(hashes.SHA256()))
    for wrong in ({"sha384": b"x" * 48}, {"sha256": b"short"}):
        with pytest.raises(exceptions.BadRequest):
            client.asymmetric_sign(name=name, digest=wrong)


def test_faults_are_played_once_each(google: Any, door: str, registry_client: Any) -> None:
    from google.api_core import exceptions

    from tests.doubles.google import Fault, Refusal

    google.repository("ml-prod", "europe-west1", "models")
    google.world.fail("GetRepository", Refusal("RESOURCE_EXHAUSTED", "Quota exceeded"))
    google.world.fail("GetRepository", Fault(html=502))
    ask: Callable[[], Any] = lambda: registry_client.get_repository(name=REPOSITORY, retry=None)  # noqa: E731
    with pytest.raises(exceptions.TooManyRequests):
        ask()
    with pytest.raises(exceptions.Unknown if door == "grpc" else exceptions.BadGateway):
        ask()
    assert ask().name == REPOSITORY


def test_a_double_that_answers_wrongly_fails_its_test(tmp_path: Path) -> None:
    needed_module("google.cloud.artifactregistry_v1", "google")
    from google.api_core import exceptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.artifactregistry_v1 import ArtifactRegistryClient

    from tests.doubles.google import GoogleCloud

    with pytest.raises(AssertionError, match="the handler answers"), GoogleCloud(tmp_path) as cloud:
        cloud.repository("p", "us", "r")
        held = cloud.images.held["projects/p/locations/us/repositories/r"]
        held.settings = object()  # type: ignore[assignment]
        held.settings = type("Wrong", (), {"size_bytes": 0, "name": ""})()  # type: ignore[assignment]
        client = ArtifactRegistryClient(
            transport="rest",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": cloud.endpoint},
        )
        with pytest.raises(exceptions.GoogleAPICallError):
            client.get_repository(name="projects/p/locations/us/repositories/r", retry=None)
