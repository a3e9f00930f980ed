"""What docker-registry's own collector frees and breaks, seen on the real one; and our check of its dry run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.chain import Chain
from registry_pipelines.collect.collectors import COLLECTORS, DISTRIBUTION, Eligible, endangered, read_dry_run
from registry_pipelines.config import load
from registry_pipelines.errors import InputError, NotFound, Unavailable
from registry_pipelines.inventory.survey import survey
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.protocol import Place
from tests.collect.test_retention import note, push, push_index
from tests.doubles.docker_registry import DockerRegistry

pytestmark = pytest.mark.peer("docker-registry")


@pytest.fixture
def program(peer: Callable[[str], str]) -> str:
    return peer("docker-registry")


@pytest.fixture
def server(program: str, tmp_path: Path) -> Iterator[DockerRegistry]:
    with DockerRegistry(program, tmp_path / "registry") as running:
        yield running


def collected(program: str, server: DockerRegistry, *options: str) -> str:
    command = [program, "garbage-collect", *options, str(server.root / "config.yml")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def chain_of(server: DockerRegistry, tmp_path: Path) -> Chain:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(f"registries:\n  far: {{kind: distribution, host: '{server.address}'}}\n")
    return Chain(load(path))


def test_its_collector_with_m_breaks_tagged_indexes_and_evidence_and_the_check_says_so(
    program: str, server: DockerRegistry, tmp_path: Path
) -> None:
    place = Place(DistributionRegistry(server.address), "team/app")
    children = [push(place, name, days_ago=1, architecture=name) for name in ("arm64", "s390x")]
    index = push_index(place, "multi", *children)
    evidence = note(place, index, "signed")
    push(place, "v1", days_ago=1)
    chain = chain_of(server, tmp_path)

    plain = chain.check_garbage("far", collected(program, server, "--dry-run"))
    assert plain.ok and plain.facts["needed"] == 0
    wrong = chain.check_garbage("far", collected(program, server, "--dry-run", "-m"))
    gone = {one.digest for one in children} | {evidence.digest}
    assert not wrong.ok and {row["digest"] for row in wrong.rows if row["what"] == "manifest"} == gone
    assert {row["tags"] for row in wrong.rows if row["digest"] in {one.digest for one in children}} == {"multi"}
    assert "without `-m`" in wrong.next_steps[0]

    collected(program, server, "-m")
    assert place.registry.resolve("team/app", "multi").digest == index.digest, "the tag is still there"
    for child in children:
        with pytest.raises(NotFound):
            place.registry.get_manifest("team/app", child.digest)


def test_deleting_a_blob_by_the_api_frees_nothing_and_its_collector_does(program: str, server: DockerRegistry) -> None:
    place = Place(DistributionRegistry(server.address), "team/app")
    push(place, "v1", days_ago=1)
    loose = push_blob(place, b"loose", media_type=media_types.OCI_LAYER).digest
    stored = server.root / "data/docker/registry/v2/blobs/sha256" / loose.hex[:2] / loose.hex / "data"
    place.registry.delete_blob("team/app", loose)
    assert place.registry.blob_size("team/app", loose) is None and stored.is_file()
    assert loose in read_dry_run(collected(program, server, "--dry-run")).blobs and stored.is_file()
    collected(program, server)
    assert not stored.exists() and place.registry.resolve("team/app", "v1")


def test_its_collector_takes_blobs_of_a_push_under_way(program: str, server: DockerRegistry) -> None:
    """So nobody may push while it runs."""
    place = Place(DistributionRegistry(server.address), "team/app")
    pushed = push_blob(place, b"its manifest comes next", media_type=media_types.OCI_LAYER).digest
    collected(program, server)
    assert place.registry.blob_size("team/app", pushed) is None


def test_with_its_cache_it_says_that_it_has_what_its_collector_took(program: str, tmp_path: Path) -> None:
    """A client believes the HEAD, skips the upload, and the manifest is taken: a tag that nobody can pull."""
    server = DockerRegistry(program, tmp_path / "registry")
    path = server.root / "config.yml"
    settings = json.loads(path.read_text())
    settings["storage"]["cache"] = {"blobdescriptor": "inmemory"}
    path.write_text(json.dumps(settings))
    with server:
        place = Place(DistributionRegistry(server.address), "team/app")
        layer = push_blob(place, b"a layer", media_type=media_types.OCI_LAYER)
        collected(program, server)
        assert place.registry.blob_size("team/app", layer.digest) == len(b"a layer")
        with pytest.raises(
            Unavailable, match="7 bytes before its end"
        ):  # it answers 200 with the length, and sends nothing
            once = DistributionRegistry(server.address, retries=Retries(attempts=1))
            read_blob(Place(once, "team/app"), layer, limit=100)
        config = push_blob(place, b"{}", media_type=media_types.OCI_CONFIG)
        image = Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=(layer,))
        place.registry.put_manifest("team/app", manifest_bytes(image), tag="broken")


def test_layers_that_are_needed_are_named(server: DockerRegistry) -> None:
    place = Place(DistributionRegistry(server.address), "team/app")
    image = push(place, "v1", days_ago=1)
    layer = Digest.of(b"layer of v1")
    [found] = endangered(survey(place), Eligible(blobs=frozenset([layer])))
    assert (found.digest, found.tags, found.blob) == (layer, ("v1",), True)
    elsewhere = read_dry_run(f"other\nmanifest eligible for deletion: {image.digest}\n")
    assert endangered(survey(place), elsewhere) == [], "in another repository it has no tag"


def test_without_a_dry_run_nothing_is_said(server: DockerRegistry, tmp_path: Path) -> None:
    chain = chain_of(server, tmp_path)
    with pytest.raises(InputError, match="not what a dry run"):
        chain.check_garbage("far", "registry: unknown flag\n")
    told = chain.garbage("far")
    assert told.ok and not told.changed and any("never give `-m`" in each for each in told.notes)
    assert all(
        any(each.startswith(COLLECTORS[name].title) for each in told.notes) for name in ("harbor", "quay", "zot")
    )


@given(
    st.text(), st.lists(st.sampled_from(["a", "b/c", "?", "manifest eligible for deletion: x", "blob eligible for"]))
)
def test_any_output_is_read(text: str, lines: list[str]) -> None:
    digest = Digest.of(text.encode(errors="replace"))
    read = read_dry_run("\n".join([text, *lines, "team/app", f"manifest eligible for deletion: {digest}"]))
    assert digest in read.manifests["team/app"]


def test_everything_said_has_its_source() -> None:
    for each in (DISTRIBUTION, *COLLECTORS.values()):
        assert each.advice and each.source and each.date.startswith("2026-"), each
