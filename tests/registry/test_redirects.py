"""Redirects: which are followed, with what, and where they may lead."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry_pipelines.dialing import Address
from registry_pipelines.errors import InputError, RedirectRefused, RegistryError, Unauthorized, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.client.networks import kind_of
from registry_pipelines.registry.client.origins import Origin
from registry_pipelines.registry.client.redirects import Allowed, Guard
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded.application import Handler
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.responses import Response
from registry_pipelines.registry.protocol import Parcel, Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.verify import compare
from tests.doubles.exchanges import Answer, ExchangeServer, Expect
from tests.needs import missing
from tests.patience import patient
from tests.registry.contract import upload
from tests.registry.faulty import Once
from tests.transfer.conftest import Graphs

ONCE = Retries(attempts=1)
CONTENT = b"content"
DIGEST = Digest.of(CONTENT)
BLOB = Descriptor(media_type="application/octet-stream", digest=DIGEST, size=len(CONTENT))
NO_LOGIN = {"Authorization": None}


# Where they lead


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    """What happened in networks of their own; see other_networks."""
    own = [] if os.getuid() == 0 else ["--map-root-user"]
    if not shutil.which("unshare") or not shutil.which("ip"):
        missing("unshare and ip are not installed")
    if subprocess.run(["unshare", "--net", *own, "true"], capture_output=True).returncode:
        missing("nobody may make network namespaces here")
    command = ["unshare", "--net", *own, sys.executable, "-m", "tests.registry.other_networks"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=patient(300))
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    "case",
    [
        "public to inner",
        "public to metadata",
        "public to carrier",
        "public to loopback",
        "public to mapped",
        "inner to metadata",
        "another port is allowed",
        "token service inside",
        "upload inside",
        "carried inside",
        "a name inside",
        "a name that turns",
    ],
)
def test_nobody_sends_us_into_our_own_network(outcomes: dict[str, Any], case: str) -> None:
    assert outcomes[case]["said"].startswith("RedirectRefused"), outcomes[case]
    assert "redirects: {allow: [" in outcomes[case]["said"]
    assert outcomes[case]["connections"] == 0


@pytest.mark.parametrize(
    "case",
    [
        "public to public",
        "inner to inner",
        "allowed as 10.9.9.9",
        "allowed as 10.9.9.9:5000",
        "allowed as 10.0.0.0/8",
        "metadata allowed",
        "a name allowed",
        "through a proxy",
    ],
)
def test_what_is_permitted_is_followed(outcomes: dict[str, Any], case: str) -> None:
    assert outcomes[case]["said"] == repr(CONTENT), outcomes[case]


def test_a_next_page_elsewhere_is_not_asked(outcomes: dict[str, Any]) -> None:
    assert outcomes["next page inside"]["connections"] == 0
    assert "another host" in outcomes["next page inside"]["said"]


V4 = st.ip_addresses(v=4).map(str)
ADDRESSES = st.one_of(V4, V4.map(lambda one: f"::ffff:{one}"), st.ip_addresses(v=6).map(str))


@given(address=ADDRESSES, named_by=st.one_of(st.just(""), ADDRESSES))
@example(address="10.0.0.1", named_by="")
@example(address="::ffff:127.0.0.1", named_by="192.0.2.1")
@example(address="fe80::1%eth0", named_by="10.0.0.1")
def test_any_address_is_judged(address: str, named_by: str) -> None:
    outside = not named_by or kind_of(named_by) == "public"
    guard = Guard(Origin("https", "store.example", 443), outside, named_by, "reading", "r")
    kind = kind_of(address)
    passes = address == named_by or kind == "public" or (kind == "inner" and not outside)
    places = [Address(socket.AF_INET, (address, 443))]
    if passes:
        guard.check(address)
        assert guard.choose(places) == places
    else:
        with pytest.raises(RedirectRefused):
            guard.check(address)
        with pytest.raises(RedirectRefused):
            guard.choose(places)


@given(address=V4)
def test_globally_reachable_is_what_the_standard_library_calls_so(address: str) -> None:
    """But for the documentation networks, the benchmarking network, AS112, and Azure's wire server."""
    ip = ipaddress.ip_address(address)
    ours = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "192.0.0.0/24", "168.63.129.16/32")
    if not ip.is_multicast and not any(ip in ipaddress.ip_network(one) for one in ours):
        assert (kind_of(address) == "public") == ip.is_global
    assert kind_of(f"::ffff:{address}") == kind_of(address)
    assert kind_of(f"64:ff9b::{address}") == kind_of(address)
    assert kind_of(f"64:ff9b:1::{address}") == "inner", "translated within a network; where to, nobody knows"


@given(
    origin=st.builds(
        Origin,
        st.just("https"),
        st.from_regex(r"[a-z0-9]{1,8}(\.[a-z]{2,8}){1,3}", fullmatch=True),
        st.integers(1, 65535),
    ),
    address=V4,
)
def test_every_way_to_allow_a_place(origin: Origin, address: str) -> None:
    parent = origin.host.partition(".")[2]
    for text in (origin.host, origin.host.upper(), f"*.{parent}", str(origin), address, f"{address}/8"):
        if text == f"{address}/8":
            text = str(ipaddress.ip_network(text, strict=False))
        assert Allowed.parse(text).fits(origin, address), text
    assert not Allowed.parse(f"*.{origin.host}").fits(origin, address)
    assert not Allowed.parse(f"x{origin.host}").fits(origin, address)
    assert not Allowed.parse(f"{origin.host}:{origin.port % 65535 + 1}").fits(origin, address)


@given(st.text(max_size=40))
@example("10.1.2.3/33")
@example("10.1.2.3/8")
@example("https://store.example")
@example("store.example:99999")
@example("[::1")
@example("*")
def test_any_text_is_a_place_or_refused(text: str) -> None:
    try:
        allowed = Allowed.parse(text)
    except InputError as error:
        assert error.do
    else:
        assert allowed.host or allowed.network is not None


# Which are followed


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_reading_follows_all_of_them_without_the_log_in(status: int) -> None:
    with (
        ExchangeServer(Expect("GET", "/elsewhere/tags", Answer(200, body={"tags": ["v1"]}), NO_LOGIN)) as other,
        ExchangeServer(
            Expect("GET", "/v2/a/tags/list.*", Answer(401, {"WWW-Authenticate": "Basic"})),
            Expect(
                "GET",
                "/v2/a/tags/list.*",
                Answer(status, {"Location": f"http://{other.address}/elsewhere/tags"}),
                {"Authorization": "Basic .*"},
            ),
        ) as server,
    ):
        client = DistributionRegistry(server.address, username="u", password="p", retries=ONCE)
        assert list(client.tags("a")) == ["v1"]


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_write_never_becomes_something_else(status: int) -> None:
    with ExchangeServer(
        Expect("POST", "/v2/a/blobs/uploads/", Answer(status, {"Location": "/other?X-Signature=secret"}))
    ) as server:
        with pytest.raises(RedirectRefused, match=f"HTTP {status}.*307 and 308 keep a POST") as caught:
            DistributionRegistry(server.address, retries=ONCE).begin_upload("a")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [307, 308])
def test_a_whole_upload_that_is_redirected(status: int) -> None:
    """Each step; the body is read again from its source. Location belongs to the address that answered."""
    with (
        ExchangeServer(
            Expect("POST", "/v2/a/blobs/uploads/", Answer(202, {"Location": "up/1"}), NO_LOGIN),
            Expect("PUT", f"/moved/1.*{DIGEST}", Answer(201), NO_LOGIN, CONTENT),
        ) as other,
        ExchangeServer(
            Expect(
                "POST",
                "/v2/a/blobs/uploads/",
                Answer(status, {"Location": f"http://{other.address}/v2/a/blobs/uploads/"}),
            )
        ) as server,
    ):
        other._expected.insert(
            1,
            Expect(
                "PUT",
                f"/v2/a/blobs/uploads/up/1.*{DIGEST}",
                Answer(status, {"Location": f"/moved/1?digest={DIGEST}"}),
                NO_LOGIN,
                CONTENT,
            ),
        )
        DistributionRegistry(server.address, retries=ONCE).upload_blob("a", BLOB, BytesSource(CONTENT))


def test_content_that_cannot_be_read_twice_is_not_sent_twice() -> None:
    with (
        ExchangeServer(
            Expect("POST", ".*", Answer(202, {"Location": "/up/1"})),
            Expect("PUT", "/up/1.*", Answer(307, {"Location": "/moved/1"})),
            Expect("DELETE", "/up/1", Answer(204)),
        ) as server,
        pytest.raises(RedirectRefused, match="cannot be read a second time"),
    ):
        DistributionRegistry(server.address, retries=ONCE).upload_blob("a", BLOB, Once(CONTENT))


class Carried:
    """A carrier whose registry redirects it."""

    sent_bytes = 0

    def carry(self, parcel: Parcel) -> bytes:
        return b"HTTP/1.1 307 x\r\nLocation: /moved\r\nContent-Length: 0\r\n\r\n"


def test_a_stream_of_the_courier_is_not_redirected(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        client = DistributionRegistry(server.address, retries=ONCE)
        session = client.begin_upload("a")
        with pytest.raises(Unsupported) as caught:
            client.append_carried(session, Carried())
        assert caught.value.status == 307
        client.append_upload(session, memoryview(CONTENT))
        client.commit_upload(session, DIGEST)


def test_circles_end_at_once() -> None:
    with (
        ExchangeServer(
            Expect("GET", "/v2/", Answer(307, {"Location": "/b"})),
            Expect("GET", "/b", Answer(302, {"Location": "/v2/"})),
        ) as server,
        pytest.raises(RedirectRefused, match="in a circle"),
    ):
        DistributionRegistry(server.address).ping()


def test_another_host_that_wants_a_log_in() -> None:
    with (
        ExchangeServer(Expect("GET", "/v2/", Answer(401, {"WWW-Authenticate": "Basic"}), NO_LOGIN)) as other,
        ExchangeServer(Expect("GET", "/v2/", Answer(308, {"Location": f"http://{other.address}/v2/"}))) as server,
        pytest.raises(Unauthorized, match=f"redirected to {other.address}") as caught,
    ):
        DistributionRegistry(server.address, username="u", password="p").ping()
    assert "registry's host" in caught.value.do


def test_pages_go_on_where_they_were_answered() -> None:
    """registry.k8s.io sends its list of tags to a host whose relative Link belongs there."""
    more = {"Link": '</v2/x/tags/list?last=v1>; rel="next"'}
    with (
        ExchangeServer(
            Expect("GET", "/v2/x/tags/list", Answer(200, more, {"tags": ["v1"]}), NO_LOGIN),
            Expect("GET", r"/v2/x/tags/list\?last=v1", Answer(200, body={"tags": ["v2"]}), NO_LOGIN),
        ) as other,
        ExchangeServer(
            Expect("GET", "/v2/a/tags/list.*", Answer(307, {"Location": f"http://{other.address}/v2/x/tags/list"}))
        ) as server,
    ):
        assert list(DistributionRegistry(server.address).tags("a")) == ["v1", "v2"]


def test_pages_do_not_go_to_a_third_host() -> None:
    more = {"Link": '<http://127.0.0.1:9/v2/x/tags/list>; rel="next"'}
    with (
        ExchangeServer(Expect("GET", "/v2/x/tags/list", Answer(200, more, {"tags": ["v1"]}))) as other,
        ExchangeServer(
            Expect("GET", "/v2/a/tags/list.*", Answer(307, {"Location": f"http://{other.address}/v2/x/tags/list"}))
        ) as server,
        pytest.raises(RegistryError, match="another host"),
    ):
        list(DistributionRegistry(server.address).tags("a"))


# The token service


def challenge(realm: str) -> Answer:
    return Answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="r"'})


def test_a_token_service_that_redirects() -> None:
    with (
        ExchangeServer(Expect("GET", "/there", Answer(200, body={"token": "t2"}), NO_LOGIN)) as other,
        ExchangeServer(
            Expect("GET", "/v2/", challenge("http://{address}/token")),
            Expect("GET", "/token.*", Answer(302, {"Location": "/token2"}), {"Authorization": "Basic .*"}),
            Expect(
                "GET",
                "/token2",
                Answer(307, {"Location": f"http://{other.address}/there"}),
                {"Authorization": "Basic .*"},
            ),
            Expect("GET", "/v2/", Answer(200), {"Authorization": "Bearer t2"}),
        ) as server,
    ):
        DistributionRegistry(server.address, username="u", password="p").ping()


def identity(folder: Path, host: str) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({"auths": {host: {"identitytoken": "refresh"}}}))
    return path


def test_a_refresh_token_follows_on_the_same_host_only(tmp_path: Path) -> None:
    with ExchangeServer(
        Expect("GET", "/v2/", challenge("http://{address}/token")),
        Expect("POST", "/token", Answer(307, {"Location": "/token2"})),
        Expect("POST", "/token2", Answer(200, body={"access_token": "t"})),
        Expect("GET", "/v2/", Answer(200), {"Authorization": "Bearer t"}),
    ) as server:
        DistributionRegistry(server.address, docker_config=identity(tmp_path, server.address)).ping()
    with (
        ExchangeServer() as other,
        ExchangeServer(
            Expect("GET", "/v2/", challenge("http://{address}/token")),
            Expect("POST", "/token", Answer(307, {"Location": f"http://{other.address}/token"})),
        ) as server,
        pytest.raises(RedirectRefused, match="refresh token"),
    ):
        DistributionRegistry(server.address, docker_config=identity(tmp_path, server.address)).ping()


def test_redirects_to_itself_stay_logged_in(tmp_path: Path) -> None:
    """As a registry that answers a wrong spelling with the right one."""
    with EmbeddedServer(tmp_path / "r") as server:
        upload(DistributionRegistry(server.address), "a", CONTENT)
        with ExchangeServer(
            Expect("GET", "/v2/a/blobs/.*", Answer(401, {"WWW-Authenticate": "Basic"})),
            Expect("GET", "/v2/a/blobs/.*", Answer(301, {"Location": "/v2/b"}), {"Authorization": "Basic .*"}),
            Expect("GET", "/v2/b", Answer(200, body=CONTENT), {"Authorization": "Basic .*"}),
        ) as front:
            client = DistributionRegistry(front.address, username="u", password="p")
            with client.open_blob("a", DIGEST) as reader:
                assert reader.size == len(CONTENT)


# Other programs agree


@pytest.fixture
def moved(tmp_path: Path) -> Iterator[tuple[str, EmbeddedServer]]:
    """A host that sends everything but the API's root to a registry on another port, as registry.k8s.io does
    (archeio, cmd/archeio/internal/app/handlers.go at 4c89177: all but /v2/ and blobs, to *.pkg.dev)."""

    def away(_: Handler) -> Handler:
        def answer(request: Request) -> Response:
            if request.path == "/v2/":
                return Response(200)
            query = f"?{urllib.parse.urlencode(request.query, doseq=True)}" if request.query else ""
            return Response(307, [("Location", f"http://{real.address}{request.path}{query}")])

        return answer

    with EmbeddedServer(tmp_path / "real") as real, EmbeddedServer(tmp_path / "front", wrap=away) as front:
        graphs = Graphs()
        graphs.image(Place(DistributionRegistry(real.address), "app"), graphs.noise(100), tag="v1")
        graphs.image(Place(DistributionRegistry(real.address), "app"), graphs.noise(101), tag="v2")
        yield front.address, real


@pytest.mark.peer("crane", "oras", "skopeo")
def test_others_read_a_registry_that_redirects_alike(
    moved: tuple[str, EmbeddedServer], peer: Callable[[str], str]
) -> None:
    address, _ = moved
    client = DistributionRegistry(address)

    def said(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    tags = sorted(client.tags("app"))
    assert tags == ["v1", "v2"]
    assert said(peer("crane"), "ls", "--insecure", f"{address}/app").split() == tags
    assert said(peer("oras"), "repo", "tags", "--plain-http", f"{address}/app").split() == tags
    listed = json.loads(said(peer("skopeo"), "list-tags", "--tls-verify=false", f"docker://{address}/app"))
    assert listed["Tags"] == tags
    for tag in tags:
        digest = client.resolve("app", tag).digest
        assert said(peer("crane"), "digest", "--insecure", f"{address}/app:{tag}").strip() == digest
        raw = said(peer("skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{address}/app:{tag}")
        assert Digest.of(raw.encode()) == digest


def test_a_registry_that_is_somewhere_else_is_written_too(moved: tuple[str, EmbeddedServer], tmp_path: Path) -> None:
    """Every request of a push with a blob in parts is redirected."""
    address, real = moved
    graphs = Graphs()
    with EmbeddedServer(tmp_path / "from") as server:
        source = Place(DistributionRegistry(server.address), "new")
        graphs.image(source, graphs.noise(PART_BYTES + 9), tag="v1")
        copy_closure(
            source, "v1", [Place(DistributionRegistry(address), "new")], engine=Engine(state=tmp_path / "state")
        )
        assert compare(source, Place(DistributionRegistry(real.address), "new"), "v1", content=True) == []
