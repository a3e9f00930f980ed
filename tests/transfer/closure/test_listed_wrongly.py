"""What a source lists wrongly never stops a copy, is never taken for true, and is named."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ClosureIncomplete
from registry_pipelines.mirror.upstreams import wanted_tags
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded.application import Handler
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.responses import Response
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure.closure import Closure
from registry_pipelines.transfer.closure.discovery import discover
from registry_pipelines.transfer.closure.selector import Selector
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import compare
from tests.mirror.opened import opened
from tests.transfer.conftest import Graphs

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted

GONE = {"mediaType": media_types.OCI_MANIFEST, "digest": str(Digest.of(b"gone")), "size": 7}


def without_api(handler: Handler) -> Handler:
    """A registry that has no referrers API."""

    def handle(request: Request) -> Response:
        return Response(404) if "/referrers/" in request.path else handler(request)

    return handle


def row(of: ManifestBytes, **more: object) -> dict[str, object]:
    return {"mediaType": of.media_type, "digest": str(of.digest), "size": len(of.raw), **more}


def put_list(place: Place, subject: Digest, rows: Sequence[dict[str, object]]) -> None:
    """Write the list under the subject's tag, as anybody may."""
    raw = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": list(rows)}).encode()
    listing = ManifestBytes(raw, media_types.OCI_INDEX, Digest.of(raw))
    place.registry.put_manifest(place.repository, listing, tag=subject.fallback_tag)


def digests(closure: Closure) -> set[Digest]:
    return {item.digest for item in closure.manifests}


@pytest.fixture
def old(start_embedded: Callable[..., Counted]) -> Counted:
    """A source without the API."""
    return start_embedded(wrap=without_api)


def test_lies_in_a_list_are_left_out_and_named(old: Counted, target: Counted, graphs: Graphs) -> None:
    place = old.place("app")
    child = graphs.image(place, b"layer")
    top = graphs.index(place, (child, "linux/amd64"), tag="v1")
    other = graphs.image(place, b"other", tag="other")
    true = graphs.artifact(place, b"signature", subject=top.descriptor)
    elses = graphs.artifact(place, b"of another", subject=other.descriptor)
    odd = {"mediaType": media_types.OCI_LAYER, "digest": str(Digest.of(b"layer")), "size": 1 << 60}
    rows = [row(top), row(child), row(true), row(true), row(other), row(elses), GONE, odd]
    put_list(place, top.digest, rows)
    closure = discover(place, "v1")
    assert digests(closure) == {top.digest, child.digest, true.digest}
    named = {each.what: each.why for each in closure.omissions if each.kind == "referrer"}
    assert named.keys() == {other.digest, elses.digest, GONE["digest"], Digest.of(b"layer")}
    assert "names no subject" in named[other.digest] and "not there" in named[str(GONE["digest"])]
    result = copy_closure(place, "v1", [target.place("app")])
    assert result.per_target[0].ok
    assert [one.digest for one in target.registry.referrers("app", top.digest)] == [true.digest]


def test_an_entry_that_is_no_descriptor_hides_no_other(old: Counted, graphs: Graphs) -> None:
    place = old.place("app")
    image = graphs.image(place, b"layer", tag="v1")
    true = graphs.artifact(place, b"signature", subject=image.descriptor)

    def spoil(handler: Handler) -> Handler:
        document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [{"digest": "x"}, row(true)]}
        raw = json.dumps(document).encode()
        headers = [("Content-Type", media_types.OCI_INDEX), ("Docker-Content-Digest", str(Digest.of(raw)))]

        def handle(request: Request) -> Response:
            if request.path.endswith(image.digest.fallback_tag):
                return Response(200, headers, raw)
            return without_api(handler)(request)

        return handle

    with EmbeddedServer(old.server.root, wrap=spoil) as server:
        registry = DistributionRegistry(server.address)
        closure = discover(Place(registry, "app"), "v1")
        registry.close()
    assert digests(closure) == {image.digest, true.digest}
    assert [(each.kind, each.what) for each in closure.omissions] == [("tag", image.digest.fallback_tag)]


def test_what_harbor_lists_of_cosign_comes_as_the_tag_that_it_is(
    start_embedded: Callable[..., Counted], graphs: Graphs
) -> None:
    """Harbor lists what cosign 2 stored under ``.sig``, which names no subject (harbor#20207)."""
    listed: list[dict[str, object]] = []

    def harbor(handler: Handler) -> Handler:
        def handle(request: Request) -> Response:
            if "/referrers/" not in request.path:
                return handler(request)
            rows = listed if str(image.digest) in request.path else []
            raw = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": rows}).encode()
            return Response(200, [("Content-Type", media_types.OCI_INDEX)], raw)

        return handle

    place = start_embedded(wrap=harbor).place("app")
    image = graphs.image(place, b"layer", tag="v1")
    tag = f"{image.digest.fallback_tag}.sig"
    signature = graphs.image(place, b"simple signing", tag=tag)
    listed.append(row(signature, artifactType=media_types.OCI_CONFIG))
    closure = discover(place, "v1")
    assert closure.digest_tags == {tag: signature.digest} and not closure.subjects
    assert digests(closure) == {image.digest, signature.digest}
    assert [(each.kind, each.what) for each in closure.omissions] == [("claim", signature.digest)]


def test_a_claim_about_the_index_hides_no_signature_of_its_child(
    start_embedded: Callable[..., Counted], graphs: Graphs
) -> None:
    """The false claim is met a level before the tag that brings the signature."""
    listed: list[dict[str, object]] = []
    top: list[ManifestBytes] = []

    def accessories(handler: Handler) -> Handler:
        def handle(request: Request) -> Response:
            if not (top and request.path.endswith(f"/referrers/{top[0].digest}")):
                return handler(request)
            raw = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": listed}).encode()
            return Response(200, [("Content-Type", media_types.OCI_INDEX)], raw)

        return handle

    place = start_embedded(wrap=accessories).place("app")
    child = graphs.image(place, b"layer")
    top.append(graphs.index(place, (child, "linux/amd64"), tag="v1"))
    signature = graphs.image(place, b"simple signing", tag=f"{child.digest.fallback_tag}.sig")
    listed.append(row(signature))
    closure = discover(place, "v1")
    assert list(closure.digest_tags.values()) == [signature.digest] and signature.digest in digests(closure)
    assert [(each.kind, each.what) for each in closure.omissions] == [("claim", signature.digest)]


@pytest.mark.parametrize("harm", ["no child", "another size"])
def test_a_broken_referrer_is_left_out_whole(source: Counted, graphs: Graphs, harm: str) -> None:
    """Who may attach something to an image must not be able to make it uncopyable."""
    place = source.place("app")
    image = graphs.image(place, b"layer", tag="v1")
    good = graphs.artifact(place, b"good", subject=image.descriptor)
    if harm == "no child":
        kind, content = media_types.OCI_INDEX, {"manifests": [row(good), GONE]}
    else:
        layer = {"mediaType": "test/evidence", "digest": str(Digest.of(b"layer")), "size": 6}
        kind, content = media_types.OCI_MANIFEST, {"config": layer, "layers": [layer]}
    raw = json.dumps({"schemaVersion": 2, "mediaType": kind, "subject": row(image), **content}).encode()
    bad = ManifestBytes(raw, kind, Digest.of(raw))
    place.registry.put_manifest("app", bad)
    graphs.artifact(place, b"about the bad one", subject=bad.descriptor)
    closure = discover(place, "v1")
    assert digests(closure) == {image.digest, good.digest}
    assert set(closure.subjects) == {good.digest}
    assert set(closure.blobs) == {blob for blobs in closure.blobs_of.values() for blob in blobs}
    assert set(closure.blobs_of) == digests(closure)
    assert [each.what for each in closure.omissions] == [bad.digest]


def test_a_missing_child_stays_an_error(source: Counted, graphs: Graphs) -> None:
    place = source.place("app")
    gone = Descriptor(media_type=media_types.OCI_MANIFEST, digest=Digest.of(b"gone"), size=4)
    there = graphs.image(place, b"layer").descriptor
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=(gone, there)))
    place.registry.put_manifest("app", index, tag="v1")
    with pytest.raises(ClosureIncomplete, match="is missing"):
        discover(place, "v1")


def test_platforms_are_not_chosen_of_what_refers_to_the_image(source: Counted, graphs: Graphs) -> None:
    place = source.place("app")
    child = graphs.image(place, b"layer")
    top = graphs.index(place, (child, "linux/amd64"), tag="v1")
    parts = [graphs.artifact(place, name, subject=None) for name in (b"one", b"two")]
    evidence = Index(
        schema_version=2,
        media_type=media_types.OCI_INDEX,
        manifests=tuple(part.descriptor for part in parts),
        subject=top.descriptor,
    )
    place.registry.put_manifest("app", manifest_bytes(evidence))
    closure = discover(place, "v1", platforms=[Platform.parse("linux/amd64")])
    assert {part.digest for part in parts} < digests(closure)


# Tags that only look like lists


def test_a_tag_that_names_itself_is_an_ordinary_tag(old: Counted, target: Counted, graphs: Graphs) -> None:
    """oc-mirror v2 names so what was mirrored by digest; then only this tag leads to the image."""
    place, there = old.place("app"), target.place("app")
    image = graphs.image(place, b"by digest")
    tag = image.digest.fallback_tag
    place.registry.put_manifest("app", image, tag=tag)
    signed = graphs.image(place, b"signed", tag="v1")
    graphs.artifact(place, b"signature", subject=signed.descriptor)
    graphs.image(place, b"bundle", tag=f"{signed.digest.fallback_tag}.imgpkg")
    for closure in (discover(place, tag), discover(place, "v1")):
        assert not closure.omissions
    assert [each.kind for each in discover(place, image.digest).omissions] == ["tag"]
    whole = Source(place.registry, (OpenTarget(target.registry),), ("app",))
    result = sync([whole])
    assert result.ok and not result.passed_over
    assert set(target.registry.tags("app")) == {tag, "v1", f"{signed.digest.fallback_tag}.imgpkg"}
    assert target.registry.resolve("app", tag).digest == image.digest
    assert compare(place, there, "v1") == []
    only = Source(
        place.registry, (OpenTarget(target.registry, "only"),), ("app",), choose_tags=Selector(glob=("sha256-*",))
    )
    assert sync([only]).ok
    assert tag in set(target.registry.tags("only/app"))
    taken = opened(source=place, repository="x", tags=("sha256-*",))
    assert set(wanted_tags(taken).tags) == {tag, f"{signed.digest.fallback_tag}.imgpkg"}


def test_newest_reads_only_tags_that_it_would_take(old: Counted, graphs: Graphs) -> None:
    place = old.place("app")
    for number in range(3):
        image = graphs.image(place, b"%d" % number, tag=f"v{number}")
        graphs.artifact(place, b"signature %d" % number, subject=image.descriptor)
    before = old.registry.requests_sent
    taken = opened(source=place, repository="x", newest=2)
    assert wanted_tags(taken).tags == ["v2", "v1"]
    assert old.registry.requests_sent == before + 1, "the list of tags, and no tag"


def test_each_list_is_read_once(start_embedded: Callable[..., Counted], target: Counted, graphs: Graphs) -> None:
    """Choosing tags costs no request that looking for referrers would not cost."""
    asked: list[str] = []

    def noted(handler: Handler) -> Handler:
        def handle(request: Request) -> Response:
            asked.append(f"{request.method} {request.path}")
            return without_api(handler)(request)

        return handle

    place = start_embedded(wrap=noted).place("app")
    subjects = [graphs.image(place, b"%d" % number, tag=f"v{number}") for number in range(3)]
    for image in subjects:
        graphs.artifact(place, b"signature of " + image.raw, subject=image.descriptor)
    asked.clear()
    assert sync([Source(place.registry, (OpenTarget(target.registry),), ("app",))]).ok
    for image in subjects:
        assert asked.count(f"GET /v2/app/manifests/{image.digest.fallback_tag}") == 1


def test_a_list_at_the_target_is_no_second_name_of_its_image(
    source: Counted, start_embedded: Callable[..., Counted], graphs: Graphs
) -> None:
    """Where a tag keeps the list of referrers, it cannot name the image too: the signatures win, and it is told."""
    place, target = source.place("app"), start_embedded(wrap=without_api)
    image = graphs.image(place, b"layer")
    tag = image.digest.fallback_tag
    place.registry.put_manifest("app", image, tag=tag)
    signature = graphs.artifact(place, b"signature", subject=image.descriptor)
    for _ in range(2):
        result = copy_closure(place, tag, [target.place("app")])
        assert not result.per_target[0].ok
        assert [one.digest for one in target.registry.referrers("app", image.digest)] == [signature.digest]


# Any list


class World:
    """A small repository whose lists say whatever a test wants; made once, it is only read."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self.api = True
        self.server = EmbeddedServer(Path(tempfile.mkdtemp()), wrap=self._wrap)
        self.server.start()
        self.registry = DistributionRegistry(self.server.address)
        place = Place(self.registry, "app")
        graphs = Graphs()
        self.child = graphs.image(place, b"layer")
        self.top = graphs.index(place, (self.child, "linux/amd64"), tag="v1")
        other = graphs.image(place, b"other", tag="other")
        self.true = [graphs.artifact(place, b"%d" % number, subject=self.top.descriptor) for number in range(3)]
        false = graphs.artifact(place, b"false", subject=other.descriptor)
        plain = graphs.artifact(place, b"plain", subject=None)
        self.manifests = [self.top, self.child, other, false, plain, *self.true]
        self.lists_of_top = True

    def _wrap(self, handler: Handler) -> Handler:
        def handle(request: Request) -> Response:
            kind = [("Content-Type", media_types.OCI_INDEX)]
            rows = self.rows if self._asks_for_top(request.path) else []
            raw = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": rows}).encode()
            if "/referrers/" in request.path:
                return Response(200, kind, raw) if self.api else Response(404)
            if request.path.endswith("/tags/list"):
                tags = ["other", "v1", self.top.digest.fallback_tag]
                return Response(200, body=json.dumps({"name": "app", "tags": tags}).encode())
            if not self.api and self._asks_for_top(request.path) and "/manifests/sha256-" in request.path:
                return Response(200, kind, raw)
            return handler(request)

        return handle

    def _asks_for_top(self, path: str) -> bool:
        top = getattr(self, "top", None)
        return top is not None and path.endswith((f"/referrers/{top.digest}", f"/manifests/{top.digest.fallback_tag}"))


@pytest.fixture(scope="module")
def world() -> World:
    return World()


ENTRIES = st.lists(
    st.tuples(
        st.integers(0, 8),
        st.sampled_from([media_types.OCI_MANIFEST, media_types.OCI_INDEX, media_types.OCI_LAYER, "x/y"]),
        st.sampled_from([0, 1, 500, 1 << 62]),
        st.sampled_from(["", "test/evidence", media_types.OCI_EMPTY]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(entries=ENTRIES, api=st.booleans())
def test_of_any_list_the_closure_takes_what_is_true_and_names_the_rest(
    world: World, entries: list[tuple[int, str, int, str]], api: bool
) -> None:
    known = [*(item.digest for item in world.manifests), Digest.of(b"gone")]
    world.api = api
    world.rows = [
        {"mediaType": kind, "digest": str(known[which]), "size": size, "artifactType": artifact}
        for which, kind, size, artifact in entries
    ]
    registry = DistributionRegistry(world.server.address)
    closure = discover(Place(registry, "app"), "v1")
    registry.close()
    listed = {known[which] for which, *_ in entries}
    true = {item.digest for item in world.true} & listed
    base = {world.top.digest, world.child.digest}
    assert digests(closure) == base | true
    assert set(closure.subjects) == true
    told = {each.what: each.kind for each in closure.omissions}
    unbelieved = listed - true - (set() if api else {world.top.digest})  # under the tag itself it cannot mean itself
    assert told == {digest: "claim" if digest in base else "referrer" for digest in unbelieved}
