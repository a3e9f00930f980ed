"""Deletes that broke live tags elsewhere, each on the real way: plan, apply, the registry's own collection, pull.

A tag that is hidden in a list because it is a prefix of another: ``test_retention``. A rule about nothing because of a
path that was stripped twice: ``test_rules``. A label that lets the far registry delete: ``tests/chain/test_expiring``.
Children and evidence under docker-registry's own collector: ``test_collectors``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.errors import RegistryError
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place, Registry
from tests.collect.test_quarantine import content_of
from tests.collect.test_retention import KEEP_ONE, NOW, note, plan, push, push_index
from tests.collect.test_retention import registry as registry


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "root", garbage_interval_s=None) as running:
        yield running


def built(place: Place, tag: str, days_ago: float, platforms: int) -> list[Digest]:
    """As BuildKit pushes: an index of platforms, none of which has a tag, and an attestation beside each that is a line
    of the index and no referrer. Everything below the tag."""
    lines: list[Descriptor] = []
    digests: list[Digest] = []
    for number in range(platforms):
        image = push(place, f"{tag}{number}", days_ago=days_ago, architecture=f"arch{number}")
        statement = Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, f"{{}}{tag}{number}".encode(), media_type=media_types.OCI_CONFIG),
            layers=(push_blob(place, f"{tag}{number}".encode(), media_type="application/vnd.in-toto+json"),),
        )
        attestation = manifest_bytes(statement)
        place.registry.put_manifest(place.repository, attestation)
        about = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.digest}
        lines.append(_line(image, Platform(os="linux", architecture=f"arch{number}")))
        lines.append(_line(attestation, Platform(os="unknown", architecture="unknown"), about))
        digests += [image.digest, attestation.digest]
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=tuple(lines)))
    place.registry.put_manifest(place.repository, index, tag=tag)
    return [index.digest, *digests]


def _line(image: ManifestBytes, platform: Platform, annotations: dict[str, str] | None = None) -> Descriptor:
    return Descriptor(
        media_type=image.media_type,
        digest=image.digest,
        size=len(image.raw),
        platform=platform,
        annotations=annotations,
    )


@pytest.mark.parametrize("platforms", [1, 2])
def test_children_of_an_index_are_not_taken_for_untagged(server: EmbeddedServer, platforms: int) -> None:
    place = Place(DistributionRegistry(server.address), "team/app")
    old = built(place, "v1", 300, platforms)
    new = built(place, "v2", 200, platforms)
    before = content_of(place)
    then = time.time() - 2 * 86400
    for path in server.root.rglob("blobs/*/*"):
        os.utime(path, (then, then))
    assert apply_plan(place.registry, plan(place.registry, KEEP_ONE), now=NOW).ok
    assert server.collect_garbage().blobs == 4 * platforms, "the old one's, and no other"
    after = content_of(place)
    assert after.tags.keys() == {"v2"} and set(after.manifests) == set(new)
    assert set(before.manifests) - set(after.manifests) == set(old)
    assert after.blobs.items() <= before.blobs.items() and len(after.blobs) == 4 * platforms


def test_the_last_good_image_stays_until_the_new_one_is_whole(registry: Registry) -> None:
    """A tag whose layer is not there is the newest by its tag alone."""
    place = Place(registry, "team/app")
    good = push(place, "v1", days_ago=300)
    new = push(place, "v2", days_ago=200)
    found = plan(registry, KEEP_ONE)
    lost = Digest.of(b"layer of v2")
    try:
        registry.delete_blob("team/app", lost)
    except RegistryError:
        return  # ECR deletes no blob, and loses none
    done = apply_plan(registry, found, now=NOW)
    assert not done.deleted and f"v2, the newest image that stays, is not whole: {lost}" in done.refused[0]
    assert registry.resolve("team/app", "v1").digest == good.digest
    push(place, "v2", days_ago=200)
    assert apply_plan(registry, found, now=NOW).ok and registry.resolve("team/app", "v2").digest == new.digest


def test_a_copy_of_chosen_platforms_is_whole_and_an_index_of_none_is_not(server: EmbeddedServer) -> None:
    place = Place(DistributionRegistry(server.address), "team/app")
    push(place, "v1", days_ago=300)
    kept, chosen = (push(place, name, days_ago=200, architecture=name) for name in ("arm64", "s390x"))
    index = push_index(place, "v2", kept, chosen)
    note(place, index, "signed")
    place.registry.delete_manifest("team/app", kept.digest)
    assert apply_plan(place.registry, plan(place.registry, KEEP_ONE), now=NOW).ok
    push(place, "v1", days_ago=300)
    found = plan(place.registry, KEEP_ONE)
    place.registry.delete_manifest("team/app", chosen.digest)
    done = apply_plan(place.registry, found, now=NOW)
    assert not done.deleted and "every platform is not there" in done.refused[0]
