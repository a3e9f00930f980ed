"""Reading from registries that fail: cut, changed, stalled, redirected, throttled, with tokens that expire."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry_pipelines.errors import (
    DigestMismatch,
    RateLimited,
    RegistryError,
    Stalled,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.registry.blobs import BytesSource, read_blob
from registry_pipelines.registry.client import DistributionRegistry, Retries, Timeouts
from registry_pipelines.registry.protocol import Place
from tests.doubles.fault_registry import (
    Corrupt,
    CutAnswer,
    FaultRegistry,
    HoldAnswer,
    NoRange,
    Redirect,
    Rewrite,
    Status,
)
from tests.registry.contract import blob_of, image, read
from tests.registry.faulty import BLOBS, CONTENT, DIGEST, MANIFESTS, UPLOADS, Once

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


def test_a_blob_that_is_refused_is_asked_for_as_often_as_one_request(
    stored: DistributionRegistry, faults: FaultRegistry, waits: list[float]
) -> None:
    faults.reset_counts()
    waits.clear()
    faults.play("GET", BLOBS, Status(503))
    with pytest.raises(Unavailable):
        read_blob(Place(stored, "a"), blob_of(CONTENT), limit=len(CONTENT))
    assert (len(faults.requests("GET", BLOBS)), len(waits)) == (3, 2)


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
