"""Small blobs as a whole: verified, bounded, pushed once; on layout folders and over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ContentError, DigestMismatch, ManifestTooLarge, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BytesSource, push_blob, read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place


@pytest.fixture(params=["layout", "http"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "layout":
        yield Place(LayoutRegistry(tmp_path), "a/b")
    else:
        with EmbeddedServer(tmp_path) as server:
            yield Place(DistributionRegistry(server.address), "a/b")


@pytest.mark.parametrize("content", [b"", b"x", b"long" * 1_000_000])
def test_what_is_pushed_is_read(place: Place, content: bytes) -> None:
    pushed = push_blob(place, content, media_type="text/plain")
    assert pushed == Descriptor(media_type="text/plain", digest=Digest.of(content), size=len(content))
    assert push_blob(place, content, media_type="text/plain") == pushed
    assert read_blob(place, pushed, limit=len(content)) == content


def test_more_than_the_limit_is_not_read(place: Place) -> None:
    pushed = push_blob(place, b"0123456789", media_type="text/plain")
    with pytest.raises(ManifestTooLarge, match="10 bytes"):
        read_blob(place, pushed, limit=9)


@pytest.mark.parametrize("size", [0, 5, 15])
def test_a_descriptor_with_another_size(place: Place, size: int) -> None:
    """A descriptor that lies about the size must not make us hold, or trust, anything else."""
    pushed = push_blob(place, b"0123456789", media_type="text/plain")
    lying = Descriptor(media_type="text/plain", digest=pushed.digest, size=size)
    with pytest.raises(ContentError):
        read_blob(place, lying, limit=100)


def test_a_missing_blob(place: Place) -> None:
    push_blob(place, b"another", media_type="text/plain")
    missing = Descriptor(media_type="text/plain", digest=Digest.of(b"missing"), size=7)
    with pytest.raises(NotFound):
        read_blob(place, missing, limit=100)


def test_a_damaged_blob(tmp_path: Path) -> None:
    place = Place(LayoutRegistry(tmp_path), "a")
    pushed = push_blob(place, b"0123456789", media_type="text/plain")
    (tmp_path / "a/blobs/sha256" / pushed.digest.hex).write_bytes(b"012345678x")
    with pytest.raises(DigestMismatch):
        read_blob(place, pushed, limit=100)


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_bytes_are_given_in_any_pieces(content: bytes, sizes: list[int]) -> None:
    source = BytesSource(content)
    for _ in range(2):
        received = bytearray()
        for size in sizes:
            buffer = bytearray(size)
            count = source.readinto(memoryview(buffer))
            received += buffer[:count]
        assert bytes(received) == content[: sum(sizes)]
        source.rewind()
