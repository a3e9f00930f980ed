"""Exact exchanges: what goes over the wire, and answers that are wrong in every way."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import (
    ConfigInvalid,
    InputError,
    ManifestTooLarge,
    ReferenceInvalid,
    RegistryError,
    RegistryPipelinesError,
    Stalled,
    Unavailable,
    Unsupported,
)
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import EMPTY as EMPTY_CONFIG
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.client import DistributionRegistry, Retries, Timeouts
from registry_pipelines.registry.client.listing import next_link
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded.application import Handler
from registry_pipelines.registry.embedded.responses import Response
from tests.doubles.certificates import make_certificates
from tests.doubles.exchanges import Answer, ExchangeServer, Expect
from tests.patience import patient
from tests.ports import free_ports
from tests.registry.contract import blob_of

ONCE = Retries(attempts=1)
RAW = manifest_bytes(Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=EMPTY_CONFIG, layers=()))
HEADERS = {"Content-Type": media_types.OCI_MANIFEST, "Docker-Content-Digest": str(RAW.digest)}
DIGEST = Digest.of(b"0123456789")


# Requests as they must be


def test_a_manifest_is_asked_for_with_all_types() -> None:
    accept = ".*".join(one.replace("+", r"\+") for one in media_types.ACCEPTED)
    expected = {"Accept": f".*{accept}.*", "Accept-Encoding": "identity", "User-Agent": "registry-pipelines/.*"}
    with ExchangeServer(
        Expect("HEAD", "/v2/team/app/manifests/v1", Answer(200, HEADERS, RAW.raw), expected),
        Expect("GET", "/v2/team/app/manifests/v1", Answer(200, HEADERS, RAW.raw), expected),
    ) as server:
        registry = DistributionRegistry(server.address)
        assert registry.resolve("team/app", "v1") == RAW.descriptor
        assert registry.get_manifest("team/app", "v1") == RAW
    assert server.connections == 1


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/v2/a/blobs/uploads/u1?state=a%2Fb%3D&x=1", r"/v2/a/blobs/uploads/u1\?state=a%2Fb%3D&x=1"),
        ("http://{address}/elsewhere/u1", r"/elsewhere/u1"),
        ("u2?y", r"/v2/a/blobs/uploads/u2\?y"),
    ],
)
def test_a_location_is_used_verbatim(location: str, target: str) -> None:
    content = b"0123456789"
    join = "&" if "\\?" in target else r"\?"
    with ExchangeServer(
        Expect("POST", "/v2/a/blobs/uploads/", Answer(202, {"Location": location}), {"Content-Length": "0"}),
        Expect(
            "PUT",
            f"{target}{join}digest={DIGEST}",
            Answer(201),
            {"Content-Length": "10", "Content-Type": "application/octet-stream"},
            content,
        ),
    ) as server:
        DistributionRegistry(server.address).upload_blob("a", blob_of(content), BytesSource(content))


def test_chunks_name_their_bytes_and_follow_the_location() -> None:
    opened = Answer(202, {"Location": "/u/1", "OCI-Chunk-Min-Length": "4096"})
    with ExchangeServer(
        Expect("POST", "/v2/a/blobs/uploads/", opened),
        Expect("PATCH", "/u/1", Answer(202, {"Location": "/u/2", "Range": "0-3"}), {"Content-Range": "0-3"}, b"0123"),
        Expect("PATCH", "/u/2", Answer(201, {"Range": "0-3"}), {"Content-Range": "4-9"}, b"456789"),
        Expect("PUT", rf"/u/2\?digest={DIGEST}", Answer(201), {"Content-Length": "0"}),
    ) as server:
        registry = DistributionRegistry(server.address)
        session = registry.begin_upload("a")
        assert session.min_chunk_bytes == 4096
        registry.append_upload(session, memoryview(b"0123"))
        registry.append_upload(session, memoryview(b"456789"))
        assert session.offset == 10
        registry.commit_upload(session, DIGEST)


@pytest.mark.parametrize(("value", "offset"), [("0-9", 10), ("bytes=0-9", 10), ("0-0", 0), ("", 0), ("nonsense", None)])
def test_the_state_of_an_upload(value: str, offset: int | None) -> None:
    with ExchangeServer(
        Expect("POST", "/v2/a/blobs/uploads/", Answer(202, {"Location": "/u/1"})),
        Expect("GET", "/u/1", Answer(204, {"Range": value} if value else {})),
    ) as server:
        registry = DistributionRegistry(server.address)
        assert registry.upload_offset(registry.begin_upload("a")) == offset


def test_an_upload_without_a_location() -> None:
    with (
        ExchangeServer(Expect("POST", "/v2/a/blobs/uploads/", Answer(202))) as server,
        pytest.raises(RegistryError, match="no Location"),
    ):
        DistributionRegistry(server.address).begin_upload("a")


def test_a_mount_asks_for_both_repositories() -> None:
    challenge = Answer(401, {"WWW-Authenticate": 'Bearer realm="http://{address}/token"'})
    with ExchangeServer(
        Expect("POST", rf"/v2/b/blobs/uploads/\?mount={DIGEST}&from=a", challenge),
        Expect(
            "GET",
            r"/token\?scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull%2Cpush",
            Answer(body={"token": "t"}),
        ),
        Expect("POST", rf"/v2/b/blobs/uploads/\?mount={DIGEST}&from=a", Answer(201), {"Authorization": "Bearer t"}),
    ) as server:
        assert DistributionRegistry(server.address).mount_blob("b", DIGEST, source="a") is True


def test_an_upload_that_a_refused_mount_opened_is_cancelled() -> None:
    with ExchangeServer(
        Expect("POST", ".*mount.*", Answer(202, {"Location": "/u/1?s=2"})), Expect("DELETE", r"/u/1\?s=2", Answer(405))
    ) as server:
        assert DistributionRegistry(server.address).mount_blob("b", DIGEST, source="a") is False


def test_pages_follow_the_link_verbatim_and_null_is_empty() -> None:
    with ExchangeServer(
        Expect(
            "GET",
            r"/v2/a/tags/list\?n=1000",
            Answer(200, {"Link": '</v2/a/tags/list?last=v%2B1&token=x==>; rel="next"'}, {"tags": ["v1"]}),
        ),
        Expect(
            "GET",
            r"/v2/a/tags/list\?last=v%2B1&token=x==",
            Answer(200, {"Link": '<http://{address}/more>; title="a, b"; rel=next'}, {"tags": None}),
        ),
        Expect("GET", "/more", Answer(body={"name": "a", "tags": ["v2"]})),
    ) as server:
        assert list(DistributionRegistry(server.address).tags("a")) == ["v1", "v2"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"tags": "v1"}', b'{"tags": [1]}', b"[" * 100_000])
def test_lists_that_are_none(body: bytes) -> None:
    with ExchangeServer(Expect("GET", "/v2/a/tags/list.*", Answer(body=body))) as server, pytest.raises(RegistryError):
        list(DistributionRegistry(server.address).tags("a"))


def test_the_catalogue_may_be_missing() -> None:
    for status in (403, 404, 405):
        with (
            ExchangeServer(Expect("GET", "/v2/_catalog.*", Answer(status))) as server,
            pytest.raises(Unsupported, match="does not list its repositories"),
        ):
            list(DistributionRegistry(server.address).repositories())


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('</a>; rel="next"', "/a"),
        ("</a>;rel=next", "/a"),
        ('</p>; rel="prev", </a>; foo="x"; rel="next"', "/a"),
        ('</a>; rel="last next"', "/a"),
        ('</a>; rel="previous"', ""),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_links(header: str, target: str) -> None:
    assert next_link([header]) == target


@given(st.text(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_link_can_be_read(header: str) -> None:
    assert next_link([header]) in header


# Manifests that are wrong


def test_a_manifest_without_a_type_is_recognised() -> None:
    vague = {"Content-Type": "text/plain; charset=utf-8"}
    with ExchangeServer(Expect("GET", ".*", Answer(200, vague, RAW.raw))) as server:
        assert DistributionRegistry(server.address).get_manifest("a", "v1") == RAW


def test_a_manifest_of_five_megabytes_is_not_read() -> None:
    large = b" " * (5 * 1024 * 1024)
    for answer in (Answer(200, HEADERS, large), Answer(200, HEADERS, large, length=-1, close=True)):
        with ExchangeServer(Expect("GET", ".*", answer)) as server, pytest.raises(ManifestTooLarge):
            DistributionRegistry(server.address).get_manifest("a", "v1")
    announced = Answer(200, {**HEADERS, "Content-Length": str(len(large))})
    with ExchangeServer(Expect("HEAD", ".*", announced)) as server, pytest.raises(ManifestTooLarge):
        DistributionRegistry(server.address).resolve("a", "v1")


def test_an_unreadable_digest_header_is_an_error() -> None:
    answer = Answer(200, {**HEADERS, "Docker-Content-Digest": "sha256:zz"}, RAW.raw)
    with ExchangeServer(Expect("GET", ".*", answer)) as server, pytest.raises(RegistryPipelinesError):
        DistributionRegistry(server.address).get_manifest("a", "v1")


def test_an_answer_that_is_no_list_of_referrers_is_none_and_the_tag_is_asked() -> None:
    for body in (RAW.raw, b"<html>", b"{}"):
        with ExchangeServer(
            Expect("GET", f".*/referrers/{RAW.digest}", Answer(200, {}, body)),
            Expect("GET", f".*/referrers/{Digest.of(b'')}", Answer(200, {}, body)),  # whether it says so of everything
            Expect("GET", f".*/manifests/{RAW.digest.fallback_tag}", Answer(404)),
        ) as server:
            assert DistributionRegistry(server.address).referrers("a", RAW.digest) == []


def test_names_are_checked_before_anything_is_sent() -> None:
    with ExchangeServer() as server:
        registry = DistributionRegistry(server.address)
        with pytest.raises(ReferenceInvalid):
            registry.resolve("a/../b", "v1")
        with pytest.raises(ReferenceInvalid):
            registry.resolve("a", "v1?x=y")
        with pytest.raises(InputError):
            registry.get_manifest("a", "sha256:short")


@pytest.mark.parametrize("host", ["", "user:secret@host", "host/path", "host:port", "ho st", "[::1", "host:0", "hö.st"])
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        DistributionRegistry(host)
    assert "@" not in str(caught.value) or "secret" in host


# Answers that are not HTTP, or not to the end


@pytest.mark.parametrize(
    "answer",
    [
        Answer(raw=b"SSH-2.0-OpenSSH_9.2\r\n"),
        Answer(raw=b"\x15\x03\x03\x00\x02\x02\x16"),
        Answer(raw=b"HTTP/1.1 abc Bad\r\n\r\n"),
        Answer(raw=b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nshort"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nshort"),
        Answer(raw=b""),
        Answer(raw=b"HTTP/1.1 2"),
    ],
)
def test_broken_answers_are_errors_of_ours(answer: Answer) -> None:
    with ExchangeServer(Expect("GET", ".*", answer)) as server, pytest.raises(RegistryError):
        DistributionRegistry(server.address, retries=ONCE).get_manifest("a", "v1")


@given(st.integers(0, 400))
@settings(max_examples=25, deadline=None)
def test_any_truncation_is_an_error_of_ours(cut: int) -> None:
    whole = Answer(200, HEADERS, RAW.raw).encode("x", head_only=False)
    with (
        ExchangeServer(Expect("GET", ".*", Answer(raw=whole[: min(cut, len(whole) - 1)]))) as server,
        pytest.raises(RegistryPipelinesError),
    ):
        DistributionRegistry(server.address, retries=ONCE).get_manifest("a", "v1")


def test_an_answer_that_never_comes() -> None:
    with ExchangeServer(Expect("GET", ".*", Answer(raw=b"HTTP/1.1 200 OK\r\n", hang=True))) as server:
        registry = DistributionRegistry(server.address, retries=ONCE, timeouts=Timeouts(stall_s=patient(0.2)))
        with pytest.raises(Stalled):
            registry.get_manifest("a", "v1")


def test_a_kept_connection_that_the_registry_closed_is_replaced(tmp_path: Path) -> None:
    [port] = free_ports(1)
    with EmbeddedServer(tmp_path, port=port) as server:
        registry = DistributionRegistry(server.address, retries=ONCE)
        registry.ping()
    with EmbeddedServer(tmp_path, port=port):
        registry.ping()
    with pytest.raises(Unavailable, match="nothing listens"):
        registry.ping()


def test_connections_that_close_are_not_kept() -> None:
    with ExchangeServer(
        Expect("GET", ".*", Answer(200, HEADERS, RAW.raw, close=True)),
        Expect("GET", ".*", Answer(200, HEADERS, RAW.raw)),
    ) as server:
        registry = DistributionRegistry(server.address)
        assert registry.get_manifest("a", "v1") == registry.get_manifest("a", "v1")
    assert server.connections == 2


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(Unavailable, match="does not resolve"):
        DistributionRegistry("no-such-host.invalid", retries=ONCE, plain_http=True).ping()


# Redirects


def test_a_redirect_from_tls_to_plain_is_refused(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "pem")
    with EmbeddedServer(tmp_path / "r", certificate=made.certificate, key=made.key, wrap=_to_plain) as server:
        registry = DistributionRegistry(server.address, ca_file=made.ca, retries=ONCE)
        with pytest.raises(RegistryError, match="from TLS to plain"):
            registry.open_blob("a", DIGEST)


def _to_plain(handler: Handler) -> Handler:
    return lambda request: Response(307, [("Location", "http://127.0.0.1:1/secret")])


def test_endless_redirects() -> None:
    ways = [Answer(307, {"Location": f"/v2/a/blobs/again{number}"}) for number in range(6)]
    with (
        ExchangeServer(*[Expect("GET", ".*", way) for way in ways]) as server,
        pytest.raises(RegistryError, match="redirected more than 5 times"),
    ):
        DistributionRegistry(server.address).open_blob("a", DIGEST)


@pytest.mark.parametrize("location", ["ftp://x/y", "http://[::1/", "http://:80/", "gopher:", "http://host:99999/"])
def test_redirects_to_what_is_no_address(location: str) -> None:
    with (
        ExchangeServer(Expect("GET", ".*", Answer(302, {"Location": location}))) as server,
        pytest.raises(RegistryPipelinesError),
    ):
        DistributionRegistry(server.address, retries=ONCE).open_blob("a", DIGEST)
