"""What registries answer instead of a list of referrers, what stands where a list should, and attaching as one act."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from registry_pipelines.errors import (
    ContentError,
    Forbidden,
    NotFound,
    RateLimited,
    RegistryError,
    RegistryPipelinesError,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.evidence.artifacts import attach, attach_once, attached
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes, artifact_manifest
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client import referrers as room
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded.application import Handler
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.responses import Response
from registry_pipelines.registry.protocol import Place
from tests.doubles.fault_registry import FaultRegistry, LoseAnswer, Status
from tests.registry.contract import image
from tests.registry.faulty import KIND, errors

LISTS = r"/v2/.*/referrers/.*"
INDEX = {"Content-Type": media_types.OCI_INDEX}
NO_API = Status(404, body=b"404 page not found")


def index_of(*entries: Descriptor | dict[str, object], **more: object) -> ManifestBytes:
    """An index as anybody may push it."""
    rows = [
        entry
        if isinstance(entry, dict)
        else {"mediaType": entry.media_type, "digest": str(entry.digest), "size": entry.size}
        for entry in entries
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": rows, **more}).encode()
    return ManifestBytes(raw, media_types.OCI_INDEX, Digest.of(raw))


def note(subject: Descriptor, text: bytes) -> ManifestBytes:
    """An artifact about a subject, which nothing lists yet."""
    layer = Descriptor(media_type=KIND, digest=Digest.of(text), size=len(text))
    return artifact_manifest(artifact_type=KIND, layers=[layer], subject=subject)


@contextmanager
def elsewhere(folder: Path, answer: Response) -> Iterator[str]:
    """Another host, which answers everything so; its address."""
    with EmbeddedServer(folder, wrap=lambda _: lambda request: answer) as server:
        yield server.address


def store_alone(address: str, manifest: ManifestBytes, tag: str = "") -> None:
    """Store a manifest as a client does that is killed before it writes the list."""
    connection = http.client.HTTPConnection(address)
    headers = {"Content-Type": manifest.media_type}
    connection.request("PUT", f"/v2/a/manifests/{tag or manifest.digest}", manifest.raw, headers)
    assert connection.getresponse().status == 201
    connection.close()


def delete_alone(address: str, digest: Digest) -> None:
    """Delete a manifest as a client does that knows nothing of the list."""
    connection = http.client.HTTPConnection(address)
    connection.request("DELETE", f"/v2/a/manifests/{digest}")
    assert connection.getresponse().status == 202
    connection.close()


# What is not there, what is empty, what has failed


@pytest.mark.parametrize(
    "answer",
    [
        Status(400),
        Status(404, body=b"404 page not found"),
        Status(405),
        Status(406),
        Status(501),
        Status(404, body=errors("NOT_FOUND")),
        Status(400, body=errors("DIGEST_INVALID")),
        Status(200, {"Content-Type": "text/html"}, b"<!doctype html>"),
        Status(200, {"Content-Type": "application/json"}, b'{"message": "welcome"}'),
    ],
)
def test_without_the_api_the_tag_is_read(registry: DistributionRegistry, faults: FaultRegistry, answer: Status) -> None:
    faults.play("GET", LISTS, answer)
    subject = image(registry, "a", "text", tag="v1").descriptor
    assert registry.referrers("a", subject.digest) == []
    made = attach(Place(registry, "a"), subject=subject, artifact_type=KIND, content=b"one", media_type=KIND)
    assert [one.digest for one in registry.referrers("a", subject.digest)] == [made.digest]


@pytest.mark.parametrize(
    "answer",
    [
        Response(404, [("Content-Type", "text/plain")], b"Not Found"),
        Response(429),
        Response(200, [("Content-Type", "text/html")], b"<!doctype html>"),
    ],
)
@pytest.mark.parametrize("status", [303, 307])
def test_a_redirect_that_ends_at_no_list_on_another_host_is_no_api(
    registry: DistributionRegistry, faults: FaultRegistry, tmp_path: Path, answer: Response, status: int
) -> None:
    subject = image(registry, "a", "text", tag="v1").descriptor
    with elsewhere(tmp_path / "web", answer) as address:
        faults.play("GET", LISTS, Status(status, {"Location": f"http://{address}/-/v2/packages/a"}))
        made = attach(Place(registry, "a"), subject=subject, artifact_type=KIND, content=b"one", media_type=KIND)
        assert [one.digest for one in registry.referrers("a", subject.digest)] == [made.digest]
        assert registry.capabilities("a").referrers_api is False


def test_a_list_on_another_host_is_a_list(
    registry: DistributionRegistry, faults: FaultRegistry, tmp_path: Path
) -> None:
    subject = image(registry, "a", "text", tag="v1").descriptor
    named = note(subject, b"one").descriptor
    headers = [("Content-Type", media_types.OCI_INDEX)]
    with elsewhere(tmp_path / "other", Response(200, headers, index_of(named).raw)) as address:
        faults.play("GET", LISTS, Status(307, {"Location": f"http://{address}/lists"}))
        assert [one.digest for one in registry.referrers("a", subject.digest)] == [named.digest]
    faults.clear()
    with elsewhere(tmp_path / "later", Response(429)) as address:
        faults.play("GET", LISTS, Status(307, {"Location": f"http://{address}/lists"}))
        with pytest.raises(RateLimited):  # its lists are there, so this is a failure
            registry.referrers("a", subject.digest)


@pytest.mark.parametrize("body", [b"{}\n", b'{"schemaVersion":2,"manifests":null}', index_of().raw])
def test_an_empty_list_says_that_there_are_none(
    registry: DistributionRegistry, faults: FaultRegistry, body: bytes
) -> None:
    """Harbor 2.15 writes ``{}`` of what it does not know, dhi.io null (oras-dotnet#398, 2026-06)."""
    faults.play("GET", LISTS, Status(200, INDEX, body))
    subject = image(registry, "a", "text", tag="v1").descriptor
    assert registry.referrers("a", subject.digest) == []
    assert registry.capabilities("a").referrers_api is True


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Status(401), Unauthorized),
        (Status(403), Forbidden),
        (Status(404, body=errors("DENIED")), Forbidden),
        (Status(429), RateLimited),
        (Status(500), Unavailable),
        (Status(502), Unavailable),
        (LoseAnswer(), Unavailable),
        (Status(200, INDEX, b'{"schemaVersion":2,"manifests":[{"digest":'), ContentError),
        (Status(200, INDEX, b"[]"), ContentError),
    ],
)
def test_a_failure_never_means_that_there_are_none(
    registry: DistributionRegistry,
    faults: FaultRegistry,
    answer: Status | LoseAnswer,
    error: type[RegistryPipelinesError],
) -> None:
    subject = image(registry, "a", "text", tag="v1").descriptor
    faults.play("GET", LISTS, answer)
    with pytest.raises(error):
        registry.referrers("a", subject.digest)
    stored = note(subject, b"one")
    push_blob(Place(registry, "a"), b"{}", media_type=media_types.OCI_EMPTY)
    push_blob(Place(registry, "a"), b"one", media_type=KIND)
    with pytest.raises(error):
        registry.put_manifest("a", stored)
    with pytest.raises(NotFound):
        registry.get_manifest("a", stored.digest)


def test_an_endless_list_ends(
    registry: DistributionRegistry, faults: FaultRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = image(registry, "a", "text", tag="v1").descriptor
    monkeypatch.setattr(room, "MAX_LISTED", 5)
    for page in range(9):
        link = {"Link": f'</v2/a/referrers/{subject.digest}?page={page}>; rel="next"'}
        faults.play("GET", LISTS, Status(200, {**INDEX, **link}, index_of(subject, subject).raw), times=1)
        subject = note(subject, b"%d" % page).descriptor
    with pytest.raises(RegistryError, match="more than 5"):
        registry.referrers("a", subject.digest)


@pytest.mark.parametrize("answer", [Status(406), Status(200, {"Content-Type": "text/html"}, b"<p>Back soon")])
def test_an_api_that_answered_before_fails_where_it_answers_otherwise(
    registry: DistributionRegistry, faults: FaultRegistry, answer: Status
) -> None:
    subject = image(registry, "a", "text", tag="v1").descriptor
    faults.play("GET", LISTS, Status(200, INDEX, index_of().raw), times=1)
    faults.play("GET", LISTS, answer)
    assert registry.referrers("a", subject.digest) == []
    with pytest.raises(RegistryError):
        registry.referrers("a", subject.digest)


ODD = [
    NO_API,
    Status(404),
    Status(400),
    Status(405),
    Status(404, {"Content-Type": "text/html"}, b"<p>" + b"x" * 1000),
    Status(200, {"Content-Type": "text/html"}, b"<p>Back soon"),
]


@pytest.mark.parametrize("answer", ODD)
def test_one_odd_answer_hides_nothing(registry: DistributionRegistry, faults: FaultRegistry, answer: Status) -> None:
    """Of one manifest, before any list was seen: neither its signatures nor those of the others are taken for none."""
    odd, other = (image(registry, "a", text).descriptor for text in ("one", "two"))
    faults.play("GET", f"/v2/a/referrers/{odd.digest}", answer)
    named = note(other, b"one").descriptor
    faults.play("GET", LISTS, Status(200, INDEX, index_of(named).raw))
    with pytest.raises(RegistryError, match="lists what refers to other manifests"):
        registry.referrers("a", odd.digest)
    assert [one.digest for one in registry.referrers("a", other.digest)] == [named.digest]
    with pytest.raises(RegistryError):
        registry.referrers("a", odd.digest)
    gone = Digest.of(b"gone")
    faults.clear()
    faults.play("GET", LISTS, NO_API)
    assert registry.referrers("a", gone) == [], "of what is not there there are none"


def test_who_has_no_api_is_asked_for_another_manifest_once(
    registry: DistributionRegistry, faults: FaultRegistry
) -> None:
    faults.play("GET", LISTS, NO_API)
    for repository in "abcd":
        assert registry.referrers(repository, image(registry, repository, "text").descriptor.digest) == []
    assert len(faults.requests("GET", LISTS)) == 5


@pytest.mark.parametrize("kind", ["application/json", "", media_types.OCI_MANIFEST, "text/plain"])
@pytest.mark.parametrize("named", [True, False])
def test_a_list_is_a_list_whatever_its_type(
    registry: DistributionRegistry, faults: FaultRegistry, kind: str, named: bool
) -> None:
    subject = image(registry, "a", "text", tag="v1").descriptor
    entry = note(subject, b"one").descriptor
    document = json.loads(index_of(entry).raw)
    own = document.pop("mediaType")
    document["manifests"][0]["annotations"] = {"long": "x" * 2000}
    body = json.dumps({**document, **({"mediaType": own} if named else {})}).encode()
    faults.play("GET", LISTS, Status(200, {"Content-Type": kind}, body))
    assert [one.digest for one in registry.referrers("a", subject.digest)] == [entry.digest]


def test_a_registry_on_another_host_that_refuses_has_failed(
    registry: DistributionRegistry, faults: FaultRegistry, tmp_path: Path
) -> None:
    """registry.k8s.io sends readers to Artifact Registry, whose limits are not "unsigned"; GHCR to a web page."""
    subject = image(registry, "a", "text", tag="v1").descriptor
    answer = Response(429, [("Content-Type", "application/json")], errors("TOOMANYREQUESTS"))
    with elsewhere(tmp_path / "other", answer) as address:
        faults.play("GET", LISTS, Status(307, {"Location": f"http://{address}/v2/a/referrers/x"}))
        with pytest.raises(RateLimited):
            registry.referrers("a", subject.digest)


def test_that_there_is_no_api_is_believed_for_a_while_only(
    registry: DistributionRegistry, faults: FaultRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a registry that is upgraded while we look."""
    subject = image(registry, "a", "text", tag="v1").descriptor
    faults.play("GET", LISTS, NO_API, times=2)
    faults.play("GET", LISTS, Status(200, INDEX, index_of(note(subject, b"one").descriptor).raw))
    assert registry.referrers("a", subject.digest) == []
    assert registry.referrers("a", subject.digest) == [], "it is not asked again at once"
    registry.close()
    faults.clear()
    monkeypatch.setattr(room, "NO_API_S", 0.0)
    later = DistributionRegistry(faults.address)
    faults.play("GET", LISTS, NO_API, times=2)
    faults.play("GET", LISTS, Status(200, INDEX, index_of(note(subject, b"one").descriptor).raw))
    later.referrers("a", subject.digest)
    assert len(later.referrers("a", subject.digest)) == 1
    assert later.capabilities("a").referrers_api is True
    later.close()


def test_what_an_older_version_listed_under_the_tag_is_found_beside_the_api(
    registry: DistributionRegistry, faults: FaultRegistry
) -> None:
    """The registry gained the API, and its lists begin with what came later."""
    subject = image(registry, "a", "text", tag="v1").descriptor
    faults.play("GET", LISTS, NO_API)
    old = attach(Place(registry, "a"), subject=subject, artifact_type=KIND, content=b"old", media_type=KIND)
    new = note(subject, b"new").descriptor
    faults.clear()
    upgraded = DistributionRegistry(faults.address)
    faults.play("GET", LISTS, Status(200, INDEX, index_of(new).raw))
    referrers = [one.digest for one in upgraded.referrers("a", subject.digest)]
    assert referrers == [new.digest, old.digest]
    assert [one.digest for one in upgraded.referrers("a", subject.digest, tags=["v1"])] == [new.digest]
    upgraded.close()


# What stands under the tag


def test_a_tag_that_gives_the_image_itself_is_no_list(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    """GitLab reads ``sha256-<hex>`` as the digest (oras-go#1396); cosign copy puts the image there."""
    faults.play("GET", LISTS, NO_API)
    place = Place(registry, "a")
    child = image(registry, "a", "text", tag="v1").descriptor
    for subject in (child, index_of(child).descriptor):
        if subject is not child:
            registry.put_manifest("a", index_of(child))
        itself = registry.get_manifest("a", subject.digest)
        registry.put_manifest("a", itself, tag=subject.digest.fallback_tag)
        assert registry.referrers("a", subject.digest) == []
        made = attach(place, subject=subject, artifact_type=KIND, content=b"one", media_type=KIND)
        assert [one.digest for one in registry.referrers("a", subject.digest)] == [made.digest]
    assert any("names the manifest itself" in said for said in registry.capabilities("a").notes)


def test_a_list_that_began_as_the_images_index_is_cleaned(
    registry: DistributionRegistry, faults: FaultRegistry
) -> None:
    """What other clients write on GitLab: the image's own children, then the signature."""
    faults.play("GET", LISTS, NO_API)
    child = image(registry, "a", "text", tag="v1").descriptor
    top = index_of(child)
    registry.put_manifest("a", top)
    first = attach(Place(registry, "a"), subject=top.descriptor, artifact_type=KIND, content=b"1", media_type=KIND)
    listed = registry.referrers("a", top.digest)
    spoilt = index_of(child, {**json.loads(index_of(*listed).raw)["manifests"][0], "artifactType": KIND})
    registry.put_manifest("a", spoilt, tag=top.digest.fallback_tag)
    second = attach(Place(registry, "a"), subject=top.descriptor, artifact_type=KIND, content=b"2", media_type=KIND)
    assert [one.digest for one in registry.referrers("a", top.digest)] == [first.digest, second.digest]


def test_an_image_or_an_index_of_platforms_under_the_tag_is_no_list(
    registry: DistributionRegistry, faults: FaultRegistry
) -> None:
    faults.play("GET", LISTS, NO_API)
    subject = image(registry, "a", "text", tag="v1").descriptor
    other = image(registry, "a", "another", tag="v2")
    registry.put_manifest("a", other, tag=subject.digest.fallback_tag)
    assert registry.referrers("a", subject.digest) == []
    row = json.loads(index_of(other.descriptor).raw)["manifests"][0]
    platforms = index_of({**row, "platform": {"os": "linux", "architecture": "amd64"}})
    registry.put_manifest("a", platforms, tag=subject.digest.fallback_tag)
    assert registry.referrers("a", subject.digest) == []


# Attaching is one act


@pytest.fixture
def lacking(registry: DistributionRegistry, faults: FaultRegistry) -> DistributionRegistry:
    """A registry without the API, where lists cannot be written."""
    faults.play("GET", LISTS, NO_API)
    faults.play("PUT", r"/v2/a/manifests/sha256-.*", Status(403))
    return registry


def ready(registry: DistributionRegistry) -> tuple[Descriptor, ManifestBytes]:
    subject = image(registry, "a", "text", tag="v1").descriptor
    for raw in (b"{}", b"one"):
        push_blob(Place(registry, "a"), raw, media_type=KIND)
    return subject, note(subject, b"one")


def test_what_cannot_be_listed_is_removed_again(lacking: DistributionRegistry) -> None:
    subject, made = ready(lacking)
    with pytest.raises(Forbidden, match="removed again"):
        lacking.put_manifest("a", made)
    with pytest.raises(NotFound):
        lacking.get_manifest("a", made.digest)
    assert lacking.referrers("a", subject.digest) == []


def test_what_was_there_before_stays(lacking: DistributionRegistry, faults: FaultRegistry) -> None:
    """As after a kill between the artifact and its list: the next run lists it."""
    subject, made = ready(lacking)
    store_alone(faults.address, made)
    with pytest.raises(Forbidden) as caught:
        lacking.put_manifest("a", made)
    assert "removed" not in caught.value.what
    assert lacking.get_manifest("a", made.digest) == made
    faults.clear()
    faults.play("GET", LISTS, NO_API)
    lacking.put_manifest("a", made)
    assert [one.digest for one in lacking.referrers("a", subject.digest)] == [made.digest]


@pytest.mark.parametrize("act", ["attach", "delete"])
def test_what_others_list_while_ours_is_on_its_way_stays_listed(tmp_path: Path, act: str) -> None:
    """A large attestation takes a while to be stored; another client attaches in that time and does not look again."""
    during: list[Callable[[], None]] = []

    def wrap(inner: Handler) -> Handler:
        def answer(request: Request) -> Response:
            if "/referrers/" in request.path:
                return Response(404)
            if request.method in ("PUT", "DELETE") and "/manifests/sha256:" in request.path and during:
                during.pop()()
            return inner(request)

        return answer

    with EmbeddedServer(tmp_path, wrap=wrap) as server:
        client = DistributionRegistry(server.address)
        subject, ours = ready(client)
        push_blob(Place(client, "a"), b"two", media_type=KIND)
        theirs = note(subject, b"two")
        client.put_manifest("a", theirs)
        listed = client.get_manifest("a", subject.digest.fallback_tag)
        client.delete_manifest("a", theirs.digest)
        if act == "delete":
            client.put_manifest("a", ours)
        store_alone(server.address, theirs)
        during.append(partial(store_alone, server.address, listed, subject.digest.fallback_tag))
        if act == "attach":
            client.put_manifest("a", ours)
        else:
            client.delete_manifest("a", ours.digest)
        referrers = {one.digest for one in client.referrers("a", subject.digest)}
        assert referrers == ({ours.digest, theirs.digest} if act == "attach" else {theirs.digest})
        client.close()


def test_what_stays_unlisted_is_named(lacking: DistributionRegistry, faults: FaultRegistry) -> None:
    _, made = ready(lacking)
    faults.play("DELETE", r"/v2/a/manifests/.*", Status(405))
    with pytest.raises(Forbidden, match="nobody finds it") as caught:
        lacking.put_manifest("a", made)
    assert str(made.digest) in caught.value.what and f"a@{made.digest}" in caught.value.do


def test_nothing_is_stored_where_the_list_cannot_be_read(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("GET", LISTS, NO_API)
    _, made = ready(registry)
    faults.play("GET", r"/v2/a/manifests/sha256-.*", Status(500))
    with pytest.raises(Unavailable):
        registry.put_manifest("a", made)
    with pytest.raises(NotFound):
        registry.get_manifest("a", made.digest)


def test_a_list_whose_answer_was_lost_is_a_list(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    faults.play("GET", LISTS, NO_API)
    subject, made = ready(registry)
    faults.play("PUT", r"/v2/a/manifests/sha256-.*", LoseAnswer())
    registry.put_manifest("a", made)
    assert [one.content for one in attached(Place(registry, "a"), subject.digest, artifact_type=KIND)] == [b"one"]


def test_a_manifest_whose_list_cannot_be_read_is_not_deleted(
    registry: DistributionRegistry, faults: FaultRegistry
) -> None:
    faults.play("GET", LISTS, NO_API)
    _, made = ready(registry)
    registry.put_manifest("a", made)
    faults.play("GET", r"/v2/a/manifests/sha256-.*", Status(500))
    with pytest.raises(Unavailable):
        registry.delete_manifest("a", made.digest)
    assert registry.get_manifest("a", made.digest) == made


@pytest.mark.parametrize("kind", ["embedded"])
def test_a_document_is_attached_once(registry: DistributionRegistry, faults: FaultRegistry) -> None:
    """After a kill no list names what is stored, and a list may name what somebody deleted: neither is attached."""
    faults.play("GET", LISTS, NO_API)
    place = Place(registry, "a")
    subject, made = ready(registry)
    store_alone(faults.address, made)

    def attach_note() -> bool:
        descriptor, changed = attach_once(place, subject=subject, artifact_type=KIND, content=b"one", media_type=KIND)
        assert descriptor == made.descriptor
        assert [one.content for one in attached(place, subject.digest, artifact_type=KIND)] == [b"one"]
        return changed

    assert [attach_note(), attach_note()] == [True, False]
    delete_alone(faults.address, made.digest)
    assert [attach_note(), attach_note()] == [True, False]
