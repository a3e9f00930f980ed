"""What registries do wrong, and what the client makes of it: played by the fault registry before real registries."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry_pipelines.errors import (
    DigestMismatch,
    NotFound,
    RateLimited,
    RegistryError,
    Stalled,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.artifacts import attach, attached
from registry_pipelines.registry.blobs import BytesSource, push_blob, read_blob
from registry_pipelines.registry.client import DistributionRegistry, Retries, Timeouts
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.interface import Place
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.fault_registry import (
    Corrupt,
    CutAnswer,
    CutRequest,
    DropQuery,
    FaultRegistry,
    HoldAnswer,
    LoseAnswer,
    NoRange,
    Redirect,
    Rewrite,
    Status,
    StuckRange,
)
from tests.registry.contract import blob_of, image, read, upload

CONTENT = hashlib.shake_128(b"content").digest(3 * 1024 * 1024 + 5)
DIGEST = Digest.of(CONTENT)
BLOBS = r"/v2/.*/blobs/sha256:.*"
UPLOADS = r"/v2/.*/blobs/uploads/.*"
MANIFESTS = r"/v2/.*/manifests/.*"
KIND = "application/vnd.example.note.v1+json"


@pytest.fixture(params=["embedded", pytest.param("docker-registry", marks=pytest.mark.peer("docker-registry"))])
def kind(request: pytest.FixtureRequest) -> str:
    """Which real registry is behind the fault registry."""
    return str(request.param)


@pytest.fixture
def faults(kind: str, tmp_path: Path, peer: Callable[[str], str]) -> Iterator[FaultRegistry]:
    """The fault registry before each of two real registries."""
    if kind == "embedded":
        with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as faults:
            yield faults
    else:
        program = peer("docker-registry")
        with DockerRegistry(program, tmp_path / "registry") as other, FaultRegistry(other.address) as faults:
            yield faults


@pytest.fixture
def waits() -> list[float]:
    """The seconds the client wanted to wait, instead of waiting."""
    return []


@pytest.fixture
def registry(faults: FaultRegistry, waits: list[float]) -> Iterator[DistributionRegistry]:
    client = DistributionRegistry(faults.address, retries=Retries(attempts=3, sleep=waits.append))
    yield client
    client.close()


@pytest.fixture
def stored(registry: DistributionRegistry, faults: FaultRegistry) -> DistributionRegistry:
    """The registry with CONTENT in repository ``a``; nothing counted yet."""
    upload(registry, "a", CONTENT)
    faults.reset_counts()
    return registry


class Once:
    """CONTENT as a source that cannot be rewound."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self._source = BytesSource(content)

    def readinto(self, buffer: memoryview, /) -> int:
        return self._source.readinto(buffer)


# Reading


def test_a_cut_body_is_an_error_never_a_short_blob(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("GET", BLOBS, CutAnswer(1_000_000))
    with pytest.raises(Unavailable, match="bytes before its end"):
        read(stored, "a", DIGEST)


def test_a_small_blob_is_read_on_where_it_was_cut(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("GET", BLOBS, CutAnswer(1_000_000), times=2)
    assert read_blob(Place(stored, "a"), blob_of(CONTENT), limit=len(CONTENT)) == CONTENT
    ranges = [one.range for one in faults.requests("GET", BLOBS)]
    assert ranges[0] == "" and all(one.startswith("bytes=") for one in ranges[1:])
    assert len(ranges) == 3
    # What the kernel had not handed over when the connection ended is read again: less than one buffer per cut.
    assert faults.bytes_down < len(CONTENT) + 2 * 1024 * 1024


def test_a_changed_byte_is_found(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("GET", BLOBS, Corrupt(at_byte=2_000_000))
    with pytest.raises(DigestMismatch):
        read_blob(Place(stored, "a"), blob_of(CONTENT), limit=len(CONTENT))


def test_a_changed_manifest_is_found(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    made = image(registry, "a", "text", tag="v1")
    faults.play("GET", MANIFESTS, Corrupt(at_byte=30))
    for reference in ("v1", made.digest):
        with pytest.raises(DigestMismatch):
            registry.get_manifest("a", reference)


def test_a_stalled_body_is_dropped(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    impatient = DistributionRegistry(faults.address, timeouts=Timeouts(stall_s=0.3), retries=Retries(attempts=1))
    faults.play("GET", BLOBS, HoldAnswer(threading.Event(), after_bytes=1_000_000), times=1)
    with pytest.raises(Stalled):
        read(impatient, "a", DIGEST)


def test_a_whole_blob_for_a_range_is_read_past(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("GET", BLOBS, NoRange())
    assert read(stored, "a", DIGEST, start=1_500_000, stop=1_500_100) == CONTENT[1_500_000:1_500_100]
    assert read(stored, "a", DIGEST, start=3_000_000) == CONTENT[3_000_000:]
    assert stored.capabilities("a").range_reads is False


def test_another_range_than_asked_for_is_refused(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("GET", BLOBS, Rewrite(set={"Content-Range": f"bytes 0-99/{len(CONTENT)}"}))
    with pytest.raises(RegistryError, match="gave 0-99"):
        stored.open_blob("a", DIGEST, start=100, stop=200)
    assert stored.blob_size("a", DIGEST) == len(CONTENT)


# Redirects


def test_authorization_never_leaves_the_registry(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.require_tokens()
    faults.play("GET", BLOBS, Redirect())
    assert read(stored, "a", DIGEST) == CONTENT
    assert read(stored, "a", DIGEST, start=5, stop=9) == CONTENT[5:9]
    assert [one.authorization for one in faults.stored] == ["", ""]
    assert all(one.authorization for one in faults.requests("GET", BLOBS)[1:])


def test_a_signed_address_serves_several_ranges(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("GET", BLOBS, Redirect())
    for start in range(0, 500, 100):
        assert read(stored, "a", DIGEST, start=start, stop=start + 100) == CONTENT[start : start + 100]
    assert len(faults.requests("GET", BLOBS)) == 1
    assert len(faults.stored) == 5


@pytest.mark.parametrize("status", [403, 400])
def test_an_expired_signed_address_is_resolved_again(
    stored: DistributionRegistry, faults: FaultRegistry, status: int
) -> None:
    faults.play("GET", BLOBS, Redirect(uses=1, expired=status))
    for start in range(0, 300, 100):
        assert read(stored, "a", DIGEST, start=start, stop=start + 100) == CONTENT[start : start + 100]
    assert [one.status for one in faults.stored] == [206, status, 206, status, 206]


def test_a_signed_address_that_never_works_is_an_error(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("GET", BLOBS, Redirect(uses=0))
    with pytest.raises(RegistryError) as caught:
        stored.open_blob("a", DIGEST, start=1)
    assert "Signature" not in str(caught.value)
    assert len(faults.stored) == 2


# Temporary errors


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_temporary_answers_are_tried_again(
    stored: DistributionRegistry, faults: FaultRegistry, waits: list[float], status: int
) -> None:
    faults.play("GET", BLOBS, Status(status), times=2)
    assert read(stored, "a", DIGEST) == CONTENT
    assert len(waits) == 2
    assert 0.12 <= waits[0] <= 0.25 <= waits[1] <= 0.5


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(
    stored: DistributionRegistry, faults: FaultRegistry, waits: list[float], status: int
) -> None:
    faults.play("GET", BLOBS, Status(status, {"Retry-After": "7"}), times=1)
    assert read(stored, "a", DIGEST) == CONTENT
    assert len(waits) == 1
    assert 7 <= waits[0] < 7.1


def test_a_long_retry_after_is_the_callers(
    stored: DistributionRegistry, faults: FaultRegistry, waits: list[float]
) -> None:
    faults.play("HEAD", BLOBS, Status(429, {"Retry-After": "3600"}))
    with pytest.raises(RateLimited) as caught:
        stored.blob_size("a", DIGEST)
    assert caught.value.retry_after_s == 3600
    assert waits == []


def test_tries_end(stored: DistributionRegistry, faults: FaultRegistry, waits: list[float]) -> None:
    faults.play("GET", MANIFESTS, Status(503, body=b'{"errors":[{"code":"UNAVAILABLE","message":"come back"}]}'))
    with pytest.raises(Unavailable, match=r"UNAVAILABLE: come back") as caught:
        stored.get_manifest("a", "v1")
    assert caught.value.status == 503
    assert len(waits) == 2
    assert len(faults.requests("GET", MANIFESTS)) == 3


def test_refusals_are_not_tried_again(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("GET", MANIFESTS, Status(403))
    with pytest.raises(RegistryError):
        stored.get_manifest("a", "v1")
    assert len(faults.requests("GET", MANIFESTS)) == 1


# Tokens


def test_an_expired_token_is_replaced_in_the_middle(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.require_tokens()
    assert read(stored, "a", DIGEST, start=0, stop=10) == CONTENT[:10]
    faults.expire_tokens()
    assert read(stored, "a", DIGEST, start=10, stop=20) == CONTENT[10:20]
    assert len(faults.requests("GET", r"/token.*")) == 2


def test_a_token_is_fetched_once_for_many_threads(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.require_tokens()
    with ThreadPoolExecutor(8) as pool:
        pieces = list(pool.map(lambda at: read(stored, "a", DIGEST, start=at, stop=at + 9), range(0, 160, 10)))
    assert pieces == [CONTENT[at : at + 9] for at in range(0, 160, 10)]
    assert len(faults.requests("GET", r"/token.*")) == 1


def test_an_expired_token_between_chunks(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.require_tokens()
    session = registry.begin_upload("a")
    for at in range(0, len(CONTENT), 1024 * 1024):
        registry.append_upload(session, memoryview(CONTENT)[at : at + 1024 * 1024])
        faults.expire_tokens()
    registry.commit_upload(session, DIGEST)
    assert registry.blob_size("a", DIGEST) == len(CONTENT)


def test_a_token_that_expires_while_content_is_sent(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.require_tokens()
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{faults.address}/token"'}
    faults.play("PUT", UPLOADS, Status(401, challenge, after_bytes=100_000), times=1)
    registry.upload_blob("a", blob_of(CONTENT), BytesSource(CONTENT))
    assert read(registry, "a", DIGEST) == CONTENT

    faults.play("PUT", UPLOADS, Status(401, challenge, after_bytes=100_000), times=1)
    other = CONTENT[1:]
    with pytest.raises(Unavailable, match="token expired"):
        registry.upload_blob("a", blob_of(other), Once(other))


def test_a_registry_that_always_refuses_the_token(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.require_tokens()
    faults.play("GET", MANIFESTS, Status(401, {"WWW-Authenticate": f'Bearer realm="http://{faults.address}/token"'}))
    with pytest.raises(Unauthorized):
        stored.get_manifest("a", "v1")


# Sending


def test_the_lost_answer_to_the_last_put(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("PUT", UPLOADS, LoseAnswer(), times=1)
    registry.upload_blob("a", blob_of(CONTENT), Once())
    assert faults.bytes_up == len(CONTENT)
    assert read(registry, "a", DIGEST) == CONTENT


def test_the_lost_answer_to_a_commit(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    session = registry.begin_upload("a")
    registry.append_upload(session, memoryview(CONTENT))
    faults.play("PUT", UPLOADS, LoseAnswer(), times=1)
    registry.commit_upload(session, DIGEST)
    assert len(faults.requests("PUT", UPLOADS)) == 1
    assert read(registry, "a", DIGEST) == CONTENT


@pytest.mark.parametrize("fault", [LoseAnswer(), CutRequest(700_000)])
def test_a_broken_chunk_goes_on_or_is_given_up(
    registry: DistributionRegistry, faults: FaultRegistry, kind: str, fault: LoseAnswer | CutRequest
) -> None:
    """The embedded server says how much it has. distribution 2.8 cannot be asked without its last Location; whether it
    noticed a cut in time decides if the second try is taken or refused, never whether wrong content is stored."""
    session = registry.begin_upload("a")
    faults.play("PATCH", UPLOADS, fault, times=1)
    if kind == "docker-registry":
        try:
            registry.append_upload(session, memoryview(CONTENT))
            registry.commit_upload(session, DIGEST)
        except (NotFound, DigestMismatch):
            assert registry.blob_size("a", DIGEST) is None
            registry.upload_blob("a", blob_of(CONTENT), Once())
    else:
        registry.append_upload(session, memoryview(CONTENT)[:2_000_000])
        registry.append_upload(session, memoryview(CONTENT)[2_000_000:])
        registry.commit_upload(session, DIGEST)
        assert faults.bytes_up == len(CONTENT)
    assert read(registry, "a", DIGEST) == CONTENT


def test_a_chunk_that_was_refused_for_a_moment(
    registry: DistributionRegistry, faults: FaultRegistry, waits: list[float]
) -> None:
    session = registry.begin_upload("a")
    faults.play("PATCH", UPLOADS, Status(429, {"Retry-After": "2"}), times=1)
    registry.append_upload(session, memoryview(CONTENT))
    registry.commit_upload(session, DIGEST)
    assert read(registry, "a", DIGEST) == CONTENT
    assert 2 <= waits[0] < 2.1


def test_a_stuck_range_and_201_do_not_disturb(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("PATCH", UPLOADS, StuckRange(), times=2)
    faults.play("PATCH", UPLOADS, Rewrite(status=201))
    session = registry.begin_upload("a")
    for at in range(0, len(CONTENT), 1024 * 1024):
        registry.append_upload(session, memoryview(CONTENT)[at : at + 1024 * 1024])
        assert session.offset == min(at + 1024 * 1024, len(CONTENT))
    registry.commit_upload(session, DIGEST)
    assert read(registry, "a", DIGEST) == CONTENT


def test_a_stuck_range_after_a_lost_chunk_gives_the_upload_up(
    registry: DistributionRegistry, faults: FaultRegistry
) -> None:
    """The registry's offset is behind ours and proves nothing: better start again than store a blob with a hole."""
    session = registry.begin_upload("a")
    registry.append_upload(session, memoryview(CONTENT)[:2_000_000])
    faults.play("GET", UPLOADS, Rewrite(set={"Range": "0-999999"}))
    faults.play("PATCH", UPLOADS, LoseAnswer())
    with pytest.raises((Unavailable, NotFound)):
        registry.append_upload(session, memoryview(CONTENT)[2_000_000:])
    assert len(faults.requests("PATCH", UPLOADS)) == 2


def test_a_session_that_is_gone(registry: DistributionRegistry) -> None:
    session = registry.begin_upload("a")
    registry.append_upload(session, memoryview(b"some bytes"))
    assert registry.upload_offset(session) == 10
    registry.cancel_upload(session)
    assert registry.upload_offset(session) is None
    registry.cancel_upload(session)


def test_a_broken_upload_is_sent_again_where_it_can_be(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("PUT", UPLOADS, CutRequest(1_000_000), times=2)
    registry.upload_blob("a", blob_of(CONTENT), BytesSource(CONTENT))
    assert read(registry, "a", DIGEST) == CONTENT

    faults.play("PUT", UPLOADS, CutRequest(1_000_000), times=1)
    other = CONTENT[1:]
    with pytest.raises(Unavailable):
        registry.upload_blob("a", blob_of(other), Once(other))
    assert registry.blob_size("a", Digest.of(other)) is None
    assert faults.requests("DELETE", UPLOADS), "the broken upload is cancelled"


def test_an_early_refusal_of_a_large_body_is_read(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    refusal = Status(413, body=b'{"errors":[{"code":"SIZE_INVALID","message":"too large"}]}', after_bytes=100_000)
    faults.play("PUT", UPLOADS, refusal)
    large = CONTENT * 4
    with pytest.raises(RegistryError, match="SIZE_INVALID: too large") as caught:
        registry.upload_blob("a", blob_of(large), BytesSource(large))
    assert caught.value.status == 413
    assert faults.bytes_up < len(large)


def test_a_slow_commit_outlives_the_stall_limit(faults: FaultRegistry) -> None:
    """The registry may take long to assemble; only bytes that do not move are a stall."""
    released = threading.Event()
    patient = DistributionRegistry(faults.address, timeouts=Timeouts(stall_s=0.2, commit_s=60), retries=Retries(1))
    faults.play("PUT", UPLOADS, HoldAnswer(released))
    faults.play("GET", r"/v2/", HoldAnswer(released))
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(patient.upload_blob, "a", blob_of(CONTENT), Once())
        with pytest.raises(Stalled):
            patient.ping()
        assert not sending.done()
        released.set()
        sending.result(30)
    assert patient.blob_size("a", DIGEST) == len(CONTENT)


def test_wrong_content_is_never_sent_whole(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    promised = Descriptor(media_type="", digest=DIGEST, size=len(CONTENT))
    with pytest.raises(DigestMismatch):
        registry.upload_blob("a", promised, Once(CONTENT[:-1] + b"x"))
    assert faults.bytes_up < len(CONTENT)
    assert registry.blob_size("a", DIGEST) is None


def test_the_source_error_is_the_callers(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    class Broken:
        def readinto(self, buffer: memoryview, /) -> int:
            raise Stalled("the source stands still")

    with pytest.raises(Stalled, match="the source stands still"):
        registry.upload_blob("a", blob_of(CONTENT), Broken())


# Mounts


def test_202_on_mount_is_no_error_and_leaves_no_upload(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("POST", r".*mount=.*", DropQuery(), times=1)
    assert stored.mount_blob("b", DIGEST, source="a") is False
    assert len(faults.requests("DELETE", UPLOADS)) == 1
    assert stored.mount_blob("b", DIGEST, source="a") is True
    assert faults.bytes_up == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_a_refused_mount_means_upload_it(stored: DistributionRegistry, faults: FaultRegistry, status: int) -> None:
    faults.play("POST", r".*mount=.*", Status(status))
    assert stored.mount_blob("b", DIGEST, source="a") is False


def test_an_unclear_mount_is_an_error(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("POST", r".*mount=.*", Status(503))
    with pytest.raises(Unavailable):
        stored.mount_blob("b", DIGEST, source="a")


# Manifests


@pytest.mark.parametrize(
    "fault",
    [
        Rewrite(drop=("Docker-Content-Digest",)),
        Rewrite(set={"Content-Length": "0"}),
        Rewrite(drop=("Content-Type",)),
        Status(404),
        Status(405),
    ],
)
def test_a_head_that_says_too_little_is_settled_by_get(
    registry: DistributionRegistry, faults: FaultRegistry, fault: Rewrite | Status
) -> None:
    made = image(registry, "a", "text", tag="v1")
    faults.play("HEAD", MANIFESTS, fault)
    assert registry.resolve("a", "v1") == made.descriptor


def test_a_registry_without_digest_headers(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    made = image(registry, "a", "text", tag="v1")
    for method in ("GET", "HEAD", "PUT"):
        faults.play(method, MANIFESTS, Rewrite(drop=("Docker-Content-Digest",)))
    assert registry.get_manifest("a", "v1") == made
    assert registry.resolve("a", "v1") == made.descriptor
    registry.put_manifest("a", made, tag="v2")


def test_head_and_get_accept_the_same(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    made = image(registry, "a", "text", tag="v1")
    faults.play("HEAD", MANIFESTS, Rewrite(set={"Docker-Content-Digest": str(Digest.of(b"a platform's"))}))
    with pytest.raises(DigestMismatch):
        registry.resolve("a", made.digest)


def test_a_stored_manifest_with_another_digest(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    made = image(registry, "a", "text", tag="v1")
    faults.play("PUT", MANIFESTS, Rewrite(set={"Docker-Content-Digest": str(Digest.of(b"another"))}))
    with pytest.raises(DigestMismatch):
        registry.put_manifest("a", made, tag="v2")


def test_a_lost_answer_to_a_manifest(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    made = image(registry, "a", "text")
    faults.play("PUT", MANIFESTS, LoseAnswer(), times=1)
    registry.put_manifest("a", made, tag="v2")
    assert registry.resolve("a", "v2") == made.descriptor


# Lists


def test_pages_that_go_round_in_a_circle(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    image(registry, "a", "text", tag="v1")
    faults.play("GET", r"/v2/a/tags/list.*", Rewrite(set={"Link": '</v2/a/tags/list?n=1000>; rel="next"'}))
    with pytest.raises(RegistryError, match="circle"):
        list(registry.tags("a"))


def test_the_same_page_again_and_again(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    image(registry, "a", "text", tag="v1")
    for number in range(5):
        link = f'<http://{{address}}/v2/a/tags/list?n={number}>; rel="next"'
        faults.play("GET", r"/v2/a/tags/list.*", Rewrite(set={"Link": link}), times=1)
    with pytest.raises(RegistryError, match="again and again"):
        list(registry.tags("a"))


def test_a_next_page_on_another_host_is_not_asked(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    image(registry, "a", "text", tag="v1")
    link = f'<http://{faults.store_address}/v2/a/tags/list>; rel="next"'
    faults.play("GET", r"/v2/a/tags/list.*", Rewrite(set={"Link": link}))
    with pytest.raises(RegistryError, match="another host"):
        list(registry.tags("a"))
    assert faults.stored == []


# Referrers


def test_referrers_404_turns_to_the_fallback_tag(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("GET", r"/v2/.*/referrers/.*", Status(404, body=b"404 page not found"))
    place = Place(registry, "a")
    subject = image(registry, "a", "text", tag="v1").descriptor
    for text in (b"one", b"two", b"one"):
        attach(place, subject=subject, artifact_type=KIND, content=text, media_type=KIND)
    assert subject.digest.fallback_tag in list(registry.tags("a"))
    entries = registry.referrers("a", subject.digest)
    assert [one.artifact_type for one in entries] == [KIND, KIND]
    assert [one.content for one in attached(place, subject.digest, artifact_type=KIND)] == [b"one", b"two"]
    assert registry.capabilities("a").referrers_api is False
    registry.delete_manifest("a", entries[0].digest)
    assert registry.referrers("a", subject.digest) == entries[1:]


@pytest.mark.parametrize("fault", [Status(500), Status(429), Status(503), CutAnswer(10), LoseAnswer()])
def test_unclear_referrers_are_an_error_never_none(
    registry: DistributionRegistry, faults: FaultRegistry, fault: Status | CutAnswer | LoseAnswer
) -> None:
    subject = image(registry, "a", "text", tag="v1").descriptor
    attach(Place(registry, "a"), subject=subject, artifact_type=KIND, content=b"one", media_type=KIND)
    for path in (r"/v2/a/referrers/.*", r"/v2/a/manifests/sha256-.*"):
        faults.play("GET", path, fault)
    with pytest.raises(Unavailable):
        registry.referrers("a", subject.digest)


def test_many_writers_of_one_fallback_tag(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("GET", r"/v2/.*/referrers/.*", Status(404))
    subject = image(registry, "a", "text", tag="v1").descriptor
    clients = [registry, DistributionRegistry(faults.address)]

    def add(number: int) -> None:
        place = Place(clients[number % 2], "a")
        attach(place, subject=subject, artifact_type=KIND, content=b"%d" % number, media_type=KIND)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(16)))
    found = {one.content for one in attached(Place(registry, "a"), subject.digest, artifact_type=KIND)}
    assert found == {b"%d" % number for number in range(16)}


def test_wrong_types_in_the_list_do_not_hide_an_artifact(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    """cosign 3.1.1 writes the empty media type as artifact type into the fallback index."""
    faults.play("GET", r"/v2/.*/referrers/.*", Status(404))
    place = Place(registry, "a")
    subject = image(registry, "a", "text", tag="v1").descriptor
    attach(place, subject=subject, artifact_type=KIND, content=b"one", media_type=KIND)
    index = registry.get_manifest("a", subject.digest.fallback_tag)
    raw = index.raw.replace(KIND.encode(), b"application/vnd.oci.empty.v1+json")
    changed = type(index)(raw, index.media_type, Digest.of(raw))
    registry.put_manifest("a", changed, tag=subject.digest.fallback_tag)
    assert [one.content for one in attached(place, subject.digest, artifact_type=KIND)] == [b"one"]


def test_a_damaged_artifact_does_not_hide_a_good_one(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    place = Place(registry, "a")
    subject = image(registry, "a", "text", tag="v1").descriptor
    bad = attach(place, subject=subject, artifact_type=KIND, content=b"bad", media_type=KIND)
    attach(place, subject=subject, artifact_type=KIND, content=b"good", media_type=KIND)
    faults.play("GET", rf"/v2/a/manifests/{bad.digest}", Status(404))
    assert [one.content for one in attached(place, subject.digest, artifact_type=KIND)] == [b"good"]
    faults.play("GET", rf"/v2/a/manifests/{bad.digest}", Status(503))
    with pytest.raises(RegistryError):
        registry.get_manifest("a", "v9")


def test_pushing_twice_moves_nothing(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    place = Place(registry, "a")
    first = push_blob(place, CONTENT, media_type="application/octet-stream")
    sent = faults.bytes_up
    assert push_blob(place, CONTENT, media_type="application/octet-stream") == first
    assert faults.bytes_up == sent


# Probing


def test_probing_leaves_nothing_behind(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    found = stored.probe("a", blob=DIGEST)
    assert (found.chunked_upload, found.range_reads) == (True, True)
    assert found.referrers_api is not None
    assert found.probed_at.endswith("Z")
    assert len(faults.requests("DELETE", UPLOADS)) == 1


def test_probing_a_registry_without_chunks_and_ranges(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("PATCH", UPLOADS, Status(416), skip=1)
    faults.play("GET", BLOBS, NoRange())
    found = stored.probe("a", blob=DIGEST)
    assert found.chunked_upload is False
    assert found.range_reads is False
    assert found.notes
