from __future__ import annotations

import socket
from pathlib import Path

from registry_pipelines.registry.embedded import EmbeddedServer
from tests.patience import patient

CLIENT_HELLO = bytes.fromhex("160301006c010000680303") + bytes(32)
"""The start of a TLS handshake, as clients send it that try HTTPS first."""


def test_a_tls_handshake_on_a_plain_port_is_refused_before_the_peer_sends_more(tmp_path: Path) -> None:
    with (
        EmbeddedServer(tmp_path) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=patient(20)) as peer,
    ):
        peer.sendall(CLIENT_HELLO)
        assert peer.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_empty_lines_before_a_request_are_still_ignored(tmp_path: Path) -> None:
    with (
        EmbeddedServer(tmp_path) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=patient(20)) as peer,
    ):
        peer.sendall(b"\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert peer.recv(4096).startswith(b"HTTP/1.1 200 ")
