"""Graphs with shared pieces and sparse indexes: ours against other tools', by the files that the registry stored."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from tests.patience import patient
from tests.transfer.test_peers import run, tar_of

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

ORAS_PLAIN = ("--from-plain-http", "--to-plain-http", "--no-tty")
SKOPEO_PLAIN = ("--src-tls-verify=false", "--dest-tls-verify=false")


def runnable(place: Place, architecture: str, *files: str, tag: str = "") -> ManifestBytes:
    """An image of real tar layers, one for each file, which a validator can unpack."""
    tars = [tar_of(name, name.encode() * 1000) for name in files]
    diffs = ",".join(f'"{Digest.of(tar)}"' for tar in tars)
    config = f'{{"architecture":"{architecture}","os":"linux","rootfs":{{"type":"layers","diff_ids":[{diffs}]}}}}'
    packed = [gzip.compress(tar, mtime=0) for tar in tars]
    manifest = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, config.encode(), media_type=media_types.OCI_CONFIG),
            layers=tuple(push_blob(place, layer, media_type=media_types.OCI_LAYER_GZIP) for layer in packed),
        )
    )
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    return manifest


def stored(registry: Counted, repository: str) -> set[str]:
    """Digests of all that a repository holds, manifests and blobs, as its folder on disk shows them."""
    return {path.name for path in (registry.server.root / repository / "blobs" / "sha256").iterdir()}


def two_platforms(place: Place, graphs: Graphs, *, tag: str = "v1") -> tuple[ManifestBytes, ...]:
    """An index over two images with a base layer in common; the index and the images."""
    children = [(runnable(place, name, "base", name), f"linux/{name}") for name in ("amd64", "arm64")]
    return (graphs.index(place, *children, tag=tag), *(child for child, _ in children))


def shared_referrers(place: Place, graphs: Graphs) -> ManifestBytes:
    """Evidence of both images in the same blob, each with its own manifest; one that is a child and has a tag, too."""
    amd64, arm64 = (runnable(place, name, "base", name) for name in ("amd64", "arm64"))
    for image in (amd64, arm64):
        evidence = graphs.artifact(place, b"the same findings", subject=image.descriptor)
        graphs.artifact(place, b"the same signature", subject=evidence.descriptor)
    both = graphs.artifact(place, b"provenance", subject=amd64.descriptor, tag="provenance")
    graphs.artifact(place, b"the same signature", subject=both.descriptor)
    top = graphs.index(place, (amd64, "linux/amd64"), (arm64, "linux/arm64"), (both, ""), tag="v1")
    graphs.artifact(place, b"the same signature", subject=top.descriptor)
    return top


@pytest.mark.peer("crane")
def test_crane_unpacks_every_image_of_an_index_that_we_copied(
    source: Counted, target: Counted, graphs: Graphs, peer: Callable[[str], str]
) -> None:
    crane, here = peer("crane"), source.place("app")
    two_platforms(here, graphs)
    copy_closure(here, "v1", [target.place("app")])
    run(crane, "cp", "--insecure", f"{source.address}/app:v1", f"{target.address}/theirs:v1")
    assert stored(target, "theirs") == stored(target, "app") == stored(source, "app")
    run(crane, "validate", "--insecure", "--remote", f"{target.address}/app:v1")


@pytest.mark.peer("oras")
def test_oras_stores_the_same_of_shared_referrers(
    source: Counted, target: Counted, graphs: Graphs, peer: Callable[[str], str]
) -> None:
    here = source.place("app")
    shared_referrers(here, graphs)
    copy_closure(here, "v1", [target.place("ours")])
    run(peer("oras"), "cp", "-r", *ORAS_PLAIN, f"{source.address}/app:v1", f"{target.address}/theirs:v1")
    assert stored(target, "ours") == stored(target, "theirs") == stored(source, "app")


@pytest.mark.peer("oras")
def test_referrer_copied_by_its_own_tag_is_what_oras_copies_but_for_the_subject(
    source: Counted, target: Counted, graphs: Graphs, peer: Callable[[str], str]
) -> None:
    """A closure goes down and to referrers, never up: who asks for a proof does not ask for the image it is about."""
    here = source.place("app")
    shared_referrers(here, graphs)
    runnable(source.place("subject"), "amd64", "base", "amd64")
    copy_closure(here, "provenance", [target.place("ours")])
    names = [f"{registry.address}/{name}:provenance" for registry, name in ((source, "app"), (target, "theirs"))]
    run(peer("oras"), "cp", "-r", *ORAS_PLAIN, *names)
    assert stored(target, "theirs") - stored(target, "ours") == stored(source, "subject")
    assert stored(target, "ours") < stored(target, "theirs")


@pytest.mark.peer("crane", "skopeo")
def test_crane_and_skopeo_store_the_tree_without_its_referrers(
    source: Counted, target: Counted, graphs: Graphs, peer: Callable[[str], str]
) -> None:
    """What both of them leave behind is what refers to the tree, nothing else, and that is in our copy."""
    crane, skopeo, here = peer("crane"), peer("skopeo"), source.place("app")
    top = shared_referrers(here, graphs)
    tree = two_platforms(source.place("bare"), graphs)
    copy_closure(here, "v1", [target.place("ours")])
    run(crane, "cp", "--insecure", f"{source.address}/app:v1", f"{target.address}/crane:v1")
    copied = ("--insecure-policy", "copy", "--all", "--preserve-digests", *SKOPEO_PLAIN)
    run(skopeo, *copied, f"docker://{source.address}/app:v1", f"docker://{target.address}/skopeo:v1")
    assert stored(target, "crane") == stored(target, "skopeo")
    assert stored(target, "crane") >= stored(source, "bare") - {tree[0].digest.hex} | {top.digest.hex}
    assert stored(target, "crane") < stored(target, "ours") == stored(source, "app")


@pytest.mark.peer("crane", "skopeo")
def test_sparse_index_has_exactly_the_chosen_image_and_others_can_read_it(
    source: Counted, target: Counted, graphs: Graphs, peer: Callable[[str], str]
) -> None:
    crane, skopeo, here = peer("crane"), peer("skopeo"), source.place("app")
    top, amd64, arm64 = two_platforms(here, graphs)
    copy_closure(here, "v1", [target.place("ours")], platforms=[Platform.parse("linux/arm64")])
    copied = (skopeo, "--insecure-policy", "copy", "--preserve-digests", *SKOPEO_PLAIN)
    theirs = f"docker://{target.address}/theirs"
    run(*copied, f"docker://{source.address}/app@{arm64.digest}", f"{theirs}@{arm64.digest}")
    run(*copied, "--multi-arch=index-only", f"docker://{source.address}/app:v1", f"{theirs}:v1")
    assert stored(target, "ours") == stored(target, "theirs")
    assert top.digest.hex in stored(target, "ours") and amd64.digest.hex not in stored(target, "ours")
    run(crane, "validate", "--insecure", "--platform=linux/arm64", "--remote", f"{target.address}/ours:v1")
    whole = (crane, "validate", "--insecure", "--remote", f"{target.address}/ours:v1")
    assert subprocess.run(whole, capture_output=True, timeout=patient(60)).returncode != 0


@pytest.mark.peer("skopeo")
def test_skopeo_reads_a_sparse_layout_that_we_wrote(
    source: Counted, target: Counted, graphs: Graphs, peer: Callable[[str], str], tmp_path: Path
) -> None:
    here, layouts = source.place("app"), LayoutRegistry(tmp_path / "layouts")
    _, _, arm64 = two_platforms(here, graphs)
    copy_closure(here, "v1", [Place(layouts, "ours")], platforms=[Platform.parse("linux/arm64")])
    there = f"{tmp_path}/layouts/ours:v1"
    chosen = ("--insecure-policy", "--override-arch=arm64", "copy", "--preserve-digests", *SKOPEO_PLAIN)
    run(peer("skopeo"), *chosen, f"oci:{there}", f"docker://{target.address}/image:v1")
    runnable(source.place("arm64"), "arm64", "base", "arm64")
    assert stored(target, "image") == stored(source, "arm64")
    assert target.registry.resolve("image", "v1").digest == arm64.digest
