"""An index held against its layers: what is said of one that is right, wrong, cut, of another layer, or lost."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from zlib_ng import zlib_ng

from registry_pipelines.evidence.keys import generate_key, load_signer, verifier_of
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.estargz_footer import footer
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.check import StreamCheck, check_release
from registry_pipelines.stream.check_kinds import CheckRow
from registry_pipelines.stream.documents import annotated_manifest
from registry_pipelines.stream.signed_index import StreamingIndex, attest_index
from registry_pipelines.stream.soci import index_layers
from registry_pipelines.stream.soci_index import index_line, prefetch_list, soci_index, table_line
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import NoRange
from tests.stream.test_check import push
from tests.ztoc_vectors import files, vectors

SPAN = 1 << 16
AMD64 = Platform(os="linux", architecture="amd64")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def place(server: EmbeddedServer, request: pytest.FixtureRequest) -> Place:
    return Place(DistributionRegistry(server.address), f"t{Digest.of(request.node.nodeid.encode()).hex[:20]}")


def tree(seed: int = 1, count: int = 40, size: int = 12_000) -> bytes:
    """A tar of text that deflates to about half."""
    noise, buffer = random.Random(seed), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(count):
            info = tarfile.TarInfo(f"usr/lib/file{number}")
            info.size = size
            tar.addfile(info, io.BytesIO(noise.randbytes(size // 2).hex().encode()[:size]))
    return buffer.getvalue()


TREE, OTHER = tree(), tree(2)


class Made:
    """An image of one platform with a SOCI index, and the ways to spoil it."""

    def __init__(self, place: Place, folder: Path, *layers: tuple[bytes, str, bytes], **more: Any) -> None:
        self.place = place
        self.layers = layers or (self.gzipped(TREE), self.gzipped(OTHER))
        self.digest = push(place, list(self.layers))
        self.top = place.registry.get_manifest(place.repository, self.digest)
        content = self.top.content()
        assert isinstance(content, Manifest)
        self.manifest = content
        folder.mkdir(exist_ok=True)
        made = index_layers(
            place,
            content,
            [Digest.of(tar) for _, _, tar in self.layers],
            store=LayerStore(folder / "store"),
            folder=folder,
            subject=self.top.descriptor,
            span_bytes=SPAN,
            min_layer_bytes=1000,
            **more,
        )
        assert made.document is not None
        self.tables = [piece for piece in made.pieces if piece.descriptor.annotations]
        for piece in made.pieces:
            raw = piece.content if isinstance(piece.content, bytes) else piece.content.read_bytes()
            push_blob(place, raw, media_type=piece.descriptor.media_type)
        self.document = made.document
        place.registry.put_manifest(place.repository, made.document)

    @staticmethod
    def gzipped(tar: bytes, level: int = 6) -> tuple[bytes, str, bytes]:
        return gzip.compress(tar, level, mtime=0), media_types.OCI_LAYER_GZIP, tar

    def check(self, digest: str = "", **more: Any) -> StreamCheck:
        return check_release(self.place, digest or self.digest, min_layer_bytes=1000, **more)

    def said(self, digest: str = "", **more: Any) -> dict[str, list[CheckRow]]:
        rows: dict[str, list[CheckRow]] = {}
        for row in self.check(digest, **more).rows:
            if not row.name.startswith("gke-") and row.name not in ("soci-v1-only", "index-unverified"):
                rows.setdefault(row.name, []).append(row)
        return rows

    def replaced(self, *tables: Descriptor, subject: bool = True) -> None:
        """Another index document in place of the one that was made."""
        self.place.registry.delete_manifest(self.place.repository, self.document.digest)
        self.document = soci_index(tables, subject=self.top.descriptor if subject else None)
        self.place.registry.put_manifest(self.place.repository, self.document)

    def table(self, number: int, raw: bytes) -> Descriptor:
        """The line of a table with other bytes."""
        line = self.tables[number].descriptor
        pushed = push_blob(self.place, raw, media_type=line.media_type)
        return msgspec.structs.replace(line, digest=pushed.digest, size=pushed.size)


@pytest.fixture
def made(place: Place, tmp_path: Path) -> Made:
    return Made(place, tmp_path / "made")


def test_what_we_made_is_right_by_sample_and_whole_and_the_facts_are_told(made: Made) -> None:
    for every_span in (False, True):
        found = made.check(every_span=every_span)
        assert {row.name for row in found.rows} == {"gke-registry", "soci-v1-only", "index-unverified"}
    first, second = found.layers
    assert (first.platform, first.form, first.layer) == ("linux/amd64", "soci-v1", made.manifest.layers[0].digest)
    assert first.spans > 4 and SPAN <= first.largest_span < 2 * SPAN and first.index_bytes > 32768 * first.spans
    assert second.tool == "AWS SOCI CLI v0.2"


def test_a_signature_of_the_indexer_is_asked_for(made: Made, tmp_path: Path) -> None:
    generate_key(tmp_path / "key", password="x")
    signer = load_signer(tmp_path / "key", "x")
    trusted = verifier_of(signer)
    (row,) = made.said(verifier=trusted)["index-unsigned"]
    assert row.severity == "warning" and made.document.digest in row.what
    note = StreamingIndex(
        image=made.digest, index=made.document.digest, format="soci-v1", release=made.digest, options={}, tool="t"
    )
    attest_index(made.place, made.top.descriptor, note, signer)
    assert made.said(verifier=trusted) == {}
    assert [row.severity for row in made.check().rows if row.name == "index-unverified"] == ["unknown"]


def test_a_part_that_is_gone_is_named_with_its_layer(made: Made) -> None:
    made.place.registry.delete_blob(made.place.repository, made.tables[1].descriptor.digest)
    (row,) = made.said()["ztoc-missing"]
    assert (row.severity, row.layer) == ("error", made.manifest.layers[1].digest)


@pytest.mark.parametrize("cut", [0, 1, 1000, -100])
def test_a_part_that_is_cut_or_empty_is_damaged(made: Made, cut: int) -> None:
    raw = Path(made.tables[0].content).read_bytes()[:cut]  # type: ignore[arg-type]
    made.replaced(made.table(0, raw), made.tables[1].descriptor)
    (row,) = made.said()["ztoc-damaged"]
    assert row.layer == made.manifest.layers[0].digest


def test_a_part_whose_size_is_not_that_of_the_blob_is_damaged(made: Made) -> None:
    line = msgspec.structs.replace(made.tables[0].descriptor, size=made.tables[0].descriptor.size + 1)
    made.replaced(line, made.tables[1].descriptor)
    assert len(made.said()["ztoc-damaged"]) == 1


def test_a_part_of_another_layer_is_told_by_its_size_or_by_its_spans(place: Place, tmp_path: Path) -> None:
    longer = Made.gzipped(tree(3, count=41))
    made = Made(place, tmp_path / "made", Made.gzipped(TREE), longer)
    first, second = (Path(each.content).read_bytes() for each in made.tables)  # type: ignore[arg-type]
    made.replaced(made.table(0, second), made.table(1, first))
    assert len(made.said()["ztoc-other-layer"]) == 2
    stored = [
        (b"\x1f\x8b\x08" + bytes(7) + stored_deflate(tar), media_types.OCI_LAYER_GZIP, tar) for tar in (TREE, OTHER)
    ]
    same = Made(place, tmp_path / "same", *stored)
    assert len(stored[0][0]) == len(stored[1][0])
    first, second = (Path(each.content).read_bytes() for each in same.tables)  # type: ignore[arg-type]
    same.replaced(same.table(0, second), same.table(1, first))
    rows = same.said()["index-wrong"]
    assert [row.layer for row in rows] == [layer.digest for layer in same.manifest.layers]


def stored_deflate(tar: bytes) -> bytes:
    """Stored blocks, so that the size does not depend on the content."""
    blocks = [tar[start : start + 60_000] for start in range(0, len(tar), 60_000)]
    out = b"".join(
        bytes([number == len(blocks) - 1])
        + len(each).to_bytes(2, "little")
        + (len(each) ^ 0xFFFF).to_bytes(2, "little")
        + each
        for number, each in enumerate(blocks)
    )
    return out + zlib.crc32(tar).to_bytes(4, "little") + len(tar).to_bytes(4, "little")


def test_one_wrong_byte_of_a_digest_is_found_where_every_span_is_read(made: Made) -> None:
    raw = bytearray(Path(made.tables[0].content).read_bytes())  # type: ignore[arg-type]
    spans = made.check().layers[0].spans
    places = [at for at in range(len(raw)) if raw.startswith(b"sha256:", at)]
    assert len(places) == spans
    for number in (0, 1, spans - 1):
        wrong = bytearray(raw)
        at = sorted(places)[number] + 20
        wrong[at] = ord("0") if wrong[at] != ord("0") else ord("1")
        made.replaced(made.table(0, bytes(wrong)), made.tables[1].descriptor)
        (row,) = made.said(every_span=True)["index-wrong"]
        assert "hashes to" in row.what


def test_spans_within_a_large_file_are_read_as_a_sample_and_all_where_asked(place: Place, tmp_path: Path) -> None:
    made = Made(place, tmp_path / "made", Made.gzipped(tree(count=1, size=1_500_000)))
    raw = Path(made.tables[0].content).read_bytes()  # type: ignore[arg-type]
    places = sorted(at for at in range(len(raw)) if raw.startswith(b"sha256:", at))  # the last span's comes first
    assert len(places) > 10
    for at, by_sample in ((places[0], True), (places[-2], False)):
        wrong = raw[: at + 20] + (b"1" if raw[at + 20 : at + 21] == b"0" else b"0") + raw[at + 21 :]
        made.replaced(made.table(0, wrong))
        assert ("index-wrong" in made.said()) == by_sample
        assert "index-wrong" in made.said(every_span=True)


def test_a_name_that_the_layer_has_not_is_found_where_every_header_is_read(made: Made) -> None:
    raw = Path(made.tables[0].content).read_bytes()  # type: ignore[arg-type]
    for name, every_span in ((b"usr/lib/file0\0", False), (b"usr/lib/file7\0", True)):
        made.replaced(made.table(0, raw.replace(name, name.upper())), made.tables[1].descriptor)
        (row,) = made.said(every_span=every_span)["index-wrong"]
        assert "says other things" in row.what


def test_a_layer_that_the_index_leaves_out_and_one_that_the_image_has_not(made: Made) -> None:
    foreign = msgspec.structs.replace(made.manifest.layers[0], digest=Digest.of(b"another"))
    line = table_line(made.tables[1].descriptor, foreign, span_bytes=SPAN)
    made.replaced(made.tables[0].descriptor, line)
    rows = made.said()
    assert rows["layer-not-indexed"][0].layer == made.manifest.layers[1].digest
    assert str(foreign.digest) in rows["other-layer-indexed"][0].what
    assert len(made.check().layers) == 2 and not made.check().layers[1].form


def test_without_an_index_it_is_said_once_and_small_images_are_let_be(place: Place) -> None:
    digest = push(place, [Made.gzipped(TREE), Made.gzipped(OTHER)])
    assert check_release(place, digest, min_layer_bytes=1000).rows[0].name == "no-index"
    rows = [row.name for row in check_release(place, digest).rows]
    assert "small-layers" in rows and "no-index" not in rows


def test_an_index_with_a_field_more_is_read_and_named(made: Made) -> None:
    raw = made.document.raw.replace(b'{"schemaVersion":2,', b'{"schemaVersion": 2,', 1)
    made.place.registry.delete_manifest(made.place.repository, made.document.digest)
    spoilt = ManifestBytes(raw, made.document.media_type, Digest.of(raw))
    made.place.registry.put_manifest(made.place.repository, spoilt)
    (row,) = made.said()["index-bytes"]
    assert spoilt.digest in row.what


def converted(made: Made) -> tuple[ManifestBytes, ManifestBytes, ManifestBytes]:
    """The same as version 2: the index, the image that names it, and the image's index."""
    index = soci_index([each.descriptor for each in made.tables])
    image = annotated_manifest(made.top.raw, index.digest)
    line = msgspec.structs.replace(image.descriptor, platform=AMD64)
    lines = (line, index_line(index, image.digest, AMD64))
    top = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=lines))
    for each in (index, image, top):
        made.place.registry.put_manifest(made.place.repository, each)
    return index, image, top


def test_version_2_is_found_through_the_image_and_needs_no_hint(made: Made) -> None:
    _, _, top = converted(made)
    found = made.check(top.digest)
    assert {row.name for row in found.rows} == {"gke-registry", "index-unverified"}
    assert {each.form for each in found.layers} == {"soci-v2"}
    assert found.layers[0].platform == "linux/amd64"


def test_where_both_versions_are_there_the_facts_are_those_of_the_one_that_is_named(made: Made) -> None:
    _, image, _ = converted(made)
    older = soci_index([made.tables[0].descriptor], subject=image.descriptor)
    made.place.registry.put_manifest(made.place.repository, older)
    found = made.check(image.digest)
    assert [each.form for each in found.layers] == ["soci-v2", "soci-v2"]
    assert "soci-v1-only" not in {row.name for row in found.rows}
    assert [row.layer for row in found.rows if row.name == "layer-not-indexed"] == [made.manifest.layers[1].digest]


def test_an_image_that_names_an_index_which_is_not_here(made: Made) -> None:
    index, image, _ = converted(made)
    made.place.registry.delete_manifest(made.place.repository, index.digest)
    (row,) = made.said(image.digest)["soci-index-missing"]
    assert (row.severity, row.manifest) == ("error", image.digest) and index.digest in row.what
    broken = manifest_bytes(msgspec.structs.replace(made.manifest, annotations={"com.amazon.soci.index-digest": "?"}))
    made.place.registry.put_manifest(made.place.repository, broken)
    assert "soci-index-missing" in made.said(broken.digest)
    itself = manifest_bytes(
        msgspec.structs.replace(made.manifest, annotations={"com.amazon.soci.index-digest": made.digest})
    )
    made.place.registry.put_manifest(made.place.repository, itself)
    assert "no SOCI index" in made.said(itself.digest)["index-damaged"][0].what


def test_an_index_that_no_image_names(made: Made) -> None:
    index, _, _ = converted(made)
    line = msgspec.structs.replace(made.top.descriptor, platform=AMD64)
    lines = (line, index_line(index, made.digest, AMD64))
    top = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=lines))
    made.place.registry.put_manifest(made.place.repository, top)
    (row,) = made.said(top.digest)["index-unnamed"]
    assert (row.manifest, row.severity) == (index.digest, "warning")


def test_a_layer_that_is_gone_and_a_registry_without_ranges(made: Made, server: EmbeddedServer) -> None:
    with FaultRegistry(server.address) as faults:
        faults.play("GET", rf".*/blobs/{made.manifest.layers[0].digest}", NoRange())
        place = Place(DistributionRegistry(faults.address, plain_http=True), made.place.repository)
        rows = check_release(place, made.digest, min_layer_bytes=1000).rows
        (row,) = [row for row in rows if row.name == "no-ranges"]
        assert (row.severity, row.layer) == ("error", made.manifest.layers[0].digest)
    made.place.registry.delete_blob(made.place.repository, made.manifest.layers[0].digest)
    assert made.said()["layer-gone"][0].layer == made.manifest.layers[0].digest


def test_lists_of_what_comes_first_are_read(place: Place, tmp_path: Path) -> None:
    made = Made(place, tmp_path / "made", prefetch=["/usr/lib/file3"])
    assert made.said() == {}
    layer = made.manifest.layers[0].digest
    tables = [each.descriptor for each in made.tables if each.descriptor.media_type == "application/octet-stream"]
    for runs, detail in (([(0, 999)], "span 999 of "), ([(5, 5)], "")):
        raw, line = prefetch_list(runs, layer)
        if detail:
            push_blob(place, raw, media_type=line.media_type)
        made.replaced(*tables, line)
        (row,) = made.said()["prefetch-damaged"]
        assert detail in row.what and row.layer == layer


def test_a_layer_of_one_block_and_one_of_large_blocks(place: Place, tmp_path: Path) -> None:
    whole = zlib_ng.compressobj(1, zlib_ng.DEFLATED, 31)
    one = (whole.compress(TREE) + whole.flush(), media_types.OCI_LAYER_GZIP, TREE)
    made = Made(place, tmp_path / "one", one)
    (row,) = made.said()["one-block"]
    assert "in one span, 64.0 KiB were asked for" in row.what
    half = len(TREE) // 2
    parts = gzip.compress(TREE[:half], 6, mtime=0), gzip.compress(TREE[half:], 6, mtime=0)
    fine = Made(place, tmp_path / "fine", (b"".join(parts), media_types.OCI_LAYER_GZIP, TREE))
    assert fine.said() == {}
    first = zlib_ng.compressobj(1, zlib_ng.DEFLATED, 31)
    mixed = first.compress(TREE[:half]) + first.flush() + parts[1]
    made = Made(place, tmp_path / "mixed", (mixed, media_types.OCI_LAYER_GZIP, TREE))
    assert list(made.said()) == ["large-span"]


def test_indexes_of_the_official_builder_are_read_with_their_quirks(place: Place, tmp_path: Path) -> None:
    """Every golden layer with the official ztoc; last spans that hold nothing are said, and are no fault."""
    seen = set()
    for vector in vectors("golden"):
        blob, table = files()[vector["layer"]], files()[vector["ztoc"]]
        kind = media_types.OCI_LAYER_GZIP if blob[:2] == b"\x1f\x8b" else media_types.OCI_LAYER
        digest = push(place, [(blob, kind, blob)])
        top = place.registry.get_manifest(place.repository, digest)
        content = top.content()
        assert isinstance(content, Manifest)
        pushed = push_blob(place, table, media_type="application/octet-stream")
        push_blob(place, b"{}", media_type=media_types.SOCI_V1)
        line = table_line(pushed, content.layers[0], span_bytes=vector["span_size"])
        place.registry.put_manifest(place.repository, soci_index([line], subject=top.descriptor))
        rows = check_release(place, digest, min_layer_bytes=1, every_span=True).rows
        told = {row.name for row in rows if row.reader == "soci"} - {"soci-v1-only", "index-unverified"}
        assert told <= {"span-beyond-end", "one-block", "large-span"}, (vector["layer"], rows)
        seen |= told
    assert "span-beyond-end" in seen


def estargz(place: Place, *, annotated: tuple[bool, ...], ending: tuple[bool, ...]) -> Digest:
    layers = [(b"x" * 600 + bytes([n]) + (footer(7) if end else bytes(51))) for n, end in enumerate(ending)]
    digest = push(place, [(blob, media_types.OCI_LAYER_GZIP, blob) for blob in layers])
    content = place.registry.get_manifest(place.repository, digest).content()
    assert isinstance(content, Manifest)
    notes = [{TOC_ANNOTATION: "sha256:" + "1" * 64} if each else None for each in annotated]
    lines = tuple(msgspec.structs.replace(a, annotations=b) for a, b in zip(content.layers, notes, strict=True))
    stored = manifest_bytes(msgspec.structs.replace(content, layers=lines))
    place.registry.put_manifest(place.repository, stored)
    return stored.digest


@pytest.mark.parametrize(
    ("annotated", "ending", "names"),
    [
        ((False, False), (False, False), set()),
        ((True, False), (True, True), {"estargz-no-annotation", "estargz-partly"}),
        ((True, True), (True, False), {"estargz-no-footer"}),
        ((True, False), (True, False), {"estargz-partly"}),
    ],
)
def test_estargz_footers_are_held_against_annotations(
    place: Place, annotated: tuple[bool, ...], ending: tuple[bool, ...], names: set[str]
) -> None:
    rows = check_release(place, estargz(place, annotated=annotated, ending=ending)).rows
    assert {row.name for row in rows if row.name.startswith("estargz") and row.name != "estargz-wrong"} == names
