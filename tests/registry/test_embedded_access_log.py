"""What the access log of the embedded registry has, of requests that were made to stay out of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded.access import AccessLogFile, files_of
from tests.registry.wire import ask, connect, receive_all, send_raw, status_of

INDEX = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []})
DIGEST = Digest.of(INDEX.encode())
HEAD = f"Host: x\r\nContent-Type: application/vnd.oci.image.index.v1+json\r\nContent-Length: {len(INDEX)}\r\n"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[EmbeddedServer, Path]]:
    path = tmp_path / "logs" / "us.jsonl"
    with EmbeddedServer(tmp_path / "store", on_exchange=AccessLogFile(path)) as server:
        yield server, path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def put(target: str) -> bytes:
    return f"PUT {target} HTTP/1.1\r\nConnection: close\r\n{HEAD}\r\n{INDEX}".encode()


def test_a_push_by_an_address_in_full_is_logged(served: tuple[EmbeddedServer, Path]) -> None:
    server, path = served
    assert status_of(send_raw(server, put("http://x/v2/app/manifests/prod"))) == 201
    assert status_of(send_raw(server, put("/v2/app/manifests/%70rod2"))) == 201
    assert [(each["repository"], each["tag"], each["digest"]) for each in lines(path)] == [
        ("app", "prod", str(DIGEST)), ("app", "prod2", str(DIGEST)),
    ]  # fmt: skip


def test_every_tag_of_a_push_is_logged(served: tuple[EmbeddedServer, Path]) -> None:
    server, path = served
    tags = [f"t{number}" for number in range(150)]
    query = "&".join(f"tag={each}" for each in tags)
    assert status_of(send_raw(server, put(f"/v2/app/manifests/{DIGEST}?{query}"))) == 201
    logged = lines(path)
    assert [each["tag"] for each in logged] == tags and len({each["id"] for each in logged}) == len(tags)


@pytest.mark.parametrize("body", ["Content-Length: 5\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\nnonsense\r\n"])
def test_a_deletion_whose_sender_is_gone_is_logged(served: tuple[EmbeddedServer, Path], body: str) -> None:
    server, path = served
    assert status_of(send_raw(server, put("/v2/app/manifests/prod"))) == 201
    with connect(server) as sock:
        sock.sendall(f"DELETE /v2/app/manifests/{DIGEST} HTTP/1.1\r\nHost: x\r\n{body}".encode())
        sock.shutdown(1)
        receive_all(sock)
    assert ask(server, "GET", f"/v2/app/manifests/{DIGEST}").status == 404
    assert [(each["method"], each["status"]) for each in lines(path)][1] == ("DELETE", 202)


def test_a_log_does_not_take_the_files_of_another_whose_name_begins_alike(tmp_path: Path) -> None:
    own = ["us.jsonl", "us-20261129T120000000000.jsonl"]
    for name in (*own, "us2.jsonl", "us-east.jsonl", "us-east-20261129T120000000000.jsonl", "us-2026.jsonl"):
        (tmp_path / name).write_text("{}\n")
    assert {each.name for each in files_of(tmp_path / "us.jsonl")} == set(own)
    assert files_of(tmp_path / "none" / "us.jsonl") == []
