from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry_pipelines.errors import NotFound
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.evidence.keys import FileSigner, generate_key, load_signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.replicate.replicas import Tags, examine, replicate, tags_of
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.engine import Engine
from tests.scan.images import push_image

VERSION = Tags("v1.0.0", ("prod",))


@pytest.fixture
def places(tmp_path: Path) -> Iterator[list[Place]]:
    with ExitStack() as stack:
        servers = [stack.enter_context(EmbeddedServer(tmp_path / name)) for name in ("us", "eu", "asia")]
        yield [Place(DistributionRegistry(server.address), "ml/app") for server in servers]


@pytest.fixture
def digest(places: list[Place]) -> Digest:
    source = places[0]
    made = push_image(source, [{"etc/a": "1"}, {"etc/b": "2"}], tag="v1.0.0")
    source.registry.put_manifest("ml/app", source.registry.get_manifest("ml/app", "v1.0.0"), tag="prod")
    attach(source, subject=made, artifact_type="text/plain", content=b"evidence", media_type="text/plain")
    return made.digest


def signer(folder: Path) -> FileSigner:
    return load_signer(generate_key(folder / "key").private)


def test_every_target_gets_everything_with_a_signed_receipt(
    places: list[Place], digest: Digest, tmp_path: Path
) -> None:
    source, *targets = places
    found = replicate(
        source,
        digest,
        targets,
        tags=[VERSION] * len(targets),
        engine=Engine(state=tmp_path / "state", signer=signer(tmp_path)),
    )
    assert [each.place for each in found if isinstance(each, TargetResult)] == targets
    for result in found:
        assert isinstance(result, TargetResult)
        assert result.ok and result.changed and result.bytes_moved > 0
        assert result.receipt is not None and result.receipt.signed
        assert result.receipt.document["tags"] == {"prod": digest, "v1.0.0": digest}
        assert examine(source, result.place, digest, tags=VERSION).differences == ()
    for result in replicate(
        source, digest, targets, tags=[VERSION] * len(targets), engine=Engine(state=tmp_path / "state")
    ):
        assert isinstance(result, TargetResult)
        assert (result.changed, result.bytes_moved) == (False, 0)


def test_each_kind_of_difference_is_named(places: list[Place], digest: Digest) -> None:
    source, target, _ = places
    kinds = {each.kind for each in examine(source, target, digest, tags=VERSION).differences}
    assert {"manifest", "blob", "tag"} <= kinds
    replicate(source, digest, [target], tags=[VERSION])
    other = push_image(target, [{"etc/other": ""}], tag="prod")
    assert [
        (each.kind, each.subject, each.found) for each in examine(source, target, digest, tags=VERSION).differences
    ] == [("tag", "prod", other.digest)]
    target.registry.put_manifest("ml/app", target.registry.get_manifest("ml/app", digest), tag="prod")
    subject = source.registry.resolve("ml/app", digest)
    attach(source, subject=subject, artifact_type="text/plain", content=b"later", media_type="text/plain")
    assert {each.kind for each in examine(source, target, digest, tags=VERSION).differences} == {
        "manifest",
        "blob",
        "referrer",
    }
    replicate(source, digest, [target], tags=[VERSION])
    layer = source.registry.get_manifest("ml/app", digest).content().layers[0]  # type: ignore[union-attr]
    target.registry.delete_blob("ml/app", layer.digest)
    [lost] = examine(source, target, digest, tags=VERSION).differences
    assert (lost.kind, lost.subject, lost.found) == ("blob", layer.digest, "")


def test_the_channel_goes_along_only_while_it_names_the_release(places: list[Place], digest: Digest) -> None:
    source = places[0]
    assert tags_of(source, digest, version="v1.0.0", channels=["prod"]) == VERSION
    assert tags_of(source, digest, version="v1.0.0", channels=["none", "staging"]).names == ("v1.0.0",)
    push_image(source, [{"etc/new": ""}], tag="prod")
    assert tags_of(source, digest, version="v1.0.0", channels=["prod"]).names == ("v1.0.0",)


def test_a_release_that_is_not_at_the_source_is_no_empty_difference(places: list[Place]) -> None:
    missing = Digest.of(b"nothing")
    with pytest.raises(NotFound):
        examine(places[0], places[1], missing, tags=VERSION)
    outcomes = replicate(places[0], missing, places[1:], tags=[VERSION] * len(places[1:]))
    assert [type(each) for each in outcomes] == [NotFound, NotFound]
