"""The SOCI index of an image, from its layers in a registry to the exact bytes of the document."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from registry_pipelines.errors import DigestMismatch, IndexInvalid, LayerInvalid, ManifestInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor, Manifest, ManifestBytes
from registry_pipelines.progress import Counter
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client.distribution import DistributionRegistry
from registry_pipelines.registry.embedded.server import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.soci import SociIndex, index_layers
from registry_pipelines.stream.soci_index import (
    prefetch_list,
    read_prefetch,
    read_soci_index,
    soci_index,
    table_line,
)
from registry_pipelines.stream.ztoc import read_ztoc
from tests.doubles.fault_registry import FaultRegistry
from tests.scan.images import make_tar
from tests.ztoc_vectors import files

GOLDEN = "soci-index/"


def golden(name: str) -> bytes:
    return files()[GOLDEN + name]


def stored(raw: bytes) -> ManifestBytes:
    return ManifestBytes(raw, media_types.OCI_MANIFEST, Digest.of(raw))


ORIGINAL = stored(golden("image-manifest-original.json"))
IMAGE = ORIGINAL.content()
assert isinstance(IMAGE, Manifest)
SPANS = files()["layers/spans.tar.gz"]


@pytest.fixture
def faults(tmp_path: Path) -> Iterator[FaultRegistry]:
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as proxy:
        yield proxy


@pytest.fixture
def place(faults: FaultRegistry) -> Place:
    return Place(DistributionRegistry(faults.address, plain_http=True), "app")


def make(
    place: Place, folder: Path, manifest: Manifest, tars: Sequence[bytes], *, min_layer_bytes: int = 0, **more: Any
) -> SociIndex:
    (folder / "ztocs").mkdir(exist_ok=True)
    return index_layers(
        place,
        manifest,
        [Digest.of(tar) for tar in tars],
        store=LayerStore(folder / "store"),
        folder=folder / "ztocs",
        min_layer_bytes=min_layer_bytes,
        **more,
    )


def image(place: Place, layers: Sequence[tuple[bytes, str]]) -> Manifest:
    pushed = tuple(push_blob(place, raw, media_type=kind) for raw, kind in layers)
    return Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=IMAGE.config, layers=pushed)


@pytest.mark.parametrize(("version", "subject"), [("v1", ORIGINAL.descriptor), ("v2", None)])
def test_the_document_has_the_official_bytes(
    version: str, subject: Descriptor | None, place: Place, tmp_path: Path
) -> None:
    push_blob(place, SPANS, media_type=media_types.OCI_LAYER_GZIP)
    made = make(place, tmp_path, IMAGE, [gzip.decompress(SPANS)], subject=subject, span_bytes=65536, prefetch=())
    assert made.document and made.document.raw == golden(f"soci-index-{version}.json")
    config, table = made.pieces
    assert (config.content, config.descriptor.digest) == (b"{}", Digest.of(b"{}"))
    assert isinstance(table.content, Path)
    assert table.content.read_bytes() == files()["ztocs/spans.tar.gz.65536.ztoc"]
    assert (table.spans, made.skipped, made.not_found) == (2, (), ())


@pytest.mark.parametrize("version", [1, 2])
def test_indexes_by_others_are_read_and_those_that_a_node_changes_are_told(version: int) -> None:
    raw = golden(f"soci-index-v{version}.json")
    found = read_soci_index(stored(raw))
    assert (found.version, found.exact, found.tool) == (version, True, "AWS SOCI CLI v0.2")
    (table,) = found.tables
    assert (table.layer, table.span_bytes) == (Digest.of(SPANS), 65536)
    assert (found.subject.digest if found.subject else None) == (ORIGINAL.digest if version == 1 else None)
    document = json.loads(raw)
    for odd in (
        json.dumps(document).encode(),
        raw.replace(b'"config"', b'"artifactType":"application/x","config"'),
        raw.replace(b'"layers"', b'"note":"","layers"'),
        raw.replace(b',"mediaType":"application/vnd.oci.image.manifest.v1+json"', b"", 1),
    ):
        assert not read_soci_index(stored(odd)).exact
    with pytest.raises(IndexInvalid, match="which layer"):
        read_soci_index(stored(raw.replace(b"image-layer-digest", b"image-layer-number")))
    with pytest.raises(IndexInvalid, match="no SOCI index"):
        read_soci_index(ORIGINAL)


def test_characters_that_go_escapes_are_escaped_and_notes_sorted() -> None:
    layer = Descriptor(media_type="a<b>&\u2028", digest=Digest.of(b""), size=1)
    line = table_line(layer, layer, span_bytes=1)
    notes = dict(reversed((line.annotations or {}).items()))
    raw = soci_index([line], tool="é").raw
    assert soci_index([msgspec.structs.replace(line, annotations=notes)], tool="é").raw == raw
    assert b"a\\u003cb\\u003e\\u0026\\u2028" in raw and "é".encode() in raw
    assert read_soci_index(stored(raw)).exact


def test_spans_to_fetch_first_are_joined_and_read_again() -> None:
    layer = Digest.of(b"layer")
    raw, line = prefetch_list([(0, 0)], layer)
    assert raw == golden("prefetch-artifact.json")
    assert line.annotations == {"com.amazon.soci.image-layer-digest": layer}
    raw, _ = prefetch_list([(7, 9), (1, 2), (3, 3), (8, 8)], layer)
    assert read_prefetch(raw) == ((1, 3), (7, 9))
    for bad in (b'{"version":"2.0","prefetch_spans":[{"start_span":0,"end_span":0}]}',):
        with pytest.raises(IndexInvalid):
            read_prefetch(bad)
    for spans in (b"[]", b'[{"start_span":2,"end_span":1}]', b'[{"start_span":-1,"end_span":1}]'):
        with pytest.raises(IndexInvalid):
            read_prefetch(b'{"version":"1.0","prefetch_spans":%b}' % spans)
    with pytest.raises(ManifestInvalid):
        read_prefetch(b"{}")


def test_layers_without_a_table_are_named_with_the_reason(place: Place, tmp_path: Path) -> None:
    tar = make_tar({"a": b"a" * 4000})
    other = make_tar({"b": b"b" * 4000})
    sparse = files()["layers/err-pax-global.tar.gz"]
    gzipped = media_types.OCI_LAYER_GZIP
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    layers = [
        (gzip.compress(tar), gzipped),
        (zstandard.compress(tar), media_types.OCI_LAYER_ZSTD),
        (zstandard.compress(other), gzipped),
        (b"secret", gzipped + "+encrypted"),
        (b"elsewhere", foreign),
        (b"?" * 5000, "application/x"),
        (sparse, gzipped),
        (other, media_types.OCI_LAYER),
        (gzip.compress(b"tiny"), gzipped),
    ]
    tars = [tar, tar, other, b"", b"", b"", gzip.decompress(sparse), other, b"tiny"]
    made = make(place, tmp_path, image(place, layers), tars, min_layer_bytes=27)
    reasons = {each.layer.digest: each.reason for each in made.skipped}
    expected = [None, "zstd", "zstd", "encrypted", "foreign", "unknown-type", "refused", None, "small"]
    assert [reasons.get(Digest.of(raw)) for raw, _ in layers] == expected
    details = {each.reason: each.detail for each in made.skipped}
    assert "'etc/' before byte 1536: it is a PAX global header" in details["refused"]
    assert details["small"] == "24 B are less than 27 B" and "application/x" in details["unknown-type"]
    assert made.document
    tables = read_soci_index(made.document).tables
    assert [table.layer for table in tables] == [Digest.of(layers[0][0]), Digest.of(other)]
    assert [path.stem[:64] for path in sorted((tmp_path / "ztocs").iterdir())] == sorted(
        table.layer.hex for table in tables
    )


LIB = "->usr/lib"


@pytest.mark.parametrize(
    ("entries", "refused"),
    [
        ([("lib", LIB), ("lib/x", "x")], "'lib/x': it stands below a symbolic link"),
        ([("./lib", LIB), ("/lib//a/b/x", "x")], "below a symbolic link"),
        ([("lib/a", "a"), ("lib", LIB), ("lib/b", "b")], "'lib/b': it stands below"),
        ([("a", "=>b"), ("b", "b")], "'a': it is a hard link to what does not come before it"),
        ([("a", "=>b")], "hard link"),
        ([("lib", LIB), ("usr/lib/x", "x"), ("library", "x"), ("usr/lib/a/lib/x", "x")], ""),
        ([("lib", LIB), ("lib", "x"), ("lib", LIB), ("usr/lib", LIB)], ""),
        ([("lib", LIB), ("lib/", "/"), ("lib/x", "x")], ""),
        ([("./b", "b"), ("a", "=>/b"), ("c", "=>a")], ""),
    ],
)
def test_what_a_node_would_mount_as_something_else_is_left_out(
    entries: list[tuple[str, str]], refused: str, place: Place, tmp_path: Path
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.type = {"->": tarfile.SYMTYPE, "=>": tarfile.LNKTYPE, "/": tarfile.DIRTYPE}.get(content[:2], b"0")
            info.linkname = content[2:] if info.type != b"0" else ""
            info.size = len(content) if info.type == b"0" else 0
            tar.addfile(info, io.BytesIO(content.encode()))
    raw = out.getvalue()
    made = make(place, tmp_path, image(place, [(raw, media_types.OCI_LAYER)]), [raw])
    assert [(each.reason, refused in each.detail) for each in made.skipped] == ([("refused", True)] if refused else [])


def test_an_image_of_small_layers_has_no_document(place: Place, tmp_path: Path) -> None:
    tar = make_tar({"a": b"a"})
    made = make(place, tmp_path, image(place, [(tar, media_types.OCI_LAYER)]), [tar], min_layer_bytes=1 << 20)
    assert (made.document, made.pieces, [each.reason for each in made.skipped]) == (None, (), ["small"])


def test_a_layer_is_read_once_and_a_known_one_not_at_all(place: Place, faults: FaultRegistry, tmp_path: Path) -> None:
    tar = make_tar({"a": b"a" * 100_000})
    raw = gzip.compress(tar)
    manifest = image(place, [(raw, media_types.OCI_LAYER_GZIP)] * 2)
    faults.reset_counts()
    counter = Counter()
    first = make(place, tmp_path, manifest, [tar, tar], progress=counter)
    assert len(faults.requests("GET", ".*/blobs/.*")) == 1 and counter.bytes_moved == len(raw)
    assert first.document and len(read_soci_index(first.document).tables) == 2 and len(first.pieces) == 2
    again = make(place, tmp_path, manifest, [tar, tar])
    assert again.document == first.document
    assert len(faults.requests("GET", ".*/blobs/.*")) == 1


def test_damage_is_an_error_and_not_a_layer_that_is_left_out(place: Place, tmp_path: Path) -> None:
    tar = make_tar({"a": b"a" * 4000})
    good = gzip.compress(tar)
    manifest = image(place, [(good, media_types.OCI_LAYER_GZIP)])
    with pytest.raises(DigestMismatch, match="uncompressed layer"):
        make(place, tmp_path, manifest, [b"another"])
    cut = image(place, [(good[:-9], media_types.OCI_LAYER_GZIP)])
    with pytest.raises(LayerInvalid, match="truncated"):
        make(place, tmp_path, cut, [tar])
    with pytest.raises(ManifestInvalid, match="1 layer, its config 0 diff_ids"):
        make(place, tmp_path, manifest, [])
    assert not list((tmp_path / "ztocs").iterdir())


def test_files_that_a_start_needs_first(place: Place, tmp_path: Path) -> None:
    """The topmost layer's file counts; a hard link leads to its target's spans."""
    content = bytes(range(256)) * 40
    lower = make_tar({"bin/app": content, "etc/conf": b"old"})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, raw, link in (("./etc/conf", content, ""), ("big", content * 8, ""), ("run", b"", "big")):
            info = tarfile.TarInfo(name)
            info.size, info.linkname, info.type = len(raw), link, tarfile.LNKTYPE if link else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO(raw))
    upper = out.getvalue()
    layers = [(gzip.compress(lower, 0), media_types.OCI_LAYER_GZIP), (upper, media_types.OCI_LAYER)]
    wanted = ("/etc/conf", "run", "bin/app", "no/such")
    made = make(place, tmp_path, image(place, layers), [lower, upper], span_bytes=4096, prefetch=wanted)
    assert made.document and made.not_found == ("no/such",)
    found = read_soci_index(made.document)
    assert [each.layer for each in found.prefetches] == [Digest.of(raw) for raw, _ in layers]
    lists = [each for each in made.pieces if isinstance(each.content, bytes) and each.content != b"{}"]
    assert [each.descriptor for each in lists] == [each.list for each in found.prefetches]
    # conf: bytes 512 to 10752 of slices of 4096; big: 11264 to 93184.
    assert read_prefetch(lists[1].content) == ((0, 22),)  # type: ignore[arg-type]
    table = next(each for each in made.pieces if each.descriptor == found.tables[0].table)
    assert isinstance(table.content, Path)
    spans = read_ztoc(table.content.read_bytes()).spans
    (run,) = read_prefetch(lists[0].content)  # type: ignore[arg-type]
    assert spans.unpacked(run[0])[0] <= 512 and spans.unpacked(run[1])[1] >= 512 + len(content)
