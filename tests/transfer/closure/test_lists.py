"""Lists of referrers that another tool replaced, or a kill left unwritten: the next copy notices and completes them.

docker-registry has no referrers API, so its list is a tag (distribution-spec 1.1, "Referrers Tag Schema") that every
client may overwrite.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import ClosureIncomplete
from registry_pipelines.evidence.keys import generate_key
from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Index, ManifestBytes, manifest_bytes
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.evidence.parts import NO_LOG, Cosign
from tests.transfer.test_notation import Notation
from tests.transfer.test_peers import run

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

pytestmark = pytest.mark.peer("docker-registry")


@pytest.fixture
def old_registry(
    start_docker_registry: Callable[[], str], connect: Callable[..., DistributionRegistry]
) -> Callable[[], Place]:
    """A repository of a new registry without the referrers API."""
    return lambda: Place(connect(start_docker_registry()), "team/app")


def names_at(place: Place, image: ManifestBytes) -> set[str]:
    return {item.digest for item in place.registry.referrers(place.repository, image.digest)}


def crane(peer: Callable[[str], str], there: Place, mirror: Place) -> None:
    run(peer("crane"), "copy", "--insecure", "--all-tags", str(there), str(mirror))


def skopeo(peer: Callable[[str], str], there: Place, mirror: Place) -> None:
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
    command = ("--insecure-policy", "sync", "--all", *plain, "--src", "docker", "--dest", "docker")
    run(peer("skopeo"), *command, str(there), f"{mirror.registry.name}/{mirror.repository.rpartition('/')[0]}")


def cosign_copy(peer: Callable[[str], str], there: Place, mirror: Place) -> None:
    run(peer("cosign"), "copy", "-f", "--allow-http-registry", f"{there}:v1", f"{mirror}:v1")


@pytest.mark.peer("crane", "skopeo", "cosign", "notation")
@pytest.mark.parametrize("replaces", [crane, skopeo, cosign_copy])
def test_signatures_verify_again_after_another_tool_replaced_the_list(
    replaces: Callable[..., None],
    old_registry: Callable[[], Place],
    peer: Callable[[str], str],
    graphs: Graphs,
    tmp_path: Path,
) -> None:
    """The other mirror has the same image and a list without our signatures; what its list brought stays."""
    source, other, target = old_registry(), old_registry(), old_registry()
    image = graphs.image(source, b"a layer", tag="v1")
    assert graphs.image(other, b"a layer", tag="v1") == image
    theirs = graphs.artifact(other, b"a report of theirs", subject=image.descriptor)
    notation, key = Notation(peer("notation"), tmp_path / "notation"), generate_key(tmp_path / "key", form="cosign")
    cosign = Cosign(peer("cosign"), tmp_path / "cosign-home")
    notation("sign", "--insecure-registry", "--force-referrers-tag=true", f"{source}@{image.digest}")
    signed = cosign.sign(key.private, f"{source}@{image.digest}", *NO_LOG["cosign"])
    assert signed.returncode == 0, signed.stderr
    name, state = f"{target}@{image.digest}", tmp_path / "state"

    copy_closure(source, "v1", [target], engine=Engine(state=state))
    assert cosign.verify(key.public, name).returncode == 0
    replaces(peer, other, target)
    assert cosign.verify(key.public, name).returncode != 0
    assert notation.ask("verify", "--insecure-registry", name).returncode != 0

    planned = copy_closure(source, "v1", [target], dry_run=True, engine=Engine(state=state)).plan
    assert [step.action for step in planned.deliveries[0].manifests] == ["present", "list", "list"]
    [done] = copy_closure(source, "v1", [target], engine=Engine(state=state)).per_target
    assert (done.changed, done.manifests_put, done.bytes_moved) == (True, 2, 0)
    assert cosign.verify(key.public, name).returncode == 0
    assert "Successfully verified" in notation("verify", "--insecure-registry", name)
    expected = names_at(source, image) | (set() if replaces is cosign_copy else {theirs.digest})
    assert names_at(target, image) == expected
    assert not copy_closure(source, "v1", [target], engine=Engine(state=state)).per_target[0].changed


def test_an_index_under_the_tags_of_its_lists_is_no_list_and_its_children_are_no_referrers(
    source: Counted, old_registry: Callable[[], Place], graphs: Graphs, tmp_path: Path
) -> None:
    """What ``cosign copy`` leaves of an index: the index itself and each child under the tag of its own list."""
    here, there = source.place("app"), old_registry()
    top = graphs.signed_index(here, "v1")
    copy_closure(here, "v1", [there], engine=Engine(state=tmp_path))
    for digest in (top.digest, *(child.digest for child in top.content().manifests)):  # type: ignore[union-attr]
        manifest = there.registry.get_manifest(there.repository, digest)
        there.registry.put_manifest(there.repository, manifest, tag=digest.fallback_tag)
    assert copy_closure(here, "v1", [there], engine=Engine(state=tmp_path)).per_target[0].manifests_put == 2
    assert compare(here, there, "v1") == []
    assert names_at(there, top) == {item.digest for item in here.registry.referrers("app", top.digest)}
    assert not copy_closure(here, "v1", [there], engine=Engine(state=tmp_path)).per_target[0].changed


@pytest.mark.parametrize("remembers", [True, False])
def test_an_artifact_that_a_kill_left_unlisted_is_listed_by_the_next_copy(
    remembers: bool,
    source: Counted,
    old_registry: Callable[[], Place],
    connect: Callable[..., DistributionRegistry],
    graphs: Graphs,
    tmp_path: Path,
) -> None:
    """The artifact is stored before the list is written. Without a receipt the target's own word is asked for."""
    here, there = source.place("app"), old_registry()
    image = graphs.image(here, b"a layer", tag="v1")
    first = graphs.artifact(here, b"first", subject=image.descriptor)
    state = tmp_path / "state" if remembers else None
    copy_closure(here, "v1", [there], engine=Engine(state=state))
    second = graphs.artifact(here, b"second", subject=image.descriptor)
    listed = there.registry.get_manifest(there.repository, image.digest.fallback_tag)
    copy_closure(here, second.digest, [there])  # all of it, and then the list as the kill left it
    there.registry.put_manifest(there.repository, listed, tag=image.digest.fallback_tag)
    assert names_at(there, image) == {first.digest}
    again = Place(connect(there.registry.name), there.repository)
    [done] = copy_closure(here, "v1", [again], engine=Engine(state=state)).per_target
    assert done.changed and names_at(there, image) == {first.digest, second.digest}
    assert compare(here, there, "v1") == []


def test_no_receipt_says_complete_of_what_no_list_names(
    source: Counted, old_registry: Callable[[], Place], graphs: Graphs, tmp_path: Path
) -> None:
    """A list that another writer replaces between our put and the read-back."""
    here, there = source.place("app"), old_registry()
    image = graphs.image(here, b"a layer", tag="v1")
    evidence = graphs.artifact(here, b"evidence", subject=image.descriptor)
    copy_closure(here, "v1", [there])
    empty = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=()))

    class Replacing(DistributionRegistry):
        def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
            super().put_manifest(repository, manifest, tag=tag)
            if manifest.digest == evidence.digest:
                super().put_manifest(repository, empty, tag=image.digest.fallback_tag)

    registry = Replacing(there.registry.name)
    there.registry.put_manifest(there.repository, empty, tag=image.digest.fallback_tag)
    with pytest.raises(ClosureIncomplete, match=rf"{evidence.digest} on the list of what refers to {image.digest}"):
        copy_closure(here, "v1", [Place(registry, there.repository)], engine=Engine(state=tmp_path))
    assert not list(tmp_path.rglob("receipts/**/*.json"))
    registry.close()


def test_lists_cost_one_request_for_each_image_that_has_referrers_and_none_where_the_registry_keeps_them(
    source: Counted,
    start_embedded: Callable[..., Counted],
    connect: Callable[..., DistributionRegistry],
    graphs: Graphs,
    tmp_path: Path,
) -> None:
    here, with_api, without = source.place("app"), start_embedded(), start_embedded()
    signed, plain = (graphs.image(here, name, tag=name.decode()) for name in (b"signed", b"plain"))
    evidence = graphs.artifact(here, b"evidence", subject=signed.descriptor)
    graphs.artifact(here, b"of the evidence", subject=evidence.descriptor)

    def asked_when_warm(kept: FaultRegistry) -> list[str]:
        for warm in (False, True):
            kept.reset_counts()
            done = sync(
                [Source(source.registry, (OpenTarget(connect(kept.address)),))],
                engine=Engine(state=tmp_path / kept.address),
            )
            assert done.ok and done.changed != warm
        asked = [item.target for item in kept.seen if "referrers" in item.target or "/sha256-" in item.target]
        return sorted(target.rpartition("/")[2] for target in asked)

    with FaultRegistry(with_api.address) as has_api, FaultRegistry(without.address) as lacks_api:
        lacks_api.play("GET", "/v2/.*/referrers/.*", Status(404))
        assert asked_when_warm(has_api) == []
        asked = asked_when_warm(lacks_api)
        assert asked == sorted([signed.digest.fallback_tag, evidence.digest.fallback_tag])
        assert plain.digest.fallback_tag not in asked
