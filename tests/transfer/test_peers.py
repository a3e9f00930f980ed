"""The same graphs copied by independent tools; theirs and ours compared digest by digest."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure.discovery import discover
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.verify import compare
from tests.patience import patient

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(120))
    assert done.returncode == 0, done.stderr


@pytest.mark.peer("crane")
def test_crane_finds_our_copy_valid(
    source: Counted, target: Counted, graphs: Graphs, peer: Callable[[str], str]
) -> None:
    crane = peer("crane")
    index = graphs.signed_index(source.place("app"), "v1")
    copy_closure(source.place("app"), "v1", [target.place("ours")])
    run(crane, "cp", "--insecure", f"{source.address}/app:v1", f"{target.address}/theirs:v1")
    ours, theirs = (discover(target.place(name), "v1") for name in ("ours", "theirs"))
    assert theirs.root.digest == ours.root.digest == index.digest
    assert {item.digest for item in theirs.manifests} < {item.digest for item in ours.manifests}
    assert set(theirs.blobs) < set(ours.blobs)
    back = subprocess.run([crane, "digest", "--insecure", f"{target.address}/ours:v1"], capture_output=True, text=True)
    assert back.stdout.strip() == index.digest


@pytest.mark.peer("crane")
def test_crane_validates_every_layer_of_our_copy(source: Counted, target: Counted, peer: Callable[[str], str]) -> None:
    here = source.place("app")
    tars = [tar_of(f"file{number}", b"content" * 1000 * number) for number in (1, 2)]
    diffs = ",".join(f'"{Digest.of(tar)}"' for tar in tars)
    config = f'{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{diffs}]}}}}'
    manifest = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(here, config.encode(), media_type=media_types.OCI_CONFIG),
            layers=tuple(push_blob(here, gzip.compress(tar), media_type=media_types.OCI_LAYER_GZIP) for tar in tars),
        )
    )
    here.registry.put_manifest("app", manifest, tag="v1")
    copy_closure(here, "v1", [target.place("app")])
    run(peer("crane"), "validate", "--insecure", "--remote", f"{target.address}/app:v1")


def tar_of(name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


@pytest.mark.peer("oras")
def test_oras_copies_the_same_graph(
    source: Counted, target: Counted, graphs: Graphs, peer: Callable[[str], str]
) -> None:
    oras = peer("oras")
    graphs.signed_index(source.place("app"), "v1")
    copy_closure(source.place("app"), "v1", [target.place("ours")])
    plain = ("--from-plain-http", "--to-plain-http", "--no-tty")
    run(oras, "cp", "-r", *plain, f"{source.address}/app:v1", f"{target.address}/theirs:v1")
    cosign = set(discover(target.place("ours"), "v1").digest_tags.values())
    mismatches = compare(target.place("ours"), target.place("theirs"), "v1")
    # oras does not know cosign's tags; it is to have everything else.
    lost = {item.expected for item in mismatches if item.kind in ("manifest", "tag")}
    assert lost == {str(digest) for digest in cosign}
    assert not [item for item in mismatches if item.kind == "referrer"]


@pytest.mark.peer("skopeo")
def test_skopeo_reads_our_copy_and_we_read_theirs(
    source: Counted, target: Counted, graphs: Graphs, peer: Callable[[str], str]
) -> None:
    skopeo = peer("skopeo")
    graphs.image(source.place("app"), graphs.noise(9_000_000), b"two", tag="v1")
    copy_closure(source.place("app"), "v1", [target.place("ours")])
    tls = ("--src-tls-verify=false", "--dest-tls-verify=false")
    run(
        skopeo,
        "--insecure-policy",
        "copy",
        "--all",
        "--preserve-digests",
        *tls,
        f"docker://{target.address}/ours:v1",
        f"docker://{target.address}/theirs:v1",
    )
    assert compare(source.place("app"), target.place("theirs"), "v1", content=True) == []


@pytest.mark.peer("docker-registry", "oras")
def test_fallback_tags_are_kept_as_oras_reads_them(
    source: Counted,
    graphs: Graphs,
    peer: Callable[[str], str],
    start_docker_registry: Callable[[], str],
    connect: Callable[..., DistributionRegistry],
) -> None:
    oras = peer("oras")
    here = source.place("app")
    top = graphs.signed_index(here, "v1")
    address = start_docker_registry()
    there = Place(connect(address), "app")
    copy_closure(here, "v1", [there])
    assert compare(here, there, "v1") == []
    command = [oras, "discover", "--plain-http", "--format", "json", f"{address}/app@{top.digest}"]
    listing = subprocess.run(command, capture_output=True, text=True, timeout=patient(60))
    assert listing.returncode == 0, listing.stderr
    for referrer in here.registry.referrers("app", top.digest):
        assert referrer.digest in listing.stdout
    back = source.place("back")
    copy_closure(there, "v1", [back])
    assert compare(here, back, "v1", content=True) == []
