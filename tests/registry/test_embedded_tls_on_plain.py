from __future__ import annotations

import socket
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from registry_pipelines.errors import InputError
from registry_pipelines.registry.embedded import EmbeddedServer
from tests.doubles.certificates import make_certificates
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


def test_an_encrypted_key_is_refused_and_asks_nobody(tmp_path: Path) -> None:
    """OpenSSL would wait for a password at the terminal."""
    made = make_certificates(tmp_path / "made")
    key = serialization.load_pem_private_key(made.key.read_bytes(), None)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    made.key.write_bytes(key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"secret")))
    with pytest.raises(InputError, match="encrypted, and a server cannot ask") as caught:
        EmbeddedServer(tmp_path / "r", certificate=made.certificate, key=made.key).start()
    assert caught.value.where == str(made.key)
