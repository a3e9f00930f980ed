"""Writing to registries that fail: lost answers, broken chunks, slow commits, refused mounts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry_pipelines.errors import (
    DigestMismatch,
    NotFound,
    RegistryError,
    Stalled,
    Unavailable,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.client import DistributionRegistry, Retries, Timeouts
from tests.doubles.fault_registry import (
    CutRequest,
    DropQuery,
    FaultRegistry,
    HoldAnswer,
    LoseAnswer,
    NoRange,
    Rewrite,
    Status,
    StuckRange,
)
from tests.patience import patient
from tests.registry.contract import blob_of, read
from tests.registry.faulty import BLOBS, CONTENT, DIGEST, UPLOADS, Once

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
        # A cut may be asked about before the server has noticed it; the chunk is then sent again from its start.
        assert isinstance(fault, CutRequest) or faults.bytes_up == len(CONTENT)
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


def test_a_registry_that_is_down_is_not_asked_over_and_over(
    registry: DistributionRegistry, faults: FaultRegistry, waits: list[float]
) -> None:
    """What repeats itself is not repeated once more: three attempts here, never three times three."""
    session = registry.begin_upload("a")
    registry.append_upload(session, memoryview(CONTENT))
    faults.play("HEAD", r".*", Status(503))
    faults.play("PUT", UPLOADS, LoseAnswer())
    acts: list[Callable[[], None]] = [
        lambda: registry.commit_upload(session, DIGEST),
        lambda: registry.upload_blob("b", blob_of(CONTENT), BytesSource(CONTENT)),
    ]
    for act in acts:
        faults.reset_counts()
        with pytest.raises(Unavailable):
            act()
        assert (len(faults.requests("PUT")), len(faults.requests("HEAD"))) == (1, 3)
    faults.reset_counts()
    faults.play("POST", UPLOADS, Status(503))
    waits.clear()
    with pytest.raises(Unavailable):
        registry.upload_blob("c", blob_of(CONTENT), BytesSource(CONTENT))
    assert (len(faults.requests("POST")), len(waits)) == (3, 2)


@pytest.mark.parametrize(("final", "requests"), [(False, 2), (True, 1)])
def test_a_stall_is_the_caller_s_where_he_repeats_by_himself(final: bool, requests: int, faults: FaultRegistry) -> None:
    impatient = DistributionRegistry(
        faults.address, timeouts=Timeouts(stall_s=patient(0.3)), retries=Retries(attempts=2, sleep=lambda _: None)
    )
    asked = impatient.leaving_stalls() if final else impatient
    faults.play("HEAD", r".*", HoldAnswer(threading.Event()))
    with pytest.raises(Stalled):
        asked.blob_size("a", DIGEST)
    assert len(faults.requests("HEAD")) == requests == impatient.requests_sent
    faults.clear()
    faults.play("HEAD", r".*", Status(503), times=1)
    assert asked.blob_size("a", DIGEST) is None
    impatient.close()


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
    timeouts = Timeouts(stall_s=patient(0.5), commit_s=patient(60))
    registry = DistributionRegistry(faults.address, timeouts=timeouts, retries=Retries(1))
    faults.play("PUT", UPLOADS, HoldAnswer(released))
    faults.play("GET", r"/v2/", HoldAnswer(released))
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(registry.upload_blob, "a", blob_of(CONTENT), Once())
        with pytest.raises(Stalled):
            registry.ping()
        assert not sending.done()
        released.set()
        sending.result(patient(30))
    assert registry.blob_size("a", DIGEST) == len(CONTENT)


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


# Probing


def test_probing_leaves_nothing_behind(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    capabilities = stored.probe("a", blob=DIGEST)
    assert (capabilities.chunked_upload, capabilities.range_reads) == (True, True)
    assert capabilities.referrers_api is not None
    assert capabilities.probed_at.endswith("Z")
    assert len(faults.requests("DELETE", UPLOADS)) == 1


def test_probing_a_registry_without_chunks_and_ranges(stored: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("PATCH", UPLOADS, Status(416), skip=1)
    faults.play("GET", BLOBS, NoRange())
    capabilities = stored.probe("a", blob=DIGEST)
    assert capabilities.chunked_upload is False
    assert capabilities.range_reads is False
    assert capabilities.notes


def test_the_longest_commits_known_are_waited_for() -> None:
    """15 min for 3.6 GB (go-containerregistry#2084); small blobs have minutes and not half an hour."""
    assert Timeouts().to_commit(3_600_000_000) > 15 * 60
    assert Timeouts().to_commit(1_000_000) < 3 * 60
