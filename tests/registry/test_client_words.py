"""Refusals in the words of each registry: every row of the table is played to the client, and ordinary answers stay
ordinary."""

from __future__ import annotations

import contextlib
import json
from datetime import date
from typing import Any

import pytest

from registry_pipelines.errors import (
    Forbidden,
    NotFound,
    OverQuota,
    RateLimited,
    Refused,
    RegistryError,
    TagImmutable,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_MANIFEST
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.retries import NEVER
from registry_pipelines.registry.client.translate import read_error_body
from registry_pipelines.registry.client.words import HOSTS, MEANINGS, SAYINGS, Act, error_for, family_of, meant
from tests.doubles.exchanges import Answer, ExchangeServer, Expect

MANIFEST = manifest_bytes(
    Manifest(
        schema_version=2,
        media_type=OCI_MANIFEST,
        config=Descriptor(media_type=OCI_CONFIG, digest=Digest.of(b"{}"), size=2),
        layers=(),
    )
)
CONTENT = b"layer"
BLOB = Descriptor(media_type="application/octet-stream", digest=Digest.of(CONTENT), size=len(CONTENT))


def said(code: str, message: str = "", detail: Any = None) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()


Case = tuple[str, int, Act, bytes, type[RegistryError], str]
CASES: list[Case] = [
    ("ecr", 400, "tag", said("TAG_INVALID", "The image tag 'v1' already exists in the 'app' repository and cannot be "
     "overwritten because the repository is immutable."), TagImmutable, "new tag"),
    ("ecr", 400, "tag", said("TAG_INVALID", "The image tag is immutable."), TagImmutable, "new tag"),
    ("harbor", 412, "tag", said("PRECONDITION", "Failed to process request due to 'p/app:v1' configured as "
     "immutable."), TagImmutable, "new tag"),
    ("harbor", 412, "delete", said("PRECONDITION", "the tag v1 configured as immutable, cannot be deleted"),
     TagImmutable, "new tag"),
    ("quay", 409, "tag", said("TAG_IMMUTABLE", "tag is immutable and cannot be overwritten",
     {"message": "tag 'v1' is immutable"}), TagImmutable, "new tag"),
    ("quay", 409, "tag", said("TAG_ALREADY_EXISTS", "tag was already pushed"), TagImmutable, "new tag"),
    ("nexus", 400, "tag", said("BLOB_UPLOAD_INVALID", "blob upload invalid",
     "Repository does not allow updating assets: docker-hosted"), TagImmutable, "new tag"),
    ("nexus", 409, "tag", said("", "docker/v1 - cannot be updated as asset already exists and redeploy is not "
     "allowed"), TagImmutable, "new tag"),
    ("artifactory", 403, "tag", said("MANIFEST_INVALID", "manifest invalid", {"description": "HTTP 403 Forbidden"}),
     TagImmutable, "permission to overwrite"),
    ("acr", 405, "tag", said("REGISTRY_DISALLOWED_OPERATION", "The operation is disallowed on this registry, "
     "repository or image. View troubleshooting steps at https://aka.ms/acr/faq/", {}), TagImmutable, "write-enabled"),
    ("dtr", 400, "tag", said("UNKNOWN", "tag=latest cannot be overwritten because dtr.example.com/library/wordpress "
     "is an immutable repository"), TagImmutable, "new tag"),
    ("any", 403, "tag", said("DENIED", "tag v1 is immutable in this repository"), TagImmutable, "new tag"),
    ("harbor", 403, "write", said("DENIED", "adding 29.0 MiB of storage resource, which when updated to current usage "
     "of 152.4 MiB will exceed the configured upper limit of 10.0 MiB."), OverQuota, "project quota"),
    ("quay", 403, "write", said("DENIED", "Quota has been exceeded on namespace", {}), OverQuota, "larger quota"),
    ("ecr", 403, "tag", said("DENIED", "The repository with name 'app' in registry with id '123456789012' already has "
     "the maximum allowed number of images which is '10000'"), OverQuota, "lifecycle policy"),
    ("digitalocean", 403, "write", said("DENIED", "registry contains 1 repositories, limit is 1"), OverQuota, "quota"),
    ("zot", 429, "write", said("TOOMANYREQUESTS", "too many requests", {"limit": "100"}), OverQuota, "maxRepos"),
    ("quay", 413, "write", said("DENIED", "Uploaded blob of 21.00 GiB is larger than 20.00 GiB allowed by this "
     "registry"), Refused, "Split"),
    ("ghcr", 416, "write", said("REQUESTED_RANGE_NOT_SATISFIABLE", "the request body is too large and exceeds the "
     "maximum permissible limit of 4.00MiB"), Refused, "one piece"),
    ("any", 413, "write", b"<html><h1>413 Request Entity Too Large</h1></html>", Refused, "client_max_body_size"),
    ("ecr", 405, "tag", said("UNSUPPORTED", "Invalid parameter at 'ImageManifest' failed to satisfy constraint: "
     "'Invalid JSON syntax'"), Refused, "another|takes this kind"),
    ("quay", 415, "tag", said("MANIFEST_INVALID", "manifest invalid",
     {"message": "manifest schema version not supported"}), Refused, "FEATURE_GENERAL_OCI_SUPPORT"),
    ("any", 415, "tag", b"", Refused, "takes this kind"),
    ("ecr", 404, "write", said("NAME_UNKNOWN", "The repository with name 'app' does not exist in the registry with id "
     "'123456789012'"), NotFound, "create-repository"),
    ("artifact-registry", 404, "write", said("NAME_UNKNOWN", 'Repository "images" not found'), NotFound, "gcloud"),
    ("artifact-registry", 400, "write", said("NAME_INVALID", "Missing image name. Pushes should be of the form docker "
     "push HOST-NAME/PROJECT-ID/REPOSITORY/IMAGE"), NotFound, "PROJECT/REPOSITORY/IMAGE"),
    ("harbor", 404, "write", said("NOT_FOUND", "project team not found"), NotFound, "Create the project"),
    ("any", 404, "write", said("NAME_UNKNOWN", "repository name not known to registry"), NotFound, "makes none"),
    ("harbor", 403, "write", said("DENIED", "can not push artifact to a proxy project: hub"), Unsupported, "proxy"),
    ("harbor", 403, "tag", said("DENIED", "The system is in read only mode. Any modification is prohibited."),
     Unsupported, "operator"),
    ("quay", 405, "write", said("DENIED", "System is currently read-only. Pulls will succeed but all write operations "
     "are currently suspended."), Unsupported, "Wait"),
    ("quay", 405, "write", said("METHOD NOT ALLOWED", "Pushes to the registry are currently disabled. Please contact "
     "the administrator for more information.", {}), Unsupported, "Wait"),
    ("acr", 405, "delete", said("REGISTRY_DISALLOWED_OPERATION", "The operation is disallowed on this registry"),
     Unsupported, "delete-enabled"),
    ("harbor", 412, "read", said("PROJECTPOLICYVIOLATION", "current image with 3 vulnerabilities cannot be pulled due "
     "to configured policy in 'Prevent images with vulnerability severity of \"High\" or higher from running.'"),
     Refused, "administrator"),
    ("harbor", 412, "read", said("PRECONDITION", "The image is not signed by cosign."), Refused, "administrator"),
    ("any", 412, "read", b"", Refused, "policies"),
    ("harbor", 401, "write", said("UNAUTHORIZED", "unauthorized to access repository: team/app, action: push: "
     "unauthorized to access repository: team/app, action: push"), Unauthorized, "project is there"),
    ("ghcr", 403, "write", said("DENIED", "permission_denied: installation not allowed to Create organization "
     "package"), Forbidden, "packages: write"),
    ("ghcr", 403, "write", said("DENIED", "permission_denied: write_package"), Forbidden, "packages: write"),
    ("docker-hub", 429, "read", said("TOOMANYREQUESTS", "You have reached your pull rate limit. You may increase the "
     "limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit"), RateLimited, "log in"),
    ("any", 429, "read", b"<html>Too Many Requests (HAP429)</html>", RateLimited, "less often"),
    ("any", 503, "read", said("TOOMANYREQUESTS"), RateLimited, "less often"),
    ("any", 420, "read", b"Enhance Your Calm", RateLimited, "less often"),
    ("ghcr", 403, "read", said("DENIED", "You have exceeded a secondary rate limit"), RateLimited, "less often"),
    ("any", 503, "read", b'<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>', RateLimited, "less often"),
]  # fmt: skip
"""Family, status, what was asked, the answer's body; the error, and what its advice speaks of."""

EXIT_CODES = {Unsupported: 1, NotFound: 4, Unauthorized: 5, Forbidden: 5, Refused: 6, TagImmutable: 6, OverQuota: 6,
              RateLimited: 7}  # fmt: skip


def ask(registry: DistributionRegistry, act: Act) -> None:
    if act == "tag":
        registry.put_manifest("app", MANIFEST, tag="v1")
    elif act == "write":
        registry.upload_blob("app", BLOB, BytesSource(CONTENT))
    elif act == "delete":
        registry.delete_blob("app", BLOB.digest)
    else:
        registry.get_manifest("app", "v1")


REQUEST: dict[Act, tuple[str, str]] = {
    "tag": ("PUT", "/v2/app/manifests/v1"),
    "write": ("POST", "/v2/app/blobs/uploads/.*"),
    "delete": ("DELETE", "/v2/app/blobs/sha256:.*"),
    "read": ("GET", "/v2/app/manifests/v1"),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[4].__name__}")
def test_a_refusal_is_understood(case: Case) -> None:
    _, status, act, body, kind, advice = case
    answer = Answer(status, {"Content-Type": "application/json"}, body)
    with (
        ExchangeServer(Expect(*REQUEST[act], answer)) as server,
        contextlib.closing(DistributionRegistry(server.address, retries=NEVER)) as registry,
        pytest.raises(RegistryError) as caught,
    ):
        ask(registry, act)
    error = caught.value
    assert type(error) is kind
    assert any(word in error.do for word in advice.split("|"))
    assert error.exit_code == EXIT_CODES[kind]


def test_every_row_is_played_and_none_hides_another() -> None:
    played = []
    for family, status, act, body, kind, _ in CASES:
        row = meant(status, *read_error_body(body), body, act=act)
        assert row is not None and row.family == family
        assert error_for(row, status)[0] is kind
        played.append(row)
    assert [row for row in SAYINGS if row not in played] == []


def test_every_row_has_a_source_and_a_date() -> None:
    for row in SAYINGS:
        assert len(row.source) > 10 and row.source.strip() == row.source, row
        assert date(2012, 1, 1) <= date.fromisoformat(row.date) <= date(2026, 11, 30), row
        assert row.statuses and row.acts and row.meaning in MEANINGS, row


ORDINARY: list[tuple[int, Act, bytes, type[RegistryError]]] = [
    (400, "tag", said("MANIFEST_INVALID", "manifest invalid"), Refused),
    (400, "tag", said("TAG_INVALID", "manifest tag did not match URI"), Refused),
    (400, "write", said("BLOB_UPLOAD_INVALID", "blob upload invalid"), Refused),
    (400, "write", said("UNKNOWN", "the layer's annotation names an immutable tag"), Refused),
    (400, "tag", said("MANIFEST_INVALID", "annotation org.example.immutable is not a string"), Refused),
    (403, "tag", said("DENIED", "requested access to the resource is denied"), Forbidden),
    (403, "tag", said("MANIFEST_INVALID", "manifest invalid"), Forbidden),
    (403, "read", said("DENIED", "Quota has been exceeded on namespace"), Forbidden),
    (401, "write", said("UNAUTHORIZED", "authentication required"), Unauthorized),
    (404, "read", said("NAME_UNKNOWN", "repository name not known to registry"), NotFound),
    (404, "tag", said("MANIFEST_UNKNOWN", "manifest unknown"), NotFound),
    (405, "write", said("UNSUPPORTED", "The operation is unsupported."), Unsupported),
    (409, "tag", said("CONFLICT", "the artifact is being pushed by another client"), Refused),
    (412, "tag", said("PRECONDITION", "If-Match did not hold"), Refused),
    (429, "write", said("TOOMANYREQUESTS", "too many requests", {"hint": "limit"}), RateLimited),
    (503, "read", b"<html>Service Unavailable</html>", Unavailable),
]


@pytest.mark.parametrize(("status", "act", "body", "kind"), ORDINARY)
def test_an_ordinary_refusal_stays_one(status: int, act: Act, body: bytes, kind: type[RegistryError]) -> None:
    with (
        ExchangeServer(Expect(*REQUEST[act], Answer(status, {}, body))) as server,
        contextlib.closing(DistributionRegistry(server.address, retries=NEVER)) as registry,
        pytest.raises(RegistryError) as caught,
    ):
        ask(registry, act)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("ghcr.io", "ghcr"),
        ("docker.io", "docker-hub"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "ecr"),
        ("europe-docker.pkg.dev:443", "artifact-registry"),
        ("team.azurecr.io", "acr"),
        ("company.jfrog.io", "artifactory"),
        ("registry.example.com", None),
        ("ghcr.io.example.com", None),
    ],
)
def test_a_host_is_known_by_its_whole_name(host: str, family: str | None) -> None:
    assert family_of(host) == family
    assert family is None or family in HOSTS


def test_a_known_host_does_not_speak_in_others_words() -> None:
    body = said("MANIFEST_INVALID", "manifest invalid", {"description": "HTTP 403 Forbidden"})
    code, words = read_error_body(body)
    assert meant(403, code, words, body, act="tag", host="quay.io") is None
    assert meant(403, code, words, body, act="tag", host="company.jfrog.io") is not None
