"""Manifests, lists and referrers of registries that fail."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry_pipelines.errors import (
    DigestMismatch,
    RegistryError,
    Unavailable,
)
from registry_pipelines.evidence.artifacts import attach, attached
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.registry.blobs import BytesSource, push_blob
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.protocol import Place
from tests.doubles.fault_registry import (
    CutAnswer,
    FaultRegistry,
    LoseAnswer,
    Rewrite,
    Status,
)
from tests.registry.contract import image
from tests.registry.faulty import CONTENT, KIND, MANIFESTS, errors

# Manifests


def test_a_manifest_whose_blobs_others_send_again(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    """docker-registry 2.8 refuses one put in six here: it writes the blob's link in place, and reads half of it."""
    place = Place(registry, "a")
    config = push_blob(place, b"{}", media_type=media_types.OCI_EMPTY)
    over = threading.Event()

    def send_again() -> None:
        while not over.is_set():
            registry.upload_blob("a", config, BytesSource(b"{}"))

    patient_one = DistributionRegistry(faults.address, retries=Retries(attempts=30, first_wait_s=0.001))
    with ThreadPoolExecutor(2) as pool:
        senders = [pool.submit(send_again) for _ in range(2)]
        try:
            for number in range(40):
                manifest = Manifest(
                    schema_version=2,
                    media_type=media_types.OCI_MANIFEST,
                    config=config,
                    layers=(config,),
                    annotations={"number": str(number)},
                )
                patient_one.put_manifest("a", manifest_bytes(manifest))
        finally:
            over.set()
    patient_one.close()
    for sender in senders:
        sender.result()


def test_a_manifest_that_is_refused_for_good(
    registry: DistributionRegistry, faults: FaultRegistry, waits: list[float]
) -> None:
    made = image(registry, "a", "text", tag="v1")
    faults.play("PUT", MANIFESTS, Status(400, body=errors("DIGEST_INVALID")))
    with pytest.raises(DigestMismatch):
        registry.put_manifest("a", made, tag="v2")
    assert len(waits) == 2


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
    with pytest.raises(RegistryError, match="on another host"):
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
    contents = {one.content for one in attached(Place(registry, "a"), subject.digest, artifact_type=KIND)}
    assert contents == {b"%d" % number for number in range(16)}


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


@pytest.mark.parametrize("code", ["NAME_UNKNOWN", "MANIFEST_UNKNOWN"])
def test_a_404_about_the_content_says_nothing_about_the_api(
    registry: DistributionRegistry, faults: FaultRegistry, code: str
) -> None:
    faults.play("GET", r"/v2/.*/referrers/.*", Status(404, body=b'{"errors":[{"code":"%s"}]}' % code.encode()))
    subject = image(registry, "a", "text", tag="v1").descriptor
    assert registry.referrers("a", subject.digest) == []
    assert registry.capabilities("a").referrers_api is None
    attach(Place(registry, "a"), subject=subject, artifact_type=KIND, content=b"one", media_type=KIND)
    assert len(registry.referrers("a", subject.digest)) == 1


def test_one_404_does_not_undo_what_was_found(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    subject = image(registry, "a", "text", tag="v1").descriptor
    empty = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    faults.play("GET", r"/v2/.*/referrers/.*", Status(200, body=empty), times=1)
    faults.play("GET", r"/v2/.*/referrers/.*", Status(404))
    assert registry.referrers("a", subject.digest) == []
    with pytest.raises(RegistryError, match="HTTP 404, though"):  # it is there, so that is no word about signatures
        registry.referrers("a", subject.digest)
    assert registry.capabilities("a").referrers_api is True
