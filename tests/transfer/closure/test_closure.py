"""What a registry may make a closure hold in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import ClosureIncomplete
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import EMPTY, Descriptor, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.embedded.application import Handler
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.responses import Response
from registry_pipelines.transfer.closure import discovery
from registry_pipelines.transfer.closure.discovery import LOOKUP_THREADS, discover
from registry_pipelines.transfer.copying import copy_closure

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

MEBIBYTE = 1024 * 1024
LARGE_BYTES = 100_000
COUNT = 60
CUT = Response(200, body=json.dumps({"name": "app", "tags": [f"v{number}" for number in range(100)]}).encode())
"""A page of tags that says nothing of the next one."""


def push_large_referrers(source: Counted, subject: Descriptor) -> None:
    """Six megabytes of manifests that refer to it."""
    place = source.place("app")
    push_blob(place, b"{}", media_type=media_types.OCI_EMPTY)
    for number in range(COUNT):
        large = Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            artifact_type="test/large",
            config=EMPTY,
            layers=(EMPTY,),
            subject=subject,
            annotations={"number": str(number), "text": "x" * LARGE_BYTES},
        )
        place.registry.put_manifest("app", manifest_bytes(large))


@pytest.mark.parametrize("mebibytes", [1, 5])
def test_a_closure_with_too_many_bytes_of_manifests_is_refused_before_all_are_fetched(
    source: Counted, target: Counted, graphs: Graphs, monkeypatch: pytest.MonkeyPatch, mebibytes: int
) -> None:
    push_large_referrers(source, graphs.image(source.place("app"), b"layer", tag="v1").descriptor)
    source.forget()
    monkeypatch.setattr(discovery, "MAX_CLOSURE_BYTES", mebibytes * MEBIBYTE)
    with pytest.raises(ClosureIncomplete, match=f"more than {mebibytes} MiB together") as caught:
        copy_closure(source.place("app"), "v1", [target.place("app")])
    assert f"{source.address}/app (v1)" in str(caught.value) and "copy single platforms" in str(caught.value)
    fitting = mebibytes * MEBIBYTE // LARGE_BYTES
    assert fitting < source.count("GET", "/manifests/") <= fitting + 2 + LOOKUP_THREADS
    assert target.count("PUT") == target.count("POST") == 0


def test_what_fits_is_found_whole(source: Counted, graphs: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    image = graphs.image(source.place("app"), b"layer", tag="v1")
    push_large_referrers(source, image.descriptor)
    monkeypatch.setattr(discovery, "MAX_CLOSURE_BYTES", 6 * MEBIBYTE)
    closure = discover(source.place("app"), "v1")
    assert len(closure.manifests) == 1 + COUNT
    monkeypatch.setattr(discovery, "MAX_CLOSURE_BYTES", sum(len(each.raw) for each in closure.manifests) - 1)
    with pytest.raises(ClosureIncomplete):
        discover(source.place("app"), "v1")
    monkeypatch.setattr(discovery, "MAX_CLOSURE_BYTES", sum(len(each.raw) for each in closure.manifests))
    assert discover(source.place("app"), "v1").root == closure.root


@pytest.mark.parametrize("answer", [Response(400), Response(403), Response(404), Response(405), CUT])
def test_signatures_are_found_where_neither_tags_nor_referrers_are_listed_whole(
    answer: Response, start_embedded: Callable[..., Counted], graphs: Graphs
) -> None:
    """As with files behind a web server: what no list names may still be there."""
    shut: list[bool] = []

    def wrap(handler: Handler) -> Handler:
        def handle(request: Request) -> Response:
            if "/referrers/" in request.path:
                return Response(404)
            return answer if shut and request.path.endswith("/tags/list") else handler(request)

        return handle

    source = start_embedded(wrap=wrap)
    place = source.place("app")
    image = graphs.image(place, b"layer", tag="v1")
    signature = graphs.artifact(place, b"signature", subject=image.descriptor)
    cosign = graphs.artifact(place, b"cosign", subject=None, tag=f"sha256-{image.digest.hex}.sig")
    shut.append(True)
    closure = discover(place, "v1")
    assert {item.digest for item in closure.manifests} == {image.digest, signature.digest, cosign.digest}


def test_an_image_named_by_sha512_is_found_where_tags_are_not_listed(
    start_embedded: Callable[..., Counted], graphs: Graphs
) -> None:
    def wrap(handler: Handler) -> Handler:
        return lambda request: Response(403) if request.path.endswith("/tags/list") else handler(request)

    place = start_embedded(wrap=wrap).place("app")
    image = graphs.image(place, b"layer")
    named = ManifestBytes(image.raw, image.media_type, Digest.of(image.raw, "sha512"))
    place.registry.put_manifest("app", named)
    assert discover(place, str(named.digest)).root.digest == named.digest
