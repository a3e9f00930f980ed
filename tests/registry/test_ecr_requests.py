"""Requests of a registry with an API of its own: each is counted, whichever way it goes, and none is sent in vain."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.errors import Stalled
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.client import Retries, Timeouts
from registry_pipelines.registry.ecr.registry import EcrRegistry
from registry_pipelines.registry.ecr.uploads import PART_BYTES
from registry_pipelines.registry.embedded import EmbeddedServer
from tests.doubles.aws.ecr import SECRET_KEY, EcrDouble

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EcrDouble]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with EmbeddedServer(tmp_path / "behind") as server, EcrDouble(server.address) as double:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", f"http://{double.api_address}")
        yield double


def open_ecr(double: EcrDouble, **options: object) -> EcrRegistry:
    environ = {"HTTP_PROXY": f"http://{double.proxy_address}"}
    return EcrRegistry(HOST, plain_http=True, environ=environ, **options)  # type: ignore[arg-type]


def test_calls_of_the_api_count_as_requests_and_tokens_do_not(double: EcrDouble) -> None:
    content = bytes(PART_BYTES + 1)
    blob = Descriptor(media_type="application/octet-stream", digest=Digest.of(content), size=len(content))
    registry = open_ecr(double)
    registry.upload_blob("app", blob, BytesSource(memoryview(content)))
    with registry.open_blob("app", blob.digest) as reader:
        reader.readinto(memoryview(bytearray(100)))
    registry.close()
    calls = [call for call in double.calls if call.action != "GetAuthorizationToken"]
    assert calls and double.requests
    assert registry.requests_sent == len(calls) + len(double.requests)


def test_all_uses_of_one_registry_log_in_once(
    double: EcrDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS's credentials come from a program that counts how often it is started."""
    started = tmp_path / "started"
    answer = {"Version": 1, "AccessKeyId": "AKIAEXAMPLE", "SecretAccessKey": SECRET_KEY}
    program = tmp_path / "credentials.py"
    program.write_text(f"open({str(started)!r}, 'a').write('x')\nprint({json.dumps(answer)!r})\n")
    (tmp_path / "aws").write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    content = bytes(100)
    registry = open_ecr(double)
    uses = [registry.leaving_stalls(), registry.observed(lambda error: None), registry]
    session = uses[0].begin_upload("app")
    uses[1].append_upload(session, memoryview(content))
    uses[2].commit_upload(session, Digest.of(content))  # with a client of boto3 of its own: it has another time-out
    assert [use.blob_size("app", Digest.of(content)) for use in uses] == [len(content)] * 3
    registry.close()
    assert started.read_text() == "x"
    assert {use.requests_sent for use in uses} == {registry.requests_sent}
    assert double.count("GetAuthorizationToken") == 1


def test_a_token_that_does_not_come_is_waited_for_once(double: EcrDouble) -> None:
    """By whoever repeats by itself; its client would wait as long again for each attempt."""
    over = threading.Event()
    double.fail("GetAuthorizationToken", over.wait, times=9)
    registry = open_ecr(double, timeouts=Timeouts(stall_s=0.3), retries=Retries(sleep=lambda seconds: None))
    with pytest.raises(Stalled):
        registry.leaving_stalls().tags_after("app", "", 1)
    over.set()
    assert double.count("GetAuthorizationToken") <= 1
