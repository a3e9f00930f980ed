"""ECR's own API, spoken to a double that holds each request against botocore's model of the service."""

from __future__ import annotations

import builtins
import io
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore import exceptions, parsers

from registry_pipelines.errors import (
    DigestMismatch,
    Forbidden,
    NotFound,
    RateLimited,
    Refused,
    RegistryError,
    RegistryPipelinesError,
    ToolMissing,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.client import DistributionRegistry, Retries, Timeouts
from registry_pipelines.registry.ecr import failures
from registry_pipelines.registry.ecr.hosts import EcrHost, read_host
from registry_pipelines.registry.ecr.registry import EcrRegistry
from registry_pipelines.registry.ecr.uploads import PART_BYTES
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import BlobSizes, CarriedUploads, UploadSession, UploadSessions
from registry_pipelines.registry.remote import remote_registry
from tests.doubles.aws.ecr import SECRET_KEY as SECRET
from tests.doubles.aws.ecr import ApiError, EcrDouble
from tests.registry.contract import RegistryContract

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
CONTENT = bytes(range(256)) * (17 * 4096) + b"end"
"""Two parts of 8 MiB and a bit."""
DIGEST = Digest.of(CONTENT)
BLOB = Descriptor(media_type="application/octet-stream", digest=DIGEST, size=len(CONTENT))


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"session{SECRET}")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def ecr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EcrDouble]:
    with EmbeddedServer(tmp_path / "behind") as server, EcrDouble(server.address) as double:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", f"http://{double.api_address}")
        yield double


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def registry(ecr: EcrDouble, waits: list[float]) -> Iterator[EcrRegistry]:
    client = open_ecr(ecr, waits)
    yield client
    client.close()


def open_ecr(ecr: EcrDouble, waits: list[float]) -> EcrRegistry:
    return EcrRegistry(
        HOST,
        plain_http=True,
        retries=Retries(attempts=3, sleep=waits.append),
        timeouts=Timeouts(connect_s=5, stall_s=20, commit_s=20),
        environ={"HTTP_PROXY": f"http://{ecr.proxy_address}"},
    )


def send(registry: EcrRegistry, content: bytes = CONTENT) -> UploadSession:
    """All parts of a new upload, not committed."""
    session = registry.begin_upload("app")
    for start in range(0, len(content), PART_BYTES):
        registry.append_upload(session, memoryview(content)[start : start + PART_BYTES])
    return session


class TestContract(RegistryContract):
    """An ECR registry is a registry like any other."""

    deletes_last_tag = False


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (HOST, EcrHost("123456789012", "eu-west-1")),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", EcrHost("123456789012", "cn-north-1")),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", EcrHost("123456789012", "us-gov-west-1", fips=True)),
        ("123456789012.dkr-ecr.us-east-1.on.aws", EcrHost("123456789012", "us-east-1", dualstack=True)),
        ("public.ecr.aws", None),
        ("12345.dkr.ecr.eu-west-1.amazonaws.com", None),
        (f"{HOST}.evil.example", None),
        (f"x{HOST}", None),
        (f"{HOST}:443", None),
    ],
)
def test_hosts(host: str, expected: EcrHost | None) -> None:
    assert read_host(host) == expected
    assert isinstance(remote_registry(host), EcrRegistry) == (expected is not None)


def test_a_given_log_in_needs_no_aws(tmp_path: Path) -> None:
    assert isinstance(remote_registry(HOST, username="AWS", password="x"), DistributionRegistry)
    assert isinstance(remote_registry(HOST, docker_config=tmp_path / "config.json"), DistributionRegistry)


def test_abilities(registry: EcrRegistry) -> None:
    assert isinstance(registry, UploadSessions)
    assert isinstance(registry, BlobSizes)
    assert not isinstance(registry, CarriedUploads)


def test_large_blob_goes_in_native_parts(registry: EcrRegistry, ecr: EcrDouble) -> None:
    registry.upload_blob("app", BLOB, io.BytesIO(CONTENT))
    assert [(call.values["partFirstByte"], call.sent) for call in ecr.calls if call.action == "UploadLayerPart"] == [
        (0, PART_BYTES),
        (PART_BYTES, PART_BYTES),
        (2 * PART_BYTES, len(CONTENT) - 2 * PART_BYTES),
    ]
    assert registry.blob_size("app", DIGEST) == len(CONTENT)
    assert registry.blob_sizes("app", [DIGEST, Digest.of(b"other")]) == {DIGEST: len(CONTENT)}
    assert not [one for one in ecr.requests if "uploads" in one]


def test_small_blob_costs_two_requests(registry: EcrRegistry, ecr: EcrDouble) -> None:
    registry.ping()
    ecr.requests.clear()
    content = b"small"
    small = Descriptor(media_type="application/octet-stream", digest=Digest.of(content), size=len(content))
    registry.upload_blob("app", small, BytesSource(content))
    assert len(ecr.requests) == 2
    assert ecr.count("UploadLayerPart") == 0


def test_many_blobs_are_asked_for_a_hundred_a_call(registry: EcrRegistry, ecr: EcrDouble) -> None:
    assert registry.blob_sizes("app", [Digest.of(b"%d" % at) for at in range(250)]) == {}
    assert ecr.count("BatchCheckLayerAvailability") == 3


def test_part_size_of_ecr_is_kept(registry: EcrRegistry, ecr: EcrDouble) -> None:
    ecr.part_bytes = 5 * 1024 * 1024
    registry.upload_blob("app", BLOB, io.BytesIO(CONTENT))
    assert max(call.sent for call in ecr.calls) == ecr.part_bytes
    assert registry.blob_size("app", DIGEST) == len(CONTENT)
    with pytest.raises(Unsupported):
        registry.append_upload(registry.begin_upload("app"), memoryview(CONTENT)[:PART_BYTES])


@pytest.mark.parametrize("action", ["InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload"])
@pytest.mark.parametrize(
    "what",
    ["lose", "cut", ApiError("ThrottlingException", "Rate exceeded"), ApiError("ServerException", status=500)],
    ids=str,
)
def test_troubles_that_pass(
    action: str, what: str | ApiError, registry: EcrRegistry, ecr: EcrDouble, waits: list[float]
) -> None:
    ecr.fail(action, what, times=2)
    registry.commit_upload(send(registry), DIGEST)
    assert registry.blob_size("app", DIGEST) == len(CONTENT)
    resent = ecr.part_bytes_in - len(CONTENT)
    assert resent <= 2 * PART_BYTES if action == "UploadLayerPart" else resent == 0


def test_throttling_is_seen_and_not_hidden_by_boto3(registry: EcrRegistry, ecr: EcrDouble, waits: list[float]) -> None:
    seen: list[RegistryPipelinesError] = []
    registry = registry.observed(seen.append)
    ecr.fail("UploadLayerPart", ApiError("ThrottlingException", "Rate exceeded"), times=3)
    session = registry.begin_upload("app")
    with pytest.raises(RateLimited) as caught:
        registry.append_upload(session, memoryview(CONTENT)[:PART_BYTES])
    assert caught.value.status == 429
    assert ecr.count("UploadLayerPart") == len(seen) == 3
    assert len(waits) == 2
    registry.append_upload(session, memoryview(CONTENT)[:PART_BYTES])


def test_true_offset_is_found_by_the_next_part(registry: EcrRegistry, ecr: EcrDouble, waits: list[float]) -> None:
    session = send(registry, CONTENT[: 2 * PART_BYTES])
    # Another process remembers one part too few, and then one too many.
    behind = UploadSession("app", session.location, PART_BYTES)
    other = open_ecr(ecr, waits)
    other.append_upload(behind, memoryview(CONTENT)[PART_BYTES : 2 * PART_BYTES])
    assert behind.offset == 2 * PART_BYTES
    ahead = UploadSession("app", session.location, 3 * PART_BYTES)
    with pytest.raises(Unavailable, match="has 16777216 bytes of the upload"):
        other.append_upload(ahead, memoryview(CONTENT)[:100])
    assert other.upload_offset(ahead) == 2 * PART_BYTES
    other.append_upload(ahead, memoryview(CONTENT)[2 * PART_BYTES :])
    other.commit_upload(ahead, DIGEST)
    other.close()
    assert registry.blob_size("app", DIGEST) == len(CONTENT)


def test_part_that_ecr_never_takes_is_refused(registry: EcrRegistry, ecr: EcrDouble) -> None:
    session = send(registry, CONTENT[:PART_BYTES])
    ecr.part_bytes = 1
    with pytest.raises(Refused):
        registry.append_upload(session, memoryview(CONTENT)[:10])


def test_lost_upload_and_foreign_location(registry: EcrRegistry, ecr: EcrDouble) -> None:
    session = send(registry)
    ecr.uploads.clear()
    for location in (session.location, f"http://{HOST}/v2/app/blobs/uploads/1?_state=x"):
        lost = UploadSession("app", location, session.offset)
        with pytest.raises(NotFound) as caught:
            registry.append_upload(lost, memoryview(b"x"))
        assert caught.value.status == 404
    with pytest.raises(NotFound):
        registry.commit_upload(session, DIGEST)
    registry.cancel_upload(session)


def test_layer_that_exists_is_done(registry: EcrRegistry, ecr: EcrDouble) -> None:
    first, second = send(registry), send(registry)
    registry.commit_upload(first, DIGEST)
    registry.commit_upload(second, DIGEST)
    assert ecr.count("CompleteLayerUpload") == 2


def test_wrong_digest(registry: EcrRegistry, ecr: EcrDouble) -> None:
    with pytest.raises(DigestMismatch):
        registry.commit_upload(send(registry), Digest.of(b"other"))
    wrong = Descriptor(media_type="x/y", digest=Digest.of(b"other"), size=len(CONTENT))
    with pytest.raises(DigestMismatch):
        registry.upload_blob("app", wrong, io.BytesIO(CONTENT))
    assert registry.blob_size("app", wrong.digest) is None
    with pytest.raises(RegistryError) as caught:
        registry.commit_upload(registry.begin_upload("app"), DIGEST)
    assert caught.value.code == "EmptyUploadException"


def test_token_is_kept_and_renewed_before_it_ends(
    registry: EcrRegistry, ecr: EcrDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        registry.ping()
    assert ecr.count("GetAuthorizationToken") == 1
    later = 11.8 * 3600
    now = time.time()
    monkeypatch.setattr("registry_pipelines.registry.client.tokens.time.time", lambda: now + later)
    ecr.password = "another"
    registry.ping()
    assert ecr.count("GetAuthorizationToken") == 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ApiError("AccessDeniedException", "not authorized to perform: ecr:InitiateLayerUpload"), Forbidden),
        (ApiError("RepositoryNotFoundException", "app"), NotFound),
        (ApiError("KmsException", "key disabled"), Refused),
        (ApiError("ExpiredTokenException", "The security token included in the request is expired"), Unauthorized),
        (ApiError("BrandNewException", "?"), Refused),
        (ApiError("BrandNewException", "?", status=503), Unavailable),
    ],
    ids=str,
)
def test_errors(error: ApiError, expected: type[RegistryError], registry: EcrRegistry, ecr: EcrDouble) -> None:
    ecr.fail("InitiateLayerUpload", error, times=9)
    with pytest.raises(expected) as caught:
        registry.begin_upload("app")
    assert caught.value.where == f"{HOST}/app"
    assert caught.value.code == error.code


def test_every_exception_of_botocore_becomes_ours() -> None:
    """Those that are expected by name exist; the others are told of as what they are."""
    known = {
        kind.__name__: kind for module in (exceptions, parsers) for kind in vars(module).values() if is_error(kind)
    }
    assert {local.name for local in failures._LOCAL} <= known.keys()
    for name, kind in known.items():
        error = kind.__new__(kind)
        ours = failures.translate(error, where=HOST, doing="trying")
        assert isinstance(ours, RegistryPipelinesError)
        assert ours.where == HOST, name
    assert isinstance(
        failures.translate(Exception.__new__(exceptions.ConnectionClosedError), where="", doing=""), Unavailable
    )


def is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, exceptions.BotoCoreError | parsers.ResponseParserError)


def test_no_secret_in_errors(registry: EcrRegistry, ecr: EcrDouble) -> None:
    canonical = f"The request signature does not match.\nx-amz-security-token:session{SECRET}\nCredential={SECRET}/x"
    ecr.fail("GetAuthorizationToken", ApiError("InvalidSignatureException", canonical, status=403))
    with pytest.raises(Unauthorized) as caught:
        registry.ping()
    assert SECRET not in str(caught.value) + json.dumps(caught.value.diagnostics())
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    registry.ping()
    assert ecr.password not in repr(vars(registry))


def test_without_credentials(registry: EcrRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(Unauthorized, match="there are no AWS credentials"):
        registry.begin_upload("app")


def test_unknown_profile(ecr: EcrDouble) -> None:
    client = EcrRegistry(HOST, profile="nobody")
    with pytest.raises(RegistryPipelinesError, match="profile does not exist"):
        client.begin_upload("app")


def test_without_boto3(registry: EcrRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def blocked(name: str, *rest: object, **named: object) -> object:
        if name.partition(".")[0] in ("boto3", "botocore"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(ToolMissing, match=r"registry-pipelines\[aws\]"):
        registry.begin_upload("app")


def test_boto3_is_not_loaded_for_others() -> None:
    code = (
        "import sys; from registry_pipelines.registry.remote import remote_registry; "
        f"remote_registry('localhost:1'); remote_registry('{HOST}'); sys.exit('boto3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_another_implementation_of_the_api(connect_moto: Callable[[], EcrRegistry]) -> None:
    """moto takes what we send: its parts are consecutive and complete, though it forgets the bytes. That they are the
    right ones is shown above, and what concerns manifests in ``test_ecr_images``."""
    registry = connect_moto()
    registry.commit_upload(send(registry), DIGEST)
    assert registry.blob_sizes("app", [DIGEST]).keys() == {DIGEST}


@pytest.fixture
def connect_moto() -> Iterator[Callable[[], EcrRegistry]]:
    import boto3
    from moto import mock_aws

    with mock_aws():
        boto3.client("ecr", region_name="eu-west-1").create_repository(repositoryName="app")
        yield lambda: EcrRegistry(HOST)
