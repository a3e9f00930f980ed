"""Bodies and headers as registries, object stores and caches really send them: read where other clients read them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import (
    ContentError,
    DigestMismatch,
    NotFound,
    RegistryError,
    RegistryPipelinesError,
    Unavailable,
)
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import EMPTY as EMPTY_CONFIG
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.client.reader import make_reader, read_content_range
from registry_pipelines.registry.client.response import Response as Opened
from registry_pipelines.registry.client.wire import Answer as Wire
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded.application import Handler
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.responses import Response
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.verify import compare
from tests.doubles.exchanges import Answer, ExchangeServer, Expect
from tests.doubles.fault_registry import FaultRegistry, Rewrite
from tests.registry.contract import upload
from tests.transfer.conftest import Graphs

ONCE = Retries(attempts=1)
CONTENT = b"0123456789"
DIGEST = Digest.of(CONTENT)
BLOB = Descriptor(media_type="application/octet-stream", digest=DIGEST, size=len(CONTENT))
RAW = manifest_bytes(Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=EMPTY_CONFIG, layers=()))


def chunked(content: bytes, status: int = 200, more: str = "") -> Answer:
    head = f"HTTP/1.1 {status} x\r\n{more}Transfer-Encoding: chunked\r\n\r\n".encode()
    return Answer(raw=head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content))


def until_closed(content: bytes) -> Answer:
    return Answer(raw=b"HTTP/1.1 200 x\r\n\r\n" + content)


def blob(*answers: Answer, descriptor: Descriptor = BLOB) -> bytes:
    with ExchangeServer(*[Expect("GET", "/v2/a/blobs/.*", answer) for answer in answers]) as server:
        place = Place(DistributionRegistry(server.address, retries=ONCE), "a")
        return read_blob(place, descriptor, limit=100)


class Received:
    """Bytes, read like a socket."""

    def __init__(self, raw: bytes) -> None:
        self._left = raw

    def recv_into(self, buffer: memoryview, /) -> int:
        piece, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


def part(address: str, start: int, stop: int | None) -> bytes:
    registry = DistributionRegistry(address, retries=ONCE)
    body, buffer = b"", memoryview(bytearray(100))
    with registry.open_blob("a", DIGEST, start=start, stop=stop) as reader:
        while count := reader.readinto(buffer):
            body += buffer[:count]
    return body


def sends_to(address: str, path: str) -> list[Expect]:
    """Redirects of a HEAD and a GET."""
    answer = Answer(307, {"Location": f"http://{address}{path}"})
    return [Expect(verb, "/v2/.*", answer) for verb in ("HEAD", "GET")]


# Lengths


@pytest.mark.parametrize("answer", [chunked(CONTENT), until_closed(CONTENT)], ids=["chunked", "closed"])
def test_the_descriptor_says_how_long_a_blob_is(answer: Answer) -> None:
    assert blob(answer) == CONTENT


def test_more_than_the_descriptor_says() -> None:
    with pytest.raises(DigestMismatch, match="longer than the 10 bytes"):
        blob(chunked(CONTENT + b"x"))


def test_less_than_the_descriptor_says_is_read_on() -> None:
    rest = chunked(CONTENT[4:], 206, "Content-Range: bytes 4-9/*\r\n")
    assert blob(until_closed(CONTENT[:4]), rest) == CONTENT
    with pytest.raises(Unavailable, match="6 bytes early"):
        blob(*[until_closed(CONTENT[:4])] * 4)


def test_a_copy_without_lengths(tmp_path: Path) -> None:
    """Small blobs, and one that is read in parts."""
    graphs = Graphs()
    layer = graphs.noise(PART_BYTES + 5)
    with (
        EmbeddedServer(tmp_path / "from") as server,
        FaultRegistry(server.address) as faults,
        EmbeddedServer(tmp_path / "to") as other,
    ):
        source, target = (Place(DistributionRegistry(one.address, retries=ONCE), "app") for one in (faults, other))
        graphs.image(source, layer, tag="v1")
        faults.play("GET", ".*/blobs/.*", Rewrite(drop=("Content-Length",)))
        faults.play("HEAD", ".*/blobs/.*", Rewrite(drop=("Content-Length",)))
        copy_closure(source, "v1", [target])
        assert compare(source, target, "v1", content=True) == []


def test_a_copy_of_more_than_the_manifest_says(tmp_path: Path) -> None:
    def longer(handler: Handler) -> Handler:
        def answer(request: Request) -> Response:
            response = handler(request)
            if request.method != "GET" or "/blobs/" not in request.path or response.file is None:
                return response
            body = response.file.stream.read() + b"x"
            response.close_file()
            return replace(response, body=body, file=None, content_length=None)

        return answer

    graphs = Graphs()
    with (
        EmbeddedServer(tmp_path / "from", wrap=longer) as server,
        FaultRegistry(server.address) as faults,
        EmbeddedServer(tmp_path / "to") as other,
    ):
        source, target = (Place(DistributionRegistry(one.address, retries=ONCE), "app") for one in (faults, other))
        graphs.image(source, graphs.noise(100), tag="v1")
        faults.play("GET", ".*/blobs/.*", Rewrite(drop=("Content-Length",)))
        with pytest.raises(ContentError, match=r"more than|longer than"):
            copy_closure(source, "v1", [target])


@pytest.mark.parametrize(
    ("answer", "start", "stop"),
    [
        (Answer(206, {"Content-Range": "bytes 2-4/*"}, b"234"), 2, 5),
        (Answer(206, {"Content-Range": "bytes 2-9/*"}, CONTENT[2:]), 2, None),
        (Answer(206, {"Content-Range": "bytes 2-4/10"}, b"234"), 2, 5),
        (Answer(200, {"Content-Range": "bytes 2-4/10"}, b"234"), 2, 5),
        (Answer(200, {"Content-Range": "bytes 0-9/10"}, CONTENT), 0, 5),
        (Answer(200, {}, CONTENT), 2, 5),
        (chunked(CONTENT), 2, 5),
        (chunked(CONTENT), 2, None),
        (chunked(b"234", 206, "Content-Range: bytes 2-4/10\r\n"), 2, 5),
    ],
)
def test_ranges_that_are_read(answer: Answer, start: int, stop: int | None) -> None:
    with ExchangeServer(Expect("GET", ".*", answer, {"Range": "bytes=.*"})) as server:
        assert part(server.address, start, stop) == CONTENT[start:stop]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Content-Range": "bytes 3-5/*"}, "asked for bytes 2-4, the registry gave 3-5"),
        ({"Content-Range": "bytes 2-7/*"}, "the registry gave 2-7"),
        ({"Content-Type": "multipart/byteranges; boundary=x"}, "several"),
        ({}, "Content-Range ''"),
    ],
)
def test_ranges_that_are_refused(headers: dict[str, str], said: str) -> None:
    with (
        ExchangeServer(Expect("GET", ".*", Answer(206, headers, b"234"))) as server,
        pytest.raises(RegistryError, match=said),
    ):
        DistributionRegistry(server.address, retries=ONCE).open_blob("a", DIGEST, start=2, stop=5)


@given(value=st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=30))
def test_any_content_range_is_read_or_refused(value: str) -> None:
    raw = b"HTTP/1.1 206 x\r\nContent-Length: 3\r\nContent-Range: " + value.encode("latin-1") + b"\r\n\r\n234"
    answer = Opened(
        Wire(Received(raw), "GET"), url="http://r/", where="r", reusable=False, peer="", release=lambda _keep: None
    )
    content_range = read_content_range(answer)
    try:
        reader = make_reader(answer, start=2, stop=5, where="r")
    except RegistryPipelinesError:
        assert content_range is None or (content_range.start, content_range.stop) != (2, 5)
    else:
        assert content_range is not None
        assert (content_range.start, content_range.stop) == (2, 5)
        assert reader.size == content_range.size


def test_a_registry_that_knows_no_open_range(tmp_path: Path) -> None:
    """Then the whole is read, past what comes before."""
    refused = Expect("GET", ".*", Answer(416), {"Range": "bytes=4-"})
    with ExchangeServer(refused, Expect("GET", ".*", Answer(200, {}, CONTENT), {"Range": None})) as server:
        assert part(server.address, 4, None) == CONTENT[4:]


# How long is it?

HEAD_200 = Answer(200, length=-1)
ONE = {"Range": "bytes=0-0"}


@pytest.mark.parametrize("head", [Answer(405), Answer(501), HEAD_200, Answer(200, length=0)])
@pytest.mark.parametrize(
    "got",
    [
        [Expect("GET", ".*", Answer(206, {"Content-Range": "bytes 0-0/10"}, b"0"), ONE)],
        [Expect("GET", ".*", Answer(200, {}, CONTENT), ONE)],
        [
            Expect("GET", ".*", Answer(206, {"Content-Range": "bytes 0-0/*"}, b"0"), ONE),
            Expect("GET", ".*", Answer(200, {}, CONTENT), {"Range": None}),
        ],
        [Expect("GET", ".*", chunked(CONTENT), ONE), Expect("GET", ".*", chunked(CONTENT), {"Range": None})],
        [Expect("GET", ".*", Answer(416), ONE), Expect("GET", ".*", until_closed(CONTENT), {"Range": None})],
    ],
    ids=["range", "whole", "star", "chunked", "416"],
)
def test_a_head_that_says_too_little(head: Answer, got: list[Expect]) -> None:
    with ExchangeServer(Expect("HEAD", ".*", head), *got) as server:
        assert DistributionRegistry(server.address, retries=ONCE).blob_size("a", DIGEST) == len(CONTENT)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_a_head_that_an_object_store_refuses(status: int) -> None:
    """Its address is signed for GET alone."""
    with (
        ExchangeServer(
            Expect("HEAD", "/signed.*", Answer(status)),
            Expect("GET", "/signed.*", Answer(206, {"Content-Range": "bytes 0-0/10"}, b"0"), ONE),
        ) as store,
        ExchangeServer(
            Expect("HEAD", "/v2/.*", Answer(307, {"Location": f"http://{store.address}/signed?X-Signature=s"})),
            Expect("GET", "/v2/.*", Answer(307, {"Location": f"http://{store.address}/signed?X-Signature=s"}), ONE),
        ) as server,
    ):
        assert DistributionRegistry(server.address, retries=ONCE).blob_size("a", DIGEST) == len(CONTENT)


def test_an_empty_blob() -> None:
    empty = Digest.of(b"")
    with ExchangeServer(Expect("HEAD", ".*", Answer(200, length=0))) as server:
        assert DistributionRegistry(server.address, retries=ONCE).blob_size("a", empty) == 0
    answer = Answer(416, {"Content-Range": "bytes */0"})
    with ExchangeServer(Expect("HEAD", ".*", Answer(405)), Expect("GET", ".*", answer, ONE)) as server:
        assert DistributionRegistry(server.address, retries=ONCE).blob_size("a", empty) == 0
    assert blob(until_closed(b""), descriptor=Descriptor(media_type="x", digest=empty, size=0)) == b""


def test_a_blob_that_is_not_there() -> None:
    with ExchangeServer(Expect("HEAD", ".*", Answer(404))) as server:
        assert DistributionRegistry(server.address, retries=ONCE).blob_size("a", DIGEST) is None
    with ExchangeServer(Expect("HEAD", ".*", Answer(405)), Expect("GET", ".*", Answer(404))) as server:
        assert DistributionRegistry(server.address, retries=ONCE).blob_size("a", DIGEST) is None


# Manifests


@pytest.mark.parametrize(
    "kind",
    [
        f"{media_types.OCI_MANIFEST}; charset=utf-8",
        media_types.OCI_MANIFEST.upper(),
        "application/json; charset=utf-8",
        "text/html",
        "binary/octet-stream",
        "application/x-www-form-urlencoded",
        "",
    ],
)
@pytest.mark.parametrize("digest", [str(RAW.digest), "", f'"{RAW.digest}"', "blake3:00", str(RAW.digest).upper()])
def test_types_and_digests_of_manifests(kind: str, digest: str) -> None:
    headers = {"Content-Type": kind, "Docker-Content-Digest": digest}
    with ExchangeServer(Expect("GET", ".*", Answer(200, headers, RAW.raw))) as server:
        assert DistributionRegistry(server.address, retries=ONCE).get_manifest("a", "v1") == RAW


def test_a_digest_of_another_algorithm_than_asked_for() -> None:
    """docker-registry names the sha256 of what was asked for by sha512."""
    other = Digest.of(RAW.raw, "sha512")
    headers = {"Content-Type": media_types.OCI_MANIFEST, "Docker-Content-Digest": str(RAW.digest)}
    with ExchangeServer(
        Expect("HEAD", ".*", Answer(200, {**headers, "Content-Length": str(len(RAW.raw))})),
        Expect("GET", ".*", Answer(200, headers, RAW.raw)),
    ) as server:
        registry = DistributionRegistry(server.address, retries=ONCE)
        assert registry.resolve("a", other).digest == other
        assert registry.get_manifest("a", other).digest == other


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_a_manifest_behind_an_address_for_get_alone(status: int) -> None:
    headers = {"Content-Type": media_types.OCI_MANIFEST}
    with (
        ExchangeServer(
            Expect("HEAD", "/signed.*", Answer(status)), Expect("GET", "/signed.*", Answer(200, headers, RAW.raw))
        ) as store,
        ExchangeServer(*sends_to(store.address, "/signed?s=1")) as server,
    ):
        assert DistributionRegistry(server.address, retries=ONCE).resolve("a", "v1").digest == RAW.digest


def test_a_manifest_that_is_gone_behind_a_redirect() -> None:
    with (
        ExchangeServer(Expect("HEAD", "/there", Answer(404)), Expect("GET", "/there", Answer(404))) as store,
        ExchangeServer(*sends_to(store.address, "/there")) as server,
        pytest.raises(NotFound),
    ):
        DistributionRegistry(server.address, retries=ONCE).resolve("a", "v1")


# Another program's registry


@pytest.fixture
def crane_registry(peer: Callable[[str], str]) -> Iterator[str]:
    """go-containerregistry's own, in memory."""
    command = [peer("crane"), "registry", "serve", "--address", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            while "serving on port" not in line and line:
                line = process.stderr.readline()
            yield f"127.0.0.1:{line.split()[-1]}"
        finally:
            process.kill()


@pytest.mark.peer("crane")
def test_blobs_of_cranes_registry(crane_registry: str) -> None:
    registry = DistributionRegistry(crane_registry, retries=ONCE)
    upload(registry, "a", CONTENT)
    assert registry.blob_size("a", DIGEST) == len(CONTENT)
    for start, stop in ((0, None), (4, None), (4, 7), (0, 3)):
        assert part(crane_registry, start, stop) == CONTENT[start:stop]
