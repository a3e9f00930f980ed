"""The tables of an image's layers, by whoever is believed, and the bytes that they lead to."""

from __future__ import annotations

import gzip
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import zstandard

from registry_pipelines.errors import DigestMismatch, LayerInvalid
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor, Index
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.registry.client.distribution import DistributionRegistry
from registry_pipelines.registry.embedded.server import EmbeddedServer
from registry_pipelines.registry.platforms import image_config
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Size
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.filling import Filler
from registry_pipelines.stream.lazy.signed_ztocs import LEFT_OUT, NO_INDEX, NO_KEY
from registry_pipelines.stream.lazy.tables import ImageTables, image_tables
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import NoRange
from tests.evidence.parts import Key
from tests.stream.layers import pack
from tests.stream.lazy.stacks import Entry, entry
from tests.stream.releases import ESTARGZ, INDEXED, SOCI, Layer, Streamer, entries, push

BIG = entries("big", size=300_000, **{"etc/old": b"old", "etc/gone": b"x"})
TOP = [
    entry("etc/.wh.gone"),
    entry("etc/old", content=b"new"),
    *entries("top"),
    entry("a", tarfile.SYMTYPE, linkname="b"),
]


@dataclass
class Node:
    """A machine that reads images of a registry."""

    place: Place
    faults: FaultRegistry
    folder: Path

    def image(self, selector: str) -> tuple[Digest, list[tuple[Descriptor, Digest]]]:
        """The manifest of its only platform, and its layers with their diffIDs."""
        digest = self.place.registry.resolve(self.place.repository, selector).digest
        content = self.place.registry.get_manifest(self.place.repository, digest).content()
        if isinstance(content, Index):
            return self.image(str(content.manifests[0].digest))
        diff_ids = image_config(self.place, content).diff_ids
        return digest, list(zip(content.layers, diff_ids, strict=True))

    def tables(self, selector: str = "v1", verifier: Verifier | None = None) -> ImageTables:
        image, layers = self.image(selector)
        return self.tables_of(image, layers, verifier)

    def tables_of(
        self, image: Digest, layers: list[tuple[Descriptor, Digest]], verifier: Verifier | None = None
    ) -> ImageTables:
        return image_tables(
            self.place,
            image,
            layers,
            verifier=verifier,
            records=LayerStore(self.folder / "records"),
            blocks=BlockStore(self.folder / "blocks"),
            folder=self.folder / "lazy",
        )

    def contents(self, tables: ImageTables) -> dict[bytes, bytes]:
        """Every file, read lazily; and what links lead to."""
        found: dict[bytes, bytes] = {}
        with Filler(self.place, BlockStore(self.folder / "blocks"), log=[].append) as filler:
            lazy = [filler.open(table.digest, table.pieces) for table in tables.layers]
            waiting = [(b"", 1)]
            while waiting:
                above, directory = waiting.pop()
                for name, number in tables.tree.children(directory):
                    node = tables.tree.node(number)
                    if stat.S_ISDIR(node.mode):
                        waiting.append((above + name + b"/", number))
                    elif stat.S_ISREG(node.mode):
                        found[above + name] = lazy[node.layer].read(node.position, node.size)
                    else:
                        found[above + name] = node.target
        return found

    def fetched(self) -> int:
        """Bytes of blobs since the counts were reset."""
        return sum(each.bytes_down for each in self.faults.seen if "/blobs/" in each.target)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as faults:
        registry = DistributionRegistry(faults.address, plain_http=True)
        yield Node(Place(registry, "app"), faults, tmp_path / "node")
        registry.close()


def layer(files: list[Entry], compress: Callable[[bytes], bytes] = gzip.compress, **more: str) -> Layer:
    tar = pack(files)
    return Layer(compress(tar), tar, **more)  # type: ignore[arg-type]


def expected() -> dict[bytes, bytes]:
    files = {info.name.encode(): content for info, content in [*BIG, *TOP] if not info.name.startswith("etc/")}
    return files | {b"etc/old": b"new", b"a": b"b"}


@pytest.mark.parametrize("stream", [INDEXED, SOCI, ESTARGZ], ids=["index", "soci-v2", "estargz"])
def test_an_image_is_read_in_parts_by_what_is_believed_of_it(
    node: Node, stream: object, key: Key, tmp_path: Path
) -> None:
    pushed = push(node.place, layer(BIG), layer(TOP), tag="v1")
    streamer = Streamer(node.place, tmp_path / "state", key.signer)
    selector = "v1"
    if stream is INDEXED:
        streamer.index(pushed, msgspec.structs.replace(INDEXED, prioritize=("data/big",)))
    else:
        converted = streamer.convert(pushed, stream)  # type: ignore[arg-type]
        assert converted.derived is not None
        selector = str(converted.derived.digest)
    node.faults.reset_counts()
    tables = node.tables(selector, key.verifier)
    assert [each.why for each in tables.layers] == ["", ""]
    size = sum(each.layer.size for each in tables.layers)
    if stream is ESTARGZ:
        assert node.fetched() < size / 10
    assert not any(each.range == "" and _is_layer(each.target, tables) for each in node.faults.seen)
    assert node.contents(tables) == expected()
    # From now on the node knows: no table is fetched again, and no tree merged.
    node.faults.reset_counts()
    [kept] = (node.folder / "lazy" / "trees").iterdir()
    before = kept.stat().st_ino
    again = node.tables(selector, key.verifier)
    assert list(again.tree) == list(tables.tree) and kept.stat().st_ino == before
    if stream is not ESTARGZ:
        assert node.fetched() < 5000


def _is_layer(target: str, tables: ImageTables) -> bool:
    return any(str(each.digest) in target for each in tables.layers)


def test_what_nobody_vouches_for_is_fetched_whole_and_in_parts_from_then_on(
    node: Node, key: Key, other_key: Key, tmp_path: Path
) -> None:
    pushed = push(node.place, layer(BIG), layer(TOP), tag="v1")
    assert {each.why for each in node.tables("v1", key.verifier).layers} == {NO_INDEX}
    Streamer(node.place, tmp_path / "state", other_key.signer).index(pushed)
    node.folder = tmp_path / "second"
    refused = node.tables("v1", key.verifier)
    assert all("no index of the image is believed: index sha256:" in each.why for each in refused.layers)
    node.folder = tmp_path / "third"
    without = node.tables("v1")
    assert {each.why for each in without.layers} == {NO_KEY}
    # All of it is here: nothing more is fetched.
    node.faults.reset_counts()
    assert node.contents(without) == expected() and node.fetched() == 0
    known = node.tables("v1")
    assert [each.why for each in known.layers] == ["", ""] and node.fetched() < 5000
    assert [each.tar_size for each in known.layers] == [each.tar_size for each in without.layers]


def test_a_layer_that_the_index_leaves_out_comes_whole_beside_those_it_has(
    node: Node, key: Key, tmp_path: Path
) -> None:
    pushed = push(node.place, layer(BIG), layer([entry("small", content=b"1")]), tag="v1")
    options = msgspec.structs.replace(INDEXED, min_layer_size=Size(10_000))
    Streamer(node.place, tmp_path / "state", key.signer).index(pushed, options)
    tables = node.tables("v1", key.verifier)
    assert [each.why for each in tables.layers] == ["", LEFT_OUT]
    assert node.contents(tables)[b"small"] == b"1"


def test_a_registry_without_ranges_has_every_layer_fetched_whole_and_once(node: Node, key: Key, tmp_path: Path) -> None:
    pushed = push(node.place, layer(BIG), layer(TOP), tag="v1")
    Streamer(node.place, tmp_path / "state", key.signer).index(pushed)
    node.faults.play("GET", ".*/blobs/.*", NoRange())
    node.place.registry.close()
    node.place = Place(DistributionRegistry(node.faults.address, plain_http=True), "app")
    tables = node.tables("v1", key.verifier)
    assert all("answers a request for a range with the whole blob" in each.why for each in tables.layers)
    node.faults.reset_counts()
    assert node.contents(tables) == expected() and node.fetched() == 0
    again = node.tables("v1", key.verifier)
    assert all(each.why for each in again.layers)
    assert not [each for each in node.faults.seen if _is_layer(each.target, tables) and not each.range]
    node.place.registry.close()


def test_zstd_and_layers_with_global_headers_are_mounted_too(node: Node) -> None:
    """Neither can be indexed."""
    squeezed = layer(BIG, zstandard.ZstdCompressor().compress, media_type=media_types.OCI_LAYER_ZSTD)
    named = entry("told", content=b"5")
    named[0].pax_headers["SCHILY.xattr.user.x"] = "y"
    tar = tarfile.TarInfo.create_pax_global_header({"comment": "made by git"}) + pack([named])
    push(node.place, squeezed, Layer(gzip.compress(tar), tar), tag="v1")
    for _ in range(2):
        tables = node.tables()
        found = node.contents(tables)
        assert found[b"told"] == b"5" and found[b"etc/old"] == b"old"
        assert "zstd" in tables.layers[0].why or tables.layers[0].why == NO_KEY
        assert tables.tree.node(tables.tree.find(b"told") or 0).xattrs == {b"user.x": b"y"}


def test_a_damaged_or_swapped_table_is_not_used(node: Node, key: Key, tmp_path: Path) -> None:
    pushed = push(node.place, layer(BIG), tag="v1")
    converted = Streamer(node.place, tmp_path / "state", key.signer).convert(pushed, ESTARGZ)
    assert converted.derived is not None
    image, [(descriptor, diff_id)] = node.image(str(converted.derived.digest))
    other = {**(descriptor.annotations or {}), TOC_ANNOTATION: str(Digest.of(b"another"))}
    changed = msgspec.structs.replace(descriptor, annotations=other)
    tables = node.tables_of(image, [(changed, diff_id)])
    assert "its table hashes to" in tables.layers[0].why
    assert node.contents(tables)[b"etc/old"] == b"old"


def test_a_kept_table_that_was_changed_is_fetched_again(node: Node, key: Key, tmp_path: Path) -> None:
    pushed = push(node.place, layer(BIG), tag="v1")
    Streamer(node.place, tmp_path / "state", key.signer).index(pushed)
    node.tables("v1", key.verifier)
    [kept] = (node.folder / "lazy" / "tables").iterdir()
    [tree] = (node.folder / "lazy" / "trees").iterdir()
    good = kept.read_bytes()
    kept.write_bytes(good.replace(b"etc/old", b"etc/odd"))
    tree.write_bytes(b"no tree")
    tables = node.tables("v1", key.verifier)
    assert kept.read_bytes() == good and tables.tree.find(b"etc/old") and not tables.layers[0].why


def test_a_layer_that_is_not_what_its_image_says_is_never_shown(node: Node) -> None:
    good = layer(BIG)
    push(node.place, Layer(good.blob, b"something else"), tag="v1")
    with pytest.raises(DigestMismatch):
        node.tables()
    push(node.place, layer(BIG, media_type=f"{media_types.OCI_LAYER}+encrypted"), tag="v2")
    with pytest.raises(LayerInvalid, match="only who has its key"):
        node.tables("v2")
    assert not list((node.folder / "blocks").rglob("data"))


def test_an_image_without_layers_is_an_empty_tree(node: Node) -> None:
    push(node.place, tag="v1")
    tables = node.tables()
    assert (tables.layers, tables.tree.nodes) == ((), 1)
