"""What has a digest and was held against it is asked for once; nothing else is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.errors import DigestMismatch, ManifestTooLarge, NotFound
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry import remembered as module
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.remembered import remembered
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Corrupt
from tests.scan.images import push_image


@pytest.fixture
def faults(tmp_path: Path) -> Iterator[FaultRegistry]:
    with EmbeddedServer(tmp_path) as server, FaultRegistry(server.address) as faults:
        yield faults


@pytest.fixture
def place(faults: FaultRegistry) -> Place:
    return Place(remembered(DistributionRegistry(faults.address)), "a/b")


def gets(faults: FaultRegistry, target: str) -> int:
    return len(faults.requests("GET", rf".*/{target}"))


def test_a_digest_is_asked_for_once_and_a_tag_each_time(place: Place, faults: FaultRegistry) -> None:
    made = push_image(place, [{"a": "1"}], tag="v1")
    blob = push_blob(place, b"evidence", media_type="text/plain")
    for _ in range(3):
        assert place.registry.get_manifest("a/b", made.digest).descriptor == made
        assert place.registry.get_manifest("a/b", "v1").digest == made.digest
        assert read_blob(place, blob, limit=100) == b"evidence"
        assert place.registry.referrers("a/b", made.digest) == []
        assert place.registry.resolve("a/b", made.digest).digest == made.digest
    assert gets(faults, f"blobs/{blob.digest}") == 1
    assert gets(faults, f"manifests/{made.digest}") == 1
    assert gets(faults, "manifests/v1") == gets(faults, f"referrers/{made.digest}") == 3
    assert len(faults.requests("HEAD", rf".*/manifests/{made.digest}")) >= 3
    with pytest.raises(NotFound):
        place.registry.get_manifest("a/c", made.digest)


def test_for_one_release_lists_are_asked_for_once_until_something_is_put(faults: FaultRegistry) -> None:
    place = Place(remembered(DistributionRegistry(faults.address), whole=True), "a/b")
    made = push_image(place, [{"a": "1"}], tag="v1")
    for kind in ("x/one", "x/two"):
        attach(place, subject=made, artifact_type=kind, content=kind.encode(), media_type="text/plain")
        for _ in range(3):
            found = place.registry.referrers("a/b", made.digest)
            assert kind in {each.artifact_type for each in found}
            assert len(place.registry.referrers("a/b", made.digest, artifact_type=kind)) == 1
    asked = gets(faults, f"referrers/{made.digest}")
    assert asked <= 2 + 1, "once for each thing that was put, and whether there is such a list"
    assert len(faults.requests("HEAD", rf".*/blobs/{Digest.of(b'{}')}")) == 2, "not there, then there"
    assert len(faults.requests("HEAD", rf".*/blobs/{Digest.of(b'x/one')}")) == 0, "what was made now is not asked for"


def test_what_was_wrong_or_is_another_s_size_is_not_kept(place: Place, faults: FaultRegistry) -> None:
    blob = push_blob(place, b"evidence", media_type="text/plain")
    faults.play("GET", r".*/blobs/.*", Corrupt(3), times=1)
    with pytest.raises(DigestMismatch):
        read_blob(place, blob, limit=100)
    assert read_blob(place, blob, limit=100) == b"evidence"
    with pytest.raises(ManifestTooLarge):
        read_blob(place, blob, limit=7)
    with pytest.raises(DigestMismatch):
        read_blob(place, Descriptor(media_type="text/plain", digest=blob.digest, size=4), limit=100)


def test_a_full_memory_keeps_no_more(place: Place, faults: FaultRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT_BYTES", 10)
    small, large = (push_blob(place, text, media_type="text/plain") for text in (b"12345678", b"abc"))
    for _ in range(2):
        assert Digest.of(read_blob(place, small, limit=100)) == small.digest
        assert Digest.of(read_blob(place, large, limit=100)) == large.digest
    assert (gets(faults, f"blobs/{small.digest}"), gets(faults, f"blobs/{large.digest}")) == (1, 2)
