"""GarRegistry against the double: content by the distribution protocol, the rest by Artifact Registry's API."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.errors import (
    Forbidden,
    InputError,
    NotFound,
    RateLimited,
    Refused,
    TagImmutable,
    ToolMissing,
    Unavailable,
    Unsupported,
)
from registry_pipelines.evidence.keys import generate_key, load_signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, manifest_bytes
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.gar.access import GoogleAccess
from registry_pipelines.registry.gar.registry import MAX_REQUEST_BYTES, GarRegistry
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.remote import cloud_registry, remote_registry
from registry_pipelines.sign.cosign import sign_image
from tests.registry.contract import RegistryContract, upload
from tests.registry.gar.conftest import APP, HOST, QUICK


def push(registry: Registry, repository: str, tag: str, content: bytes = b"layer") -> Descriptor:
    config = upload(registry, repository, b"{}", media_type="application/vnd.oci.image.config.v1+json")
    layer = upload(registry, repository, content, media_type="application/vnd.oci.image.layer.v1.tar")
    manifest = manifest_bytes(Manifest(schema_version=2, config=config, layers=(layer,)))
    registry.put_manifest(repository, manifest, tag=tag)
    return manifest.descriptor


def test_a_push_a_pull_and_what_the_api_says_of_it(registry: GarRegistry, google: Any) -> None:
    pushed = push(registry, APP, "v1")
    assert registry.resolve(APP, "v1").digest == pushed.digest
    assert list(registry.tags(APP)) == ["v1"]
    assert list(registry.repositories()) == [APP]
    assert registry.capabilities(APP).chunked_upload is False


def test_deletions_go_by_the_api_and_say_why_not(registry: GarRegistry) -> None:
    child = push(registry, APP, "")
    index = manifest_bytes(Index(schema_version=2, manifests=(child,)))
    registry.put_manifest(APP, index, tag="v1")
    with pytest.raises(Refused, match="still referenced"):
        registry.delete_manifest(APP, child.digest)
    registry.put_manifest(APP, index, tag="v2")
    registry.delete_tag(APP, "v1")
    assert list(registry.tags(APP)) == ["v2"]
    with pytest.raises(NotFound):
        registry.delete_tag(APP, "v1")
    registry.delete_manifest(APP, index.digest)  # with its tag
    registry.delete_manifest(APP, child.digest)
    with pytest.raises(NotFound):
        registry.resolve(APP, "v2")
    with pytest.raises(Unsupported, match="by itself"):
        registry.delete_blob(APP, child.digest)


def test_immutable_tags(registry: GarRegistry, google: Any) -> None:
    google.repository("ml-prod", "europe-west1", "fixed", immutable=True)
    name = "ml-prod/fixed/app"
    pushed = push(registry, name, "v1")
    for refused in (
        lambda: push(registry, name, "v1", b"other"),
        lambda: registry.delete_tag(name, "v1"),
        lambda: registry.delete_manifest(name, pushed.digest),
    ):
        with pytest.raises(TagImmutable):
            refused()


def test_a_layer_that_no_request_can_hold_is_refused_before_it_is_read(registry: GarRegistry, plane: Any) -> None:
    class Never:
        def readinto(self, buffer: memoryview) -> int:
            raise AssertionError("it was read")

    big = Descriptor(media_type="application/octet-stream", digest=Digest.of(b""), size=MAX_REQUEST_BYTES + 1)
    with pytest.raises(Refused, match="one request"):
        registry.upload_blob(APP, big, Never())
    assert not plane.taken


def test_mounts_are_taken_as_done_or_as_uploads(registry: GarRegistry, plane: Any) -> None:
    pushed = push(registry, APP, "v1")
    layer = registry.get_manifest(APP, "v1").content()
    assert isinstance(layer, Manifest) and pushed
    assert registry.mount_blob("ml-prod/models/other", layer.layers[0].digest, source=APP)
    assert not registry.mount_blob("ml-prod/models/other", Digest.of(b"nowhere"), source=APP)


def test_referrers_come_by_the_api_and_the_servers_own_tags_are_known(registry: GarRegistry, tmp_path: Path) -> None:
    pushed = push(registry, APP, "v1")
    private = generate_key(tmp_path / "key").private
    sign_image(Place(registry, APP), pushed, load_signer(private), identity="app")
    assert [each.artifact_type for each in registry.referrers(APP, pushed.digest)]
    tags = list(registry.tags(APP))
    assert any(tag.startswith(f"sha256-{pushed.digest.hex}") for tag in tags)


def test_refusals_name_the_role(registry: GarRegistry, google: Any) -> None:
    google.world.deny("artifactregistry.repositories.uploadArtifacts")
    with pytest.raises(Forbidden, match=r"roles/artifactregistry\.writer"):
        push(registry, APP, "v1")
    google.world.denied.clear()
    push(registry, APP, "v1")
    google.world.deny("artifactregistry.tags.delete")
    with pytest.raises(Forbidden, match=r"roles/artifactregistry\.repoAdmin"):
        registry.delete_tag(APP, "v1")


@pytest.mark.parametrize("status", [500, 502, 429])
def test_pages_of_html_and_throttling_are_tried_again(
    registry: GarRegistry, google: Any, plane: Any, status: int
) -> None:
    from tests.doubles.google import Fault, Refusal

    push(registry, APP, "v1")
    fault = Fault(Refusal("RESOURCE_EXHAUSTED", "Quota exceeded"), retry_after_s=0.01) if status == 429 else None
    google.world.fail("data:GET tags", fault or Fault(html=status))
    assert list(registry.tags(APP)) == ["v1"]
    google.world.fail("data:GET tags", Fault(html=status, times=9))
    with pytest.raises(RateLimited if status == 429 else Unavailable) as caught:
        list(registry.tags(APP))
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("project", ["other-prod", "ml-prod"])
def test_another_project_or_location_has_no_such_repository(
    registry: GarRegistry, access: GoogleAccess, google: Any, project: str
) -> None:
    if project == "ml-prod":
        elsewhere = google.registry("us-east1")
        registry = GarRegistry("us-east1-docker.pkg.dev", access=access, dial=elsewhere.address, retries=QUICK)
    with pytest.raises(NotFound, match="repositories create"):
        push(registry, f"{project}/models/app", "v1")


def test_without_the_extra_it_is_said_what_is_missing(plane: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("google.auth", "google.oauth2"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    registry = GarRegistry(HOST, access=GoogleAccess("ml-prod", "europe-west1"), dial=plane.address, retries=QUICK)
    with pytest.raises(ToolMissing, match="google-auth is not installed"):
        list(registry.tags(APP))


def test_a_repository_that_is_missing(registry: GarRegistry) -> None:
    with pytest.raises(NotFound, match="gone"):
        push(registry, "ml-prod/gone/app", "v1")
    with pytest.raises(InputError, match="PROJECT/REPOSITORY/IMAGE"):
        registry.delete_tag("ml-prod", "v1")


def test_hosts_of_container_registry(google: Any, access: GoogleAccess) -> None:
    google.repository("ml-prod", "europe", "eu.gcr.io")
    plane = google.registry("", legacy="eu.gcr.io")
    registry = GarRegistry("eu.gcr.io", access=access, dial=plane.address, retries=QUICK)
    push(registry, "ml-prod/app", "v1")
    assert list(registry.repositories()) == ["ml-prod/app"]
    registry.delete_tag("ml-prod/app", "v1")
    assert list(registry.tags("ml-prod/app")) == []


def test_which_client_speaks_to_a_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, access: GoogleAccess) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "K_SERVICE", "CLOUD_RUN_JOB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    for host in (HOST, "gcr.io", "us.gcr.io"):
        found = remote_registry(host)
        assert isinstance(found, GarRegistry) and found._access is None, "nobody is logged in at Google"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    found = remote_registry(HOST)
    assert isinstance(found, GarRegistry) and found._access is not None
    assert type(remote_registry(HOST, username="oauth2accesstoken", password="x")) is DistributionRegistry
    assert type(remote_registry("gcr.io.example.com")) is DistributionRegistry
    assert isinstance(cloud_registry(HOST, access), GarRegistry)


class TestContract(RegistryContract):
    """What every Registry must do."""

    deletes_blobs = False

    @pytest.fixture
    def repository(self) -> str:
        return f"ml-prod/models/{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def registry(self, plane: Any, access: GoogleAccess) -> GarRegistry:
        return GarRegistry(HOST, access=access, dial=plane.address, retries=QUICK)
