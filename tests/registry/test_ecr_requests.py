"""Requests of a registry with an API of its own are counted, whichever way they go."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.ecr.registry import EcrRegistry
from registry_pipelines.registry.ecr.uploads import PART_BYTES
from registry_pipelines.registry.embedded import EmbeddedServer
from tests.doubles.ecr import SECRET_KEY, EcrDouble

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


def test_calls_of_the_api_count_as_requests_and_tokens_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    content = bytes(PART_BYTES + 1)
    blob = Descriptor(media_type="application/octet-stream", digest=Digest.of(content), size=len(content))
    with EmbeddedServer(tmp_path) as server, EcrDouble(server.address) as double:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", f"http://{double.api_address}")
        registry = EcrRegistry(HOST, plain_http=True, environ={"HTTP_PROXY": f"http://{double.proxy_address}"})
        registry.upload_blob("app", blob, BytesSource(memoryview(content)))
        with registry.open_blob("app", blob.digest) as reader:
            reader.readinto(memoryview(bytearray(100)))
        registry.close()
        calls = [call for call in double.calls if call.action != "GetAuthorizationToken"]
        assert calls and double.requests
        assert registry.requests_sent == len(calls) + len(double.requests)
