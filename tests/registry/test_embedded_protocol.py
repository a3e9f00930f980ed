"""The embedded server speaks distribution-spec 1.1. The public conformance program says the same from outside
(docs/embedded-registry.md tells how to run it)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import MAX_MANIFEST_BYTES
from registry_pipelines.registry.embedded import EmbeddedServer
from tests.registry.wire import ask, begin, manifest_for, push_blob, push_image, put_manifest

CONTENT = b"".join(number.to_bytes(2) for number in range(1024))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "root") as running:
        yield running


def stored_files(server: EmbeddedServer) -> list[str]:
    """Blobs on disk."""
    return sorted(path.name for path in server.root.rglob("blobs/*/*"))


# Ping and addresses


def test_ping(server: EmbeddedServer) -> None:
    answer = ask(server, "GET", "/v2/")
    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize("path", ["/", "/v1/", "/v2/a/unknown/b", "/v2/a/blobs", "/token"])
def test_unknown_addresses(server: EmbeddedServer, path: str) -> None:
    assert ask(server, "GET", path).status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/", "GET, HEAD"),
        ("PUT", f"/v2/a/blobs/{Digest.of(b'')}", "GET, HEAD, DELETE"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
        ("DELETE", "/v2/a/tags/list", "GET"),
        ("BREW", "/v2/a/manifests/v1", "GET, HEAD, PUT, DELETE"),
    ],
)
def test_methods_that_are_not_possible(server: EmbeddedServer, method: str, path: str, allowed: str) -> None:
    answer = ask(server, method, path)
    assert (answer.status, answer.code, answer.headers["Allow"]) == (405, "UNSUPPORTED", allowed)


@pytest.mark.parametrize("name", ["A", "a/../b", "a//b", "-a", "a/blobs", "x" * 256, "a%2f..%2fb", "a\u00e9"])
def test_bad_repository_names_touch_no_file(server: EmbeddedServer, name: str) -> None:
    path = f"/v2/{name}/blobs/uploads/".encode().decode("latin-1").replace("\u00c3\u00a9", "%C3%A9")
    answer = ask(server, "POST", path, b"")
    assert (answer.status, answer.code) == (400, "NAME_INVALID")
    assert list(server.root.iterdir()) == []


# Blobs


def test_a_blob_with_all_its_headers(server: EmbeddedServer) -> None:
    digest = push_blob(server, "a/b", CONTENT)
    for method in ("GET", "HEAD"):
        answer = ask(server, method, f"/v2/a/b/blobs/{digest}")
        assert answer.status == 200
        assert answer.headers["Docker-Content-Digest"] == digest
        assert answer.headers["Content-Length"] == str(len(CONTENT))
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.body == (CONTENT if method == "GET" else b"")
    assert ask(server, "GET", f"/v2/a/b/blobs/{digest}", headers={"If-None-Match": f'"{digest}"'}).status == 304


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_an_unknown_blob(server: EmbeddedServer, method: str) -> None:
    push_blob(server, "a", CONTENT)
    unknown = Digest.of(b"unknown")
    for repository in ("a", "never"):
        answer = ask(server, method, f"/v2/{repository}/blobs/{unknown}")
        assert answer.status == 404
        assert method == "HEAD" or answer.code == "BLOB_UNKNOWN"


@pytest.mark.parametrize("digest", ["sha256:short", "md5:" + "0" * 32, "sha256:" + "A" * 64, "sha256"])
def test_a_digest_that_is_none(server: EmbeddedServer, digest: str) -> None:
    answer = ask(server, "GET", f"/v2/a/blobs/{digest}")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=500-1499", CONTENT[500:1500]),
        ("bytes=500-", CONTENT[500:]),
        ("bytes=-500", CONTENT[-500:]),
        ("bytes=-99999", CONTENT),
        ("bytes=2000-99999", CONTENT[2000:]),
        ("bytes=0-0", CONTENT[:1]),
    ],
)
def test_ranges(server: EmbeddedServer, header: str, expected: bytes) -> None:
    digest = push_blob(server, "a", CONTENT)
    answer = ask(server, "GET", f"/v2/a/blobs/{digest}", headers={"Range": header})
    start = CONTENT.index(expected)
    assert (answer.status, answer.body) == (206, expected)
    assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(expected) - 1}/{len(CONTENT)}"


@pytest.mark.parametrize("header", ["bytes=2048-", "bytes=5000-6000", "bytes=500-0", "bytes=-0"])
def test_ranges_outside(server: EmbeddedServer, header: str) -> None:
    digest = push_blob(server, "a", CONTENT)
    answer = ask(server, "GET", f"/v2/a/blobs/{digest}", headers={"Range": header})
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(CONTENT)}")


@pytest.mark.parametrize("header", ["bytes=0-1,4-5", "lines=1-2", "bytes=a-b", "bytes=-"])
def test_ranges_not_understood_give_everything(server: EmbeddedServer, header: str) -> None:
    digest = push_blob(server, "a", CONTENT)
    answer = ask(server, "GET", f"/v2/a/blobs/{digest}", headers={"Range": header})
    assert (answer.status, answer.body) == (200, CONTENT)


def test_a_range_of_another_version_gives_everything(server: EmbeddedServer) -> None:
    digest = push_blob(server, "a", CONTENT)
    headers = {"Range": "bytes=0-9", "If-Range": '"sha256:other"'}
    assert ask(server, "GET", f"/v2/a/blobs/{digest}", headers=headers).status == 200
    headers["If-Range"] = f'"{digest}"'
    assert ask(server, "GET", f"/v2/a/blobs/{digest}", headers=headers).status == 206


def test_a_deleted_blob_is_gone_and_its_space_free(server: EmbeddedServer) -> None:
    digest = push_blob(server, "a", CONTENT)
    assert ask(server, "DELETE", f"/v2/a/blobs/{digest}").status == 202
    assert ask(server, "HEAD", f"/v2/a/blobs/{digest}").status == 404
    assert stored_files(server) == []


def test_a_manifest_is_not_deleted_as_a_blob(server: EmbeddedServer) -> None:
    digest = push_image(server, "a", b"layer", "v1")
    assert ask(server, "DELETE", f"/v2/a/blobs/{digest}").status == 405
    assert ask(server, "GET", "/v2/a/manifests/v1").status == 200


# Mounts


def test_a_mount_links_and_copies_nothing(server: EmbeddedServer) -> None:
    digest = push_blob(server, "a", CONTENT)
    answer = ask(server, "POST", f"/v2/b/blobs/uploads/?mount={digest}&from=a", b"")
    assert (answer.status, answer.headers["Location"]) == (201, f"/v2/b/blobs/{digest}")
    assert ask(server, "GET", f"/v2/b/blobs/{digest}").body == CONTENT
    inodes = {path.stat().st_ino for path in server.root.rglob("blobs/*/*")}
    assert len(inodes) == 1
    assert ask(server, "DELETE", f"/v2/a/blobs/{digest}").status == 202
    assert ask(server, "GET", f"/v2/b/blobs/{digest}").body == CONTENT


def test_a_mount_without_source_looks_everywhere(server: EmbeddedServer) -> None:
    digest = push_blob(server, "deep/in/side", CONTENT)
    assert ask(server, "POST", f"/v2/b/blobs/uploads/?mount={digest}", b"").status == 201
    assert ask(server, "HEAD", f"/v2/b/blobs/{digest}").status == 200


@pytest.mark.parametrize("source", ["&from=a", "&from=never", "&from=NOT/A/NAME", ""])
def test_what_cannot_be_mounted_becomes_an_upload(server: EmbeddedServer, source: str) -> None:
    push_blob(server, "a", b"something else")
    digest = Digest.of(CONTENT)
    answer = ask(server, "POST", f"/v2/b/blobs/uploads/?mount={digest}{source}", b"")
    assert answer.status == 202
    finish = ask(server, "PUT", f"{answer.headers['Location']}?digest={digest}", CONTENT)
    assert finish.status == 201
    assert ask(server, "GET", f"/v2/b/blobs/{digest}").body == CONTENT


# Manifests


def test_a_manifest_with_all_its_headers(server: EmbeddedServer) -> None:
    digest = push_image(server, "a", b"layer", "v1")
    for reference in ("v1", digest):
        for method in ("GET", "HEAD"):
            answer = ask(server, method, f"/v2/a/manifests/{reference}")
            assert answer.status == 200
            assert answer.headers["Content-Type"] == media_types.OCI_MANIFEST
            assert answer.headers["Docker-Content-Digest"] == digest
            assert int(answer.headers["Content-Length"]) == len(manifest_for([b"layer"]))
            assert method == "HEAD" or Digest.of(answer.body) == digest
    known = {"If-None-Match": f'"{digest}"'}
    assert ask(server, "GET", "/v2/a/manifests/v1", headers=known).status == 304


def test_unknown_manifests_and_repositories(server: EmbeddedServer) -> None:
    push_image(server, "a", b"layer", "v1")
    for reference in ("v2", Digest.of(b"unknown"), ".not-a-tag"):
        answer = ask(server, "GET", f"/v2/a/manifests/{reference}")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
    answer = ask(server, "GET", "/v2/never/manifests/v1")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


def test_tags_beside_a_digest(server: EmbeddedServer) -> None:
    push_image(server, "a", b"layer")
    raw = manifest_for([b"layer"])
    tags = [f"tag-{number}" for number in range(12)]
    query = "&".join(f"tag={tag}" for tag in tags)
    answer = put_manifest(server, "a", raw, f"{Digest.of(raw)}?{query}")
    assert answer.status == 201
    assert [tag.strip() for tag in answer.headers["OCI-Tag"].split(",")] == tags
    assert ask(server, "GET", "/v2/a/tags/list").json["tags"] == sorted(tags)


def test_a_sha512_manifest(server: EmbeddedServer) -> None:
    raw = manifest_for([])
    digest = Digest.of(raw, "sha512")
    answer = put_manifest(server, "a", raw, f"{digest}?tag=long")
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest)
    assert ask(server, "HEAD", "/v2/a/manifests/long").headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize(
    ("raw", "reference", "media_type", "code"),
    [
        (b"{", "v1", media_types.OCI_MANIFEST, "MANIFEST_INVALID"),
        (b"[]", "v1", media_types.OCI_MANIFEST, "MANIFEST_INVALID"),
        (b"\xff\xfe", "v1", media_types.OCI_MANIFEST, "MANIFEST_INVALID"),
        (manifest_for([]), "v1", "text/plain", "MANIFEST_INVALID"),
        (manifest_for([]), "v1", media_types.OCI_INDEX, "MANIFEST_INVALID"),
        (manifest_for([], manifests=[]), "v1", media_types.OCI_MANIFEST, "MANIFEST_INVALID"),
        (manifest_for([], schemaVersion=1), "v1", media_types.OCI_MANIFEST, "MANIFEST_INVALID"),
        (manifest_for([]), ".dot", media_types.OCI_MANIFEST, "MANIFEST_INVALID"),
        (manifest_for([]), "sha256:bad", media_types.OCI_MANIFEST, "DIGEST_INVALID"),
        (manifest_for([]), Digest.of(b"other"), media_types.OCI_MANIFEST, "DIGEST_INVALID"),
        (b"[" * 100_000, "v1", media_types.OCI_MANIFEST, "MANIFEST_INVALID"),
    ],
)
def test_manifests_that_are_refused(
    server: EmbeddedServer, raw: bytes, reference: str, media_type: str, code: str
) -> None:
    answer = put_manifest(server, "a", raw, reference, media_type)
    assert (answer.status, answer.code) == (400, code)
    assert ask(server, "GET", "/v2/a/tags/list").status == 404


def test_the_largest_manifest_and_one_byte_more(server: EmbeddedServer) -> None:
    raw = manifest_for([])
    raw += b" " * (MAX_MANIFEST_BYTES - len(raw))
    assert put_manifest(server, "a", raw, "full").status == 201
    answer = put_manifest(server, "a", raw + b" ", "more")
    assert (answer.status, answer.code) == (413, "SIZE_INVALID")
    pieces = (raw[start : start + 100_000] for start in range(0, len(raw) + 1, 100_000))
    chunked = ask(server, "PUT", "/v2/a/manifests/chunked", pieces, {"Content-Type": media_types.OCI_MANIFEST})
    assert chunked.status == 201
    assert ask(server, "GET", "/v2/a/tags/list").json["tags"] == ["chunked", "full"]


def test_incomplete_images_are_refused_only_when_asked_for(server: EmbeddedServer, tmp_path: Path) -> None:
    raw = manifest_for([b"never pushed"])
    assert put_manifest(server, "a", raw, "v1").status == 201
    with EmbeddedServer(tmp_path / "strict", require_complete=True) as strict:
        push_blob(strict, "a", b"{}")
        answer = put_manifest(strict, "a", raw, "v1")
        assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")
        assert answer.json["errors"][0]["detail"] == [{"digest": Digest.of(b"never pushed")}]
        push_blob(strict, "a", b"never pushed")
        assert put_manifest(strict, "a", raw, "v1").status == 201


def test_a_sparse_index_and_foreign_layers_are_always_fine(tmp_path: Path) -> None:
    child = {"mediaType": media_types.OCI_MANIFEST, "digest": Digest.of(b"elsewhere"), "size": 9}
    index = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [child]}).encode()
    foreign = {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "digest": Digest.of(b"foreign"),
        "size": 7,
        "urls": ["https://example.com/layer"],
    }
    with EmbeddedServer(tmp_path / "strict", require_complete=True) as strict:
        assert put_manifest(strict, "a", index, "sparse", media_types.OCI_INDEX).status == 201
        assert ask(strict, "GET", f"/v2/a/manifests/{child['digest']}").status == 404
        push_blob(strict, "a", b"{}")
        assert put_manifest(strict, "a", manifest_for([], layers=[foreign]), "foreign").status == 201


def test_deletes_of_tags_and_manifests(server: EmbeddedServer) -> None:
    digest = push_image(server, "a", b"layer", "v1")
    put_manifest(server, "a", manifest_for([b"layer"]), "v2")
    assert ask(server, "DELETE", "/v2/a/manifests/v1").status == 202
    assert ask(server, "DELETE", "/v2/a/manifests/v1").status == 404
    assert ask(server, "GET", f"/v2/a/manifests/{digest}").status == 200
    assert ask(server, "DELETE", f"/v2/a/manifests/{digest}").status == 202
    assert ask(server, "GET", "/v2/a/manifests/v2").status == 404
    assert ask(server, "DELETE", f"/v2/a/manifests/{digest}").status == 404
    assert ask(server, "GET", "/v2/a/tags/list").json == {"name": "a", "tags": []}
    assert ask(server, "DELETE", "/v2/never/manifests/v1").status == 404


# Lists


def test_tags_page_by_page(server: EmbeddedServer) -> None:
    push_image(server, "a/b", b"layer", "x")
    tags = sorted(["x", *(f"t{number}" for number in range(7)), "T9"])
    for tag in tags:
        put_manifest(server, "a/b", manifest_for([b"layer"]), tag)
    assert ask(server, "GET", "/v2/a/b/tags/list").json == {"name": "a/b", "tags": tags}
    listed: list[str] = []
    path = "/v2/a/b/tags/list?n=2"
    while path:
        answer = ask(server, "GET", path)
        assert len(answer.json["tags"]) <= 2
        listed += answer.json["tags"]
        link = answer.headers.get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        path = link.partition(">")[0].lstrip("<")
    assert listed == tags
    assert ask(server, "GET", "/v2/a/b/tags/list?last=t3").json["tags"] == ["t4", "t5", "t6", "x"]
    assert ask(server, "GET", "/v2/a/b/tags/list?last=zzz").json["tags"] == []
    nothing = ask(server, "GET", "/v2/a/b/tags/list?n=0")
    assert (nothing.json["tags"], nothing.headers.get("Link")) == ([], None)
    assert ask(server, "GET", f"/v2/a/b/tags/list?n={len(tags)}").headers.get("Link") is None
    assert ask(server, "GET", "/v2/a/b/tags/list?n=-1").status == 400
    assert ask(server, "GET", "/v2/never/tags/list").status == 404


def test_the_catalogue(server: EmbeddedServer) -> None:
    names = ["a", "a/b", "a/b/c", "b-2", "c"]
    for name in reversed(names):
        push_image(server, name, b"layer", "v1")
    begin(server, "only/begun")
    assert ask(server, "GET", "/v2/_catalog").json == {"repositories": names}
    first = ask(server, "GET", "/v2/_catalog?n=2")
    assert first.json == {"repositories": ["a", "a/b"]}
    rest = ask(server, "GET", first.headers["Link"].partition(">")[0].lstrip("<"))
    assert rest.json == {"repositories": ["a/b/c", "b-2"]}


# Referrers


def push_note(server: EmbeddedServer, repository: str, subject: Digest, text: str, kind: str = "a/x+json") -> Digest:
    pointer = {"mediaType": media_types.OCI_MANIFEST, "digest": subject, "size": 1}
    return push_image(server, repository, text.encode(), artifactType=kind, subject=pointer, annotations={"text": text})


def test_referrers(server: EmbeddedServer) -> None:
    subject = push_image(server, "a", b"layer", "v1")
    notes = {push_note(server, "a", subject, f"note {number}"): f"note {number}" for number in range(3)}
    other = push_note(server, "a", subject, "other", "b/y")
    answer = ask(server, "GET", f"/v2/a/referrers/{subject}")
    assert answer.headers["Content-Type"] == media_types.OCI_INDEX
    assert (answer.json["schemaVersion"], answer.json["mediaType"]) == (2, media_types.OCI_INDEX)
    referrers = {entry["digest"]: entry for entry in answer.json["manifests"]}
    assert set(referrers) == {*notes, other}
    for digest, text in notes.items():
        assert referrers[digest]["annotations"] == {"text": text}
        assert referrers[digest]["artifactType"] == "a/x+json"
    for query in ("artifactType=a/x%2Bjson", "artifactType=a/x+json"):
        filtered = ask(server, "GET", f"/v2/a/referrers/{subject}?{query}")
        assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
        assert {entry["digest"] for entry in filtered.json["manifests"]} == set(notes)


def test_no_referrers(server: EmbeddedServer) -> None:
    for repository in ("a", "never"):
        answer = ask(server, "GET", f"/v2/{repository}/referrers/{Digest.of(b'x')}")
        assert (answer.status, answer.json["manifests"]) == (200, [])
    assert ask(server, "GET", "/v2/a/referrers/sha256:bad").status == 400


def test_a_pushed_subject_is_confirmed_and_its_kind_found(server: EmbeddedServer) -> None:
    subject = Digest.of(b"comes later")
    pointer = {"mediaType": media_types.OCI_MANIFEST, "digest": subject, "size": 11}
    answer = put_manifest(server, "a", manifest_for([], subject=pointer), "v1")
    assert answer.headers["OCI-Subject"] == subject
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [], "subject": pointer}
    put_manifest(server, "a", json.dumps(index).encode(), "i", media_types.OCI_INDEX)
    entries = ask(server, "GET", f"/v2/a/referrers/{subject}").json["manifests"]
    kinds = {entry["mediaType"]: entry.get("artifactType") for entry in entries}
    assert kinds == {media_types.OCI_MANIFEST: media_types.OCI_CONFIG, media_types.OCI_INDEX: None}


def test_many_large_referrers_come_in_pages(server: EmbeddedServer) -> None:
    subject = Digest.of(b"subject")
    pointer = {"mediaType": media_types.OCI_MANIFEST, "digest": subject, "size": 7}
    pushed = set()
    for number in range(5):
        raw = manifest_for([], subject=pointer, annotations={"text": str(number) * 1_000_000})
        assert put_manifest(server, "a", raw, Digest.of(raw)).status == 201
        pushed.add(Digest.of(raw))
    listed: list[str] = []
    path = f"/v2/a/referrers/{subject}"
    pages = 0
    while path:
        answer = ask(server, "GET", path)
        assert len(answer.body) <= MAX_MANIFEST_BYTES
        listed += [entry["digest"] for entry in answer.json["manifests"]]
        path = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        pages += 1
    assert (set(listed), len(listed)) == (pushed, 5)
    assert pages > 1
