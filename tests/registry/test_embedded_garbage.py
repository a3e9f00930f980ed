"""Freeing unreferenced blobs: what goes, what stays, and that running pushes lose nothing."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded.garbage import Freed, collect_garbage
from registry_pipelines.registry.embedded.storage import Store
from registry_pipelines.registry.embedded.uploads import Uploads
from tests.registry.wire import ask, begin, manifest_for, push_blob, push_image, put_manifest

HOUR = 3600.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "root") as running:
        yield running


def grow_old(server: EmbeddedServer) -> None:
    """Everything stored was last used two hours ago."""
    then = time.time() - 2 * HOUR
    for path in server.root.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def there(server: EmbeddedServer, repository: str, digest: Digest) -> bool:
    """Whether the blob is on disk; asking the server would count as use."""
    return server.store.layout(repository).blob_size(digest) is not None


def test_unreferenced_blobs_go_and_referenced_ones_stay(server: EmbeddedServer) -> None:
    manifest = push_image(server, "a", b"layer", "v1")
    loose = push_blob(server, "a", b"loose" * 1000)
    grow_old(server)
    collected = server.collect_garbage(grace_s=HOUR)
    assert (collected.blobs, collected.bytes_freed, collected.skipped) == (1, 5000, [])
    assert not there(server, "a", loose)
    for kept in (manifest, Digest.of(b"layer"), Digest.of(b"{}")):
        assert there(server, "a", kept)
    again = server.collect_garbage(grace_s=HOUR)
    assert (again.blobs, again.bytes_freed) == (0, 0)


def test_layers_go_when_their_manifest_is_deleted(server: EmbeddedServer) -> None:
    manifest = push_image(server, "a", b"layer", "v1")
    ask(server, "DELETE", f"/v2/a/manifests/{manifest}")
    grow_old(server)
    assert server.collect_garbage(grace_s=HOUR).blobs == 2
    assert list(server.root.rglob("blobs/*/*")) == []


def test_untagged_manifests_children_and_referrers_keep_their_blobs(server: EmbeddedServer) -> None:
    untagged = push_image(server, "a", b"untagged layer")
    child = push_image(server, "a", b"child layer")
    index = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [{"mediaType": media_types.OCI_MANIFEST, "digest": child, "size": 1}],
    }
    put_manifest(server, "a", json.dumps(index).encode(), "multi", media_types.OCI_INDEX)
    pointer = {"mediaType": media_types.OCI_MANIFEST, "digest": untagged, "size": 1}
    note = push_image(server, "a", b"note layer", artifactType="x/y", subject=pointer)
    grow_old(server)
    assert server.collect_garbage(grace_s=HOUR).blobs == 0
    for digest in (untagged, child, note, *(Digest.of(text) for text in (b"untagged layer", b"child layer"))):
        assert there(server, "a", digest)


def test_children_that_only_an_index_names_keep_their_blobs(server: EmbeddedServer) -> None:
    """As other tools write layouts: index.json lists the index alone."""
    child = push_image(server, "a", b"child layer", "child")
    index = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [{"mediaType": media_types.OCI_MANIFEST, "digest": child, "size": 1}],
    }
    put_manifest(server, "a", json.dumps(index).encode(), "multi", media_types.OCI_INDEX)
    path = server.root / "a/index.json"
    listed = json.loads(path.read_text())
    listed["manifests"] = [entry for entry in listed["manifests"] if entry["digest"] != child]
    path.write_text(json.dumps(listed))
    grow_old(server)
    assert server.collect_garbage(grace_s=HOUR).blobs == 0
    assert there(server, "a", Digest.of(b"child layer"))
    assert ask(server, "GET", f"/v2/a/manifests/{child}").status == 200


@pytest.mark.parametrize("use", ["head", "mount-in", "mount-out", "upload", "manifest"])
def test_every_use_starts_the_grace_time_again(server: EmbeddedServer, use: str) -> None:
    content = b"about to be used"
    digest = push_blob(server, "a", content)
    grow_old(server)
    if use == "head":
        assert ask(server, "HEAD", f"/v2/a/blobs/{digest}").status == 200
    elif use == "mount-in":
        assert ask(server, "POST", f"/v2/a/blobs/uploads/?mount={digest}&from=a", b"").status == 201
    elif use == "mount-out":
        assert ask(server, "POST", f"/v2/b/blobs/uploads/?mount={digest}&from=a", b"").status == 201
    elif use == "upload":
        push_blob(server, "a", content)
    else:
        manifest = Digest.of(manifest_for([content]))
        assert put_manifest(server, "a", manifest_for([content]), "v1").status == 201
        assert ask(server, "DELETE", f"/v2/a/manifests/{manifest}").status == 202
    server.collect_garbage(grace_s=HOUR)
    assert there(server, "a", digest)


def test_a_shared_blob_counts_when_its_last_link_goes(server: EmbeddedServer) -> None:
    digest = push_blob(server, "a", b"x" * 1000)
    ask(server, "POST", f"/v2/b/blobs/uploads/?mount={digest}&from=a", b"")
    grow_old(server)
    collected = server.collect_garbage(grace_s=HOUR)
    assert (collected.blobs, collected.bytes_freed) == (2, 1000)


def test_abandoned_uploads_go_and_live_ones_stay(server: EmbeddedServer) -> None:
    push_image(server, "a", b"layer", "v1")
    abandoned = begin(server, "a")
    ask(server, "PATCH", abandoned, b"half")
    server.uploads.find(server.store.layout("a"), abandoned.rpartition("/")[2]).used_at -= 2 * HOUR  # type: ignore[union-attr]
    live = begin(server, "a")
    assert server.collect_garbage(grace_s=HOUR).uploads == 1
    assert ask(server, "GET", abandoned).status == 404
    assert ask(server, "GET", live).status == 204


def test_uploads_from_before_a_restart_go_too(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as before:
        location = begin(before, "only/uploads")
        ask(before, "PATCH", location, b"half")
        grow_old(before)
    with EmbeddedServer(tmp_path) as after:
        assert after.collect_garbage(grace_s=HOUR).uploads == 1
        assert ask(after, "GET", location).status == 404


def test_a_repository_that_cannot_be_understood_is_left_alone(server: EmbeddedServer) -> None:
    manifest = push_image(server, "a", b"layer", "v1")
    loose = push_blob(server, "a", b"loose")
    elsewhere = push_blob(server, "b", b"elsewhere")
    (server.root / "a/blobs/sha256" / manifest.hex).write_bytes(b"damaged")
    grow_old(server)
    collected = server.collect_garbage(grace_s=HOUR)
    assert len(collected.skipped) == 1
    assert "a: " in collected.skipped[0]
    assert there(server, "a", loose)
    assert not there(server, "b", elsewhere)


def test_the_server_collects_by_itself(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, garbage_interval_s=0.01, garbage_grace_s=HOUR) as server:
        digest = push_blob(server, "a", b"loose")
        grow_old(server)
        while there(server, "a", digest):
            pass


def test_a_collection_waits_for_nobody_and_nobody_for_it(server: EmbeddedServer) -> None:
    """Whoever writes a manifest holds the lock of its repository; a collection neither needs nor takes it."""
    loose = push_blob(server, "a", b"loose")
    push_image(server, "a", b"layer", "v1")
    grow_old(server)
    with server.store.layout("a").locked():
        assert server.collect_garbage(grace_s=HOUR).blobs == 1
    assert not there(server, "a", loose)


def test_a_dry_run_says_what_then_goes(server: EmbeddedServer) -> None:
    shared = push_blob(server, "a", b"x" * 1000)
    push_blob(server, "a", b"loose")
    ask(server, "POST", f"/v2/b/blobs/uploads/?mount={shared}&from=a", b"")
    push_image(server, "c", b"layer", "v1")
    begin(server, "c")
    grow_old(server)
    for session in server.uploads._sessions.values():
        session.used_at -= 2 * HOUR
    told = server.collect_garbage(grace_s=HOUR, dry_run=True)
    assert (told.blobs, told.bytes_freed, told.uploads) == (3, 1005, 1) and there(server, "a", shared)
    assert [each.repository for each in told.repositories] == ["a", "b", "c"]
    assert server.collect_garbage(grace_s=HOUR, only=["b"]).repositories == [Freed("b", 1, 0)]
    done = server.collect_garbage(grace_s=HOUR)
    assert (done.blobs, done.bytes_freed, done.uploads) == (2, 1005, 1)
    assert server.collect_garbage(grace_s=HOUR).repositories == []


@pytest.mark.parametrize("use", ["get", "head", "mount", "manifest"])
def test_what_a_killed_collection_set_aside_is_there_for_whoever_uses_it(server: EmbeddedServer, use: str) -> None:
    digest = push_blob(server, "a", b"set aside")
    grow_old(server)
    layout = server.store.layout("a")
    assert layout.put_aside(digest) and layout.set_aside() == [digest]
    if use == "get":
        assert ask(server, "GET", f"/v2/a/blobs/{digest}").body == b"set aside"
    elif use == "head":
        assert ask(server, "HEAD", f"/v2/a/blobs/{digest}").status == 200
    elif use == "mount":
        assert ask(server, "POST", f"/v2/b/blobs/uploads/?mount={digest}&from=a", b"").status == 201
    else:
        assert put_manifest(server, "a", manifest_for([b"set aside"]), "v1").status == 201
    assert there(server, "a", digest) and layout.set_aside() == []


def test_what_a_killed_collection_set_aside_goes_with_the_next(server: EmbeddedServer) -> None:
    manifest = push_image(server, "a", b"layer", "v1")
    loose = push_blob(server, "a", b"loose")
    grow_old(server)
    layout = server.store.layout("a")
    for digest in (
        loose,
        Digest.of(b"layer"),
    ):  # the second one is needed: somebody else's tool wrote the index meanwhile
        layout.put_aside(digest)
    told = server.collect_garbage(grace_s=HOUR, dry_run=True)
    done = server.collect_garbage(grace_s=HOUR)
    assert (done.blobs, done.bytes_freed, done.uploads) == (1, 5, 0) and told.uploads == 0
    assert layout.set_aside() == [] and there(server, "a", Digest.of(b"layer")) and there(server, "a", manifest)


def test_an_upload_that_another_process_let_expire_is_over(server: EmbeddedServer) -> None:
    """``collect garbage`` beside a server: to its client the upload is unknown, so that it begins again."""
    push_image(server, "a", b"layer", "v1")
    location = begin(server, "a")
    ask(server, "PATCH", location, b"half")
    grow_old(server)
    assert collect_garbage(Store(server.root), Uploads(), grace_s=HOUR).uploads == 1
    assert ask(server, "GET", location).status == 404
    assert ask(server, "PATCH", location, b"more").code == "BLOB_UPLOAD_UNKNOWN"


def test_an_index_of_layers_is_no_reason_to_stop(server: EmbeddedServer) -> None:
    """As BuildKit writes its cache (``mode=max,image-manifest=false``): layers stand in an index, as its manifests."""
    layer = push_blob(server, "a", b"\x1f\x8b" + os.urandom(5 << 20))
    loose = push_blob(server, "a", b"loose")
    entry = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": layer, "size": 5 << 20}
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [entry]}
    put_manifest(server, "a", json.dumps(index).encode(), "cache", media_types.OCI_INDEX)
    grow_old(server)
    done = server.collect_garbage(grace_s=HOUR)
    assert (done.blobs, done.skipped) == (1, []) and there(server, "a", layer) and not there(server, "a", loose)


def test_pushes_beside_collection_lose_nothing(tmp_path: Path) -> None:
    """Clients that skip what HEAD finds, while old blobs are collected without pause."""
    with EmbeddedServer(tmp_path, require_complete=True) as server:
        stop = threading.Event()

        def collect() -> None:
            while not stop.is_set():
                server.collect_garbage(grace_s=HOUR)

        def push(worker: int) -> None:
            for number in range(12):
                layer = f"layer {worker} {number % 5}".encode()
                for content in (b"{}", layer):
                    if ask(server, "HEAD", f"/v2/a/blobs/{Digest.of(content)}").status == 404:
                        push_blob(server, "a", content)
                raw = manifest_for([layer], annotations={"n": f"{worker}-{number}"})
                assert put_manifest(server, "a", raw, Digest.of(raw)).status == 201
                assert ask(server, "DELETE", f"/v2/a/manifests/{Digest.of(raw)}").status == 202
                path = server.root / "a/blobs/sha256" / Digest.of(layer).hex
                then = time.time() - 2 * HOUR
                if number % 3 == 2 and path.exists():
                    os.utime(path, (then, then))

        collecting = threading.Thread(target=collect)
        collecting.start()
        try:
            with ThreadPoolExecutor(3) as pool:
                list(pool.map(push, range(3)))
        finally:
            stop.set()
            collecting.join()
