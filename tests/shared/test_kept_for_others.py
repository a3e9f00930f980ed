"""Each cache of the state folder over what stands behind it: two folders, and what one has the other finds."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.anatomy.kept import keep_classes, kept_classes
from registry_pipelines.anatomy.report import LayerPart
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.splice import LayerDigests
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import ContentError, DigestMismatch, LayerInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.behind import attach, file_pieces
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.linkage import LayerLinks, LinkStore
from registry_pipelines.oci.layer.packed import packed, unpack
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.shared.cache_bytes import Packed, unpacked
from registry_pipelines.shared.caches import SharedCaches
from registry_pipelines.stream.converted import ConvertedLayer, ConvertedLayers
from tests.doubles.workers import worker
from tests.scan.images import make_tar

Share = Callable[[], SharedCaches]
TAR = make_tar({"opt/text": b"words " * 1000, "etc/name": b"x"})
LAYER = Descriptor(media_type=media_types.OCI_LAYER, digest=Digest.of(TAR), size=len(TAR))
OTHER = Digest.of(b"other")


@pytest.fixture
def folders(tmp_path: Path, postgres_url: str) -> tuple[Path, Path, SharedCaches]:
    """State folders of two machines."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    caches = worker(postgres_url, store=f"file://{tmp_path / 'store'}").caches
    for folder in (mine, theirs):
        folder.mkdir()
        attach(folder, caches)
    return mine, theirs, caches


Folders = tuple[Path, Path, SharedCaches]


def read(state: Path, *, listing: bool = False) -> None:
    LayerStore(state / "layers").read(io.BytesIO(TAR), LAYER, LAYER.digest, listing=listing)  # type: ignore[arg-type]


def test_a_record_is_found_by_others_until_it_is_deleted(folders: Folders) -> None:
    mine, theirs, caches = folders
    store = LayerStore(theirs / "layers")
    assert store.get(LAYER.digest, LAYER.digest) is None
    read(mine)
    assert caches.settle()
    record = store.get(LAYER.digest, LAYER.digest)
    assert record is not None
    assert [each.size for each in record.entries()] == [6000, 1]
    assert LayerStore(mine / "layers").get(LAYER.digest, LAYER.digest).span_digests == record.span_digests  # type: ignore[union-attr]
    store.delete(LAYER.digest, LAYER.digest)
    assert store.get(LAYER.digest, LAYER.digest) is None, "who deletes a record wants it to be made anew"
    assert [path for path in (theirs / "layers").rglob("*") if path.name.startswith(".")] == []


def test_a_listing_is_found_where_entries_are_enough(folders: Folders) -> None:
    mine, theirs, caches = folders
    read(mine, listing=True)
    assert caches.settle()
    store = LayerStore(theirs / "layers")
    assert store.get(LAYER.digest, LAYER.digest) is None
    found = store.listing(LAYER.digest, LAYER.digest)
    assert found is not None
    assert found.entry_count == 2


def test_a_record_of_another_layer_is_none(folders: Folders) -> None:
    mine, theirs, caches = folders
    read(mine)
    assert caches.settle()
    [path] = [each for each in (mine / "layers").glob("v*/??/*") if each.is_dir()]
    store = LayerStore(theirs / "layers")
    [kind] = [f"layers/{each.name}" for each in (mine / "layers").glob("v*")]
    name = store._path(OTHER, OTHER, 4 << 20).name
    for content in (packed(path), lambda: (b"no record",), lambda: ()):
        caches.keep(kind, name, content)
        assert caches.settle()
        assert store.get(OTHER, OTHER) is None
        assert caches.value(kind, name) is None, "it is taken away, too"
    assert not list((theirs / "layers").glob("v*/??/*"))


@given(content=st.binary(max_size=100))
def test_any_bytes_are_a_record_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("packed")
    (folder / "bundle").write_bytes(content)
    with pytest.raises(LayerInvalid):
        unpack(folder / "bundle", folder / "out")


class _Source:
    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def readinto(self, buffer: memoryview, /) -> int:
        return self._file.readinto(buffer[:7])


@given(pieces=st.lists(st.binary(max_size=200), max_size=4), bent=st.integers(0, 10_000), size=st.integers(-1, 1))
def test_what_was_packed_is_read_as_it_was_or_refused(
    pieces: list[bytes], bent: int, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Packed(iter(pieces), tmp_path_factory.getbasetemp()) as done:
        kept, whole, digest = b"".join(done.pieces()), done.size, done.digest
    assert b"".join(unpacked(_Source(kept), digest, stored=len(kept), size=whole)) == b"".join(pieces)
    other = bytearray(kept)
    other[bent % len(kept)] ^= 1 + bent % 255
    with pytest.raises(DigestMismatch):
        list(unpacked(_Source(bytes(other)), digest, stored=len(kept), size=whole))
    if size:
        with pytest.raises(ContentError):
            list(unpacked(_Source(kept), digest, stored=len(kept), size=whole + size))


def test_what_layers_came_out_as_and_facts_are_found_and_notes_are_not(folders: Folders) -> None:
    mine, theirs, caches = folders
    made = LayerDigests(Digest.of(b"a"), Digest.of(b"b"), 10, 20)
    one, two = BuildCache(mine / "build" / "cache.sqlite"), BuildCache(theirs / "build" / "cache.sqlite")
    one.remember_layer("key", made)
    one.remember_fact("inventory", {"paths": {"a": "b" * 100_000}})
    one.remember_note("sha256 1 2 3", "of a file of this machine")
    one.remember_seen(made.digest, "reg.example", "team/app")
    assert caches.settle()
    assert two.layer("key") == made
    assert two.fact("inventory") == one.fact("inventory")
    assert two.note("sha256 1 2 3") is None
    assert two.fact("sha256 1 2 3") is None
    assert two.seen(made.digest, "reg.example") == ["team/app"]
    assert two.seen(made.digest, "other.example") == []
    caches.drop("build/cache/v1/layers", Digest.of(b"key"))
    assert two.layer("key") == made, "it is in its own folder now"
    one.close()
    two.close()


def test_converted_layers_libraries_and_classes_are_found(folders: Folders) -> None:
    mine, theirs, caches = folders
    made = ConvertedLayer(
        Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=OTHER, size=5, annotations={"a": "b"}),
        OTHER,
        3,
        "",
        ("path",),
    )
    one = ConvertedLayers(mine / "stream" / "converted.sqlite")
    two = ConvertedLayers(theirs / "stream" / "converted.sqlite")
    one.keep(LAYER, LAYER.digest, {"chunk": 1}, made)
    LinkStore(mine).keep(LAYER.digest, LAYER.digest, LayerLinks(problem="none"))
    told = {"python": 3, "docs": 1}
    numbers = dict.fromkeys(("number", "compressed", "unpacked", "files", "gone", "gone_compressed"), 4)
    rest = {
        "compression": "gzip",
        "made_by": "",
        "wire_s": 0.0,
        "inflate_s": 0.0,
        "classes": told,
        "digest": LAYER.digest,
    }
    keep_classes(mine, [msgspec.convert({**numbers, **rest}, LayerPart)])
    assert caches.settle()
    assert two.find(LAYER, LAYER.digest, {"chunk": 1}) == made
    assert two.find(LAYER, OTHER, {"chunk": 1}) is None
    assert LinkStore(theirs).get(LAYER.digest, LAYER.digest) == LayerLinks(problem="none")
    assert dict(kept_classes(theirs)) == dict(kept_classes(mine)) == {LAYER.digest: {"python": 0.75, "docs": 0.25}}
    one.close()
    two.close()


def test_wheels_of_an_index_are_found_and_are_what_their_hash_says(folders: Folders, tmp_path: Path) -> None:
    mine, theirs, caches = folders
    content, name = b"a wheel" * 10_000, "a-1.0-py3-none-any.whl"
    sha256 = Digest.of(content).hex
    (tmp_path / name).write_bytes(content)
    WheelStore(mine / "build" / "wheels").take(tmp_path / name, sha256)
    assert caches.settle()
    store = WheelStore(theirs / "build" / "wheels")
    found = store.find(sha256, name)
    assert found is not None
    assert found.read_bytes() == content
    (tmp_path / "bad").write_bytes(b"something else")
    caches.keep("wheels/v1", OTHER.hex, file_pieces(tmp_path / "bad"))
    assert caches.settle()
    assert store.find(OTHER.hex, name) is None
