"""Talking to a server byte by byte: what no well-behaved client library would send."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import EmbeddedServer
from tests.patience import patient

WAIT_S = patient(30)


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The specification's error code."""
        return str(self.json["errors"][0]["code"])


def ask(
    server: EmbeddedServer,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: dict[str, str] | None = None,
    *,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """One request on a connection of its own."""
    connection: http.client.HTTPConnection
    if context is not None:
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=WAIT_S, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def connect(server: EmbeddedServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S)


def receive_all(sock: socket.socket) -> bytes:
    """Everything until the server closes; a reset after the answer counts as closing."""
    received = bytearray()
    while True:
        try:
            piece = sock.recv(65536)
        except ConnectionResetError:
            return bytes(received)
        if not piece:
            return bytes(received)
        received += piece


def receive_head(sock: socket.socket) -> bytes:
    received = bytearray()
    while b"\r\n\r\n" not in received:
        piece = sock.recv(1)
        if not piece:
            break
        received += piece
    return bytes(received)


def send_raw(server: EmbeddedServer, data: bytes, *, finish: bool = False) -> bytes:
    """Send bytes, read until the server closes; ``finish`` closes our direction first."""
    with connect(server) as sock:
        sock.sendall(data)
        if finish:
            sock.shutdown(socket.SHUT_WR)
        return receive_all(sock)


def status_of(raw: bytes) -> int:
    return int(raw.split(b" ", 2)[1])


def push_blob(server: EmbeddedServer, repository: str, content: bytes, **kwargs: Any) -> Digest:
    digest = Digest.of(content)
    path = f"/v2/{repository}/blobs/uploads/?digest={digest}"
    answer = ask(server, "POST", path, content, {"Content-Type": "application/octet-stream"}, **kwargs)
    assert answer.status == 201, answer
    return digest


def begin(server: EmbeddedServer, repository: str) -> str:
    """Open an upload; its location."""
    answer = ask(server, "POST", f"/v2/{repository}/blobs/uploads/", b"")
    assert answer.status == 202, answer
    return str(answer.headers["Location"])


def manifest_for(layers: Iterable[bytes], /, **more: Any) -> bytes:
    config = b"{}"
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": {"mediaType": media_types.OCI_CONFIG, "digest": Digest.of(config), "size": len(config)},
        "layers": [
            {"mediaType": media_types.OCI_LAYER, "digest": Digest.of(layer), "size": len(layer)} for layer in layers
        ],
        **more,
    }
    return json.dumps(document).encode()


def push_image(server: EmbeddedServer, repository: str, layer: bytes, tag: str = "", **more: Any) -> Digest:
    push_blob(server, repository, b"{}")
    push_blob(server, repository, layer)
    raw = manifest_for([layer], **more)
    digest = Digest.of(raw)
    answer = put_manifest(server, repository, raw, tag or digest)
    assert answer.status == 201, answer
    return digest


def put_manifest(
    server: EmbeddedServer, repository: str, raw: bytes, reference: str, media_type: str = media_types.OCI_MANIFEST
) -> Answer:
    return ask(server, "PUT", f"/v2/{repository}/manifests/{reference}", raw, {"Content-Type": media_type})
