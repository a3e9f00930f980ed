"""Artifacts attached by subject: stored once, found again, verified; on layout folders and over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.errors import ClosureIncomplete
from registry_pipelines.evidence import referrers
from registry_pipelines.evidence.artifacts import attach, attached
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, artifact_manifest
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.registry.contract import image

KIND = "application/vnd.example.note.v1+json"
OTHER = "application/vnd.example.other.v1+json"


@pytest.fixture(params=["layout", "http"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "layout":
        yield Place(LayoutRegistry(tmp_path), "a/b")
    else:
        with EmbeddedServer(tmp_path) as server:
            yield Place(DistributionRegistry(server.address), "a/b")


def test_attached_documents_come_back_by_type(place: Place) -> None:
    subject = image(place.registry, "a/b", "text", tag="v1").descriptor
    first = attach(
        place, subject=subject, artifact_type=KIND, content=b"one", media_type="text/plain", annotations={"a": "b"}
    )
    attach(place, subject=subject, artifact_type=OTHER, content=b"two", media_type=OTHER)
    (note,) = attached(place, subject.digest, artifact_type=KIND)
    assert note.content == b"one"
    assert note.descriptor == first
    assert note.manifest.subject == subject
    assert note.manifest.annotations == {"a": "b"}
    assert note.manifest.layers[0].media_type == "text/plain"
    assert [one.content for one in attached(place, subject.digest, artifact_type=OTHER)] == [b"two"]
    assert attached(place, first.digest, artifact_type=KIND) == []


def test_attaching_twice_changes_nothing(place: Place) -> None:
    subject = image(place.registry, "a/b", "text", tag="v1").descriptor
    made = {
        attach(place, subject=subject, artifact_type=KIND, content=b"one", media_type=KIND).digest for _ in range(2)
    }
    assert len(made) == 1
    assert len(place.registry.referrers("a/b", subject.digest)) == 1


def test_a_type_may_stand_in_the_config(place: Place) -> None:
    """Notation's manifests have no artifact type; the config's media type is it."""
    subject = image(place.registry, "a/b", "text", tag="v1").descriptor
    config = push_blob(place, b"{}", media_type="application/vnd.cncf.notary.signature")
    layer = push_blob(place, b"envelope", media_type="application/jose+json")
    from registry_pipelines.oci.manifests import manifest_bytes

    made = manifest_bytes(
        Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=(layer,), subject=subject)
    )
    place.registry.put_manifest("a/b", made)
    signatures = attached(place, subject.digest, artifact_type="application/vnd.cncf.notary.signature")
    assert [one.content for one in signatures] == [b"envelope"]


def test_an_artifact_without_a_document_is_none(place: Place) -> None:
    subject = image(place.registry, "a/b", "text", tag="v1").descriptor
    push_blob(place, b"{}", media_type=media_types.OCI_EMPTY)
    place.registry.put_manifest("a/b", artifact_manifest(artifact_type=KIND, layers=(), subject=subject))
    assert attached(place, subject.digest, artifact_type=KIND) == []


def test_a_damaged_document_is_an_error_when_no_other_is_there(tmp_path: Path) -> None:
    place = Place(LayoutRegistry(tmp_path), "a")
    subject = image(place.registry, "a", "text", tag="v1").descriptor
    attach(place, subject=subject, artifact_type=KIND, content=b"damaged", media_type=KIND)
    (tmp_path / "a/blobs/sha256" / Digest.of(b"damaged").hex).write_bytes(b"changed")
    with pytest.raises(ClosureIncomplete, match="hashes to"):
        attached(place, subject.digest, artifact_type=KIND)
    attach(place, subject=subject, artifact_type=KIND, content=b"good", media_type=KIND)
    assert [one.content for one in attached(place, subject.digest, artifact_type=KIND)] == [b"good"]


def test_a_document_over_the_limit_is_an_error(place: Place) -> None:
    subject = image(place.registry, "a/b", "text", tag="v1").descriptor
    attach(place, subject=subject, artifact_type=KIND, content=b"0123456789", media_type=KIND)
    with pytest.raises(ClosureIncomplete, match="at most 5"):
        attached(place, subject.digest, artifact_type=KIND, limit=5)


def test_too_many_referrers_fail_closed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(referrers, "MAX_REFERRERS", 2)
    subject = image(place.registry, "a/b", "text", tag="v1").descriptor
    for number in range(3):
        attach(place, subject=subject, artifact_type=KIND, content=b"%d" % number, media_type=KIND)
    with pytest.raises(ClosureIncomplete, match="3 referrers"):
        attached(place, subject.digest, artifact_type=KIND)
