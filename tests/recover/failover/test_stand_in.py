"""A stand-in as a client sees it: by sockets, the standard library's HTTP client, and curl."""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.media_types import OCI_LAYER
from registry_pipelines.recover.failover.drill.authority import Issued, issue
from registry_pipelines.recover.failover.drill.faults import Fault
from registry_pipelines.recover.failover.drill.made import push_made
from registry_pipelines.recover.failover.drill.stand_in import HOST, STALL_AFTER_BYTES, StandIn
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.patience import patient

SHORT_S = 0.3
"""A wait that is meant to end without an answer; nothing goes wrong when the machine is slow."""
BLOB = bytes(range(256)) * 4096


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(LayoutRegistry(tmp_path / "content"), "team/app")


@pytest.fixture
def plain(place: Place) -> Iterator[StandIn]:
    with StandIn(place) as found:
        yield found


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    return issue(tmp_path_factory.mktemp("tls"), HOST)


def ask(stand: StandIn, path: str, *, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(HOST, stand.port, timeout=patient(20))
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    return found


def connected(stand: StandIn) -> socket.socket:
    found = socket.create_connection((HOST, stand.port), timeout=patient(20))
    found.settimeout(SHORT_S)
    return found


def test_it_passes_pulls_by_digest_on_and_nothing_else(place: Place, plain: StandIn) -> None:
    digest = push_made(place)
    status, raw, headers = ask(plain, f"/v2/any/name/manifests/{digest}")
    assert status == 200 and Digest.of(raw) == digest and headers["docker-content-digest"] == digest
    blob = push_blob(place, BLOB, media_type=OCI_LAYER).digest
    assert ask(plain, f"/v2/x/blobs/{blob}")[:2] == (200, BLOB)
    status, part, headers = ask(plain, f"/v2/x/blobs/{blob}", Range="bytes=1000-1999")
    assert (status, part, headers["content-range"]) == (206, BLOB[1000:2000], f"bytes 1000-1999/{len(BLOB)}")
    assert ask(plain, f"/v2/x/blobs/{blob}", Range=f"bytes={len(BLOB)}-")[0] == 416
    status, nothing, headers = ask(plain, f"/v2/x/blobs/{blob}", method="HEAD")
    assert (status, nothing, int(headers["content-length"])) == (200, b"", len(BLOB))
    unknown = f"sha256:{hashlib.sha256(b'x').hexdigest()}"
    for path in (f"/v2/x/blobs/{unknown}", f"/v2/x/manifests/{unknown}", "/v2/x/manifests/latest", "/v2/_catalog"):
        assert ask(plain, path)[0] == 404, path
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        assert ask(plain, f"/v2/x/manifests/{digest}", method=method)[0] == 405


def test_each_fault_is_what_it_says_and_ends(place: Place, plain: StandIn) -> None:
    digest, blob = push_made(place), push_blob(place, BLOB, media_type=OCI_LAYER).digest
    plain.inflict(Fault.STOPPED)
    with pytest.raises(ConnectionRefusedError):
        connected(plain)
    plain.inflict(Fault.UNREACHABLE)
    with pytest.raises(TimeoutError):
        socket.create_connection((HOST, plain.port), timeout=SHORT_S)
    for fault in (Fault.FROZEN, Fault.SILENT):
        plain.inflict(fault)
        with connected(plain) as client:
            client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(TimeoutError):
                client.recv(1)
    plain.inflict(Fault.UNAVAILABLE)
    assert ask(plain, "/v2/")[0] == 503
    plain.inflict(Fault.STALLED)
    assert ask(plain, f"/v2/x/manifests/{digest}")[0] == 200
    with connected(plain) as client:
        client.sendall(f"GET /v2/x/blobs/{blob} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.settimeout(patient(20))  # until all has come that comes: only then is silence the fault
        came = b""
        while len(came.partition(b"\r\n\r\n")[2]) < STALL_AFTER_BYTES:
            came += client.recv(1 << 20) or pytest.fail(f"it ended after {len(came)} bytes")
        client.settimeout(SHORT_S)
        with pytest.raises(TimeoutError):
            client.recv(1)
        head, _, body = came.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(BLOB)}".encode() in head and body == BLOB[:STALL_AFTER_BYTES]
    address = plain.address
    plain.heal()
    assert plain.address == address and ask(plain, f"/v2/x/blobs/{blob}")[1] == BLOB


@pytest.mark.peer("curl", "openssl")
def test_over_tls_only_its_own_authority_vouches_for_it(
    place: Place, issued: Issued, peer: Callable[[str], str]
) -> None:
    verified = subprocess.run(
        [peer("openssl"), "verify", "-purpose", "sslserver", "-CAfile", issued.ca, issued.certificate],
        capture_output=True,
        text=True,
    )
    assert verified.stdout.endswith(": OK\n"), verified.stderr
    assert issued.key.stat().st_mode & 0o077 == 0
    blob = push_blob(place, BLOB, media_type=OCI_LAYER).digest
    with StandIn(place, certificate=issued.certificate, key=issued.key) as stand:
        url = f"{stand.url}/v2/x/blobs/{blob}"
        assert url.startswith("https://")
        curl = [peer("curl"), "--silent", "--noproxy", "*", "--max-time", str(patient(20))]
        assert subprocess.run([*curl, "--cacert", issued.ca, url], capture_output=True).stdout == BLOB
        assert subprocess.run([*curl, url], capture_output=True).returncode == 60, "an unknown authority"
        context = ssl.create_default_context(cafile=issued.ca)
        stand.inflict(Fault.SILENT)
        with connected(stand) as client, context.wrap_socket(client, server_hostname=HOST) as secured:
            secured.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(TimeoutError):
                secured.recv(1)
        stand.inflict(Fault.FROZEN)
        with connected(stand) as client, pytest.raises(TimeoutError):
            context.wrap_socket(client, server_hostname=HOST)
