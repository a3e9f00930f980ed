"""The record of a mirror's last whole run: in the registry, signed, also where no tag ever moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.errors import ManifestInvalid, SignatureInvalid
from registry_pipelines.evidence.keys import load_signer
from registry_pipelines.mirror.record import Mirrored, read_record, record_place, write_record
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import put_tag
from tests.chain.conftest import fleet
from tests.chain.fleet import Fleet, push
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.evidence.conftest import key, make_key, other_key
from tests.evidence.parts import Key
from tests.scan.images import push_image

__all__ = ["fleet", "key", "make_key", "other_key"]
IMAGE = "docker.io/library/python"
IMMUTABLE = b'{"errors":[{"code":"TAG_INVALID","message":"The image tag already exists in the repository and cannot be overwritten because the tag is immutable."}]}'  # noqa: E501 - as ECR says it


@pytest.fixture
def faults(tmp_path: Path) -> Iterator[FaultRegistry]:
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as double:
        yield double


def record(at: str, upstream: str = IMAGE) -> Mirrored:
    return Mirrored(mirror="m", upstream=upstream, at=at, tags={"in/python:3": "sha256:0"})


def test_the_newest_record_of_each_upstream_is_read(faults: FaultRegistry, key: Key) -> None:
    place = record_place(DistributionRegistry(faults.address), "in", "m")
    assert place.repository == "in/rp-mirrored/m" and read_record(place, "m", IMAGE, key.verifier) is None
    first, later = record("2026-11-28T02:00:00Z"), record("2026-11-29T02:00:00Z")
    other = record("2026-11-20T02:00:00Z", "docker.io/library_python")  # reads alike, and is another
    for each in (first, other, later):
        write_record(place, each, key.signer)
    assert read_record(place, "m", IMAGE, key.verifier) == later
    assert read_record(place, "m", other.upstream, key.verifier) == other
    assert len(list(place.registry.tags(place.repository))) == 2


def test_where_tags_never_move_each_record_has_its_own(faults: FaultRegistry, key: Key) -> None:
    place = record_place(DistributionRegistry(faults.address), "", "m")
    write_record(place, record("2026-11-27T02:00:00Z"), key.signer)
    [tag] = place.registry.tags(place.repository)
    faults.play("PUT", f".*/manifests/{tag}", Status(400, {"Content-Type": "application/json"}, IMMUTABLE))
    for day in ("28", "29"):
        write_record(place, record(f"2026-11-{day}T02:00:00Z"), key.signer)
    found = read_record(place, "m", IMAGE, key.verifier)
    assert found is not None and found.at == "2026-11-29T02:00:00Z"


def test_only_a_record_that_is_believed_counts(faults: FaultRegistry, key: Key, other_key: Key) -> None:
    place = record_place(DistributionRegistry(faults.address), "", "m")
    write_record(place, record("2026-11-27T02:00:00Z"), other_key.signer)
    with pytest.raises(SignatureInvalid):
        read_record(place, "m", IMAGE, key.verifier)
    write_record(place, record("2026-11-27T02:00:00Z"), key.signer)
    [tag] = place.registry.tags(place.repository)
    elsewhere = record_place(place.registry, "", "n")
    write_record(elsewhere, Mirrored(mirror="n", upstream=IMAGE, at="2026-11-29T02:00:00Z"), key.signer)
    moved = elsewhere.registry.get_manifest(elsewhere.repository, tag)
    copy(elsewhere, place, tag)
    assert moved.digest == place.registry.resolve(place.repository, tag).digest
    with pytest.raises(ManifestInvalid, match="this record is of"):
        read_record(place, "m", IMAGE, key.verifier)
    push_image(place, [{"x": "y"}], tag=tag)
    with pytest.raises((ManifestInvalid, SignatureInvalid)):
        read_record(place, "m", IMAGE, key.verifier)


def copy(here: Place, there: Place, tag: str) -> None:
    """A record taken to where another mirror's is."""
    manifest = here.registry.get_manifest(here.repository, tag)
    content = manifest.content()
    for blob in (content.config, *content.layers):  # type: ignore[union-attr]
        there.registry.mount_blob(there.repository, blob.digest, source=here.repository)
    put_tag(there, manifest, tag)


def test_a_record_of_the_future_is_no_good_mirror(fleet: Fleet) -> None:
    upstream = Place(fleet.chain.registry("us"), "up/stream")
    push(upstream, "1.0", provenance=False)
    assert fleet.chain.mirror("airgap").ok and fleet.chain.mirror_age("airgap").ok
    place = record_place(fleet.chain.registry("private"), "in", "airgap")
    future = Mirrored(mirror="airgap", upstream="us/up/stream", at="2099-01-01T00:00:00Z")
    write_record(place, future, load_signer(fleet.config.signing_key))
    told = fleet.chain.mirror_age("airgap")
    assert not told.ok and "2099-01-01T00:00:00Z, which is no time that was" in told.reasons[0]
