"""The layer walk, against tars made by Python's tarfile, GNU tar headers made by hand, and stored vectors."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ContentError, DigestMismatch, LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.tar_bytes import LayerLimits
from registry_pipelines.oci.layer.walk import Entry, LayerFacts, open_layer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD

ROW = tuple[str, str, int, str]


def make_tar(*members: tuple[str, bytes] | tarfile.TarInfo, format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def walk(raw: bytes, media_type: str = OCI_LAYER, **more: object) -> tuple[list[ROW], LayerFacts]:
    layer = open_layer(io.BytesIO(raw), media_type, **more)  # type: ignore[arg-type]
    rows = [(entry.name, entry.kind, entry.size, entry.link) for entry in layer]
    return rows, layer.finish()


def plain(raw: bytes) -> bytes:
    return raw


def two_members(raw: bytes) -> bytes:
    return gzip.compress(raw[:700]) + gzip.compress(raw[700:])


def zstd(raw: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(raw)


def two_frames(raw: bytes) -> bytes:
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    return zstd(raw[:600]) + skippable + zstandard.ZstdCompressor().compress(raw[600:]) + skippable


COMPRESSIONS = [
    pytest.param(plain, OCI_LAYER, "plain", id="plain"),
    pytest.param(gzip.compress, OCI_LAYER_GZIP, "gzip", id="gzip"),
    pytest.param(two_members, OCI_LAYER_GZIP, "gzip", id="gzip-two-members"),
    pytest.param(zstd, OCI_LAYER_ZSTD, "zstd", id="zstd"),
    pytest.param(two_frames, OCI_LAYER_ZSTD, "zstd", id="zstd-frames-and-skippable"),
    pytest.param(gzip.compress, OCI_LAYER, "gzip", id="gzip-under-a-plain-media-type"),
]


@pytest.mark.parametrize(("compress", "media_type", "kind"), COMPRESSIONS)
def test_entries_digests_and_content_agree_with_tarfile(
    compress: Callable[[bytes], bytes], media_type: str, kind: str
) -> None:
    tar = make_tar(("./etc/os-release", b"ID=debian\n"), ("big", b"x" * 3_000_000), link("bin", "usr/bin"))
    raw = compress(tar)
    layer = open_layer(io.BytesIO(raw), media_type)
    contents = {entry.name: (entry.read(4_000_000) if entry.kind == "file" else entry.link) for entry in layer}
    assert contents == {"etc/os-release": b"ID=debian\n", "big": b"x" * 3_000_000, "bin": "usr/bin"}
    facts = layer.finish()
    assert facts.digest == Digest.of(raw) and facts.diff_id == Digest.of(tar)
    assert (facts.size, facts.uncompressed_size, facts.entries, facts.compression) == (len(raw), len(tar), 3, kind)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_links(format: int) -> None:
    name, target = "d/" * 120 + "ü" * 60, "t/" * 130 + "x"
    tar = make_tar((name, b"1"), link("s", target), link("h", target, tarfile.LNKTYPE), format=format)
    assert walk(tar)[0] == [(name, "file", 1, ""), ("s", "symlink", 0, target), ("h", "hardlink", 0, target)]


def test_ustar_prefix_and_old_directories() -> None:
    name = "a" * 90 + "/" + "b" * 90
    directory = tarfile.TarInfo("old/")
    directory.type = tarfile.AREGTYPE
    tar = make_tar((name, b"1"), directory, format=tarfile.USTAR_FORMAT)
    assert walk(tar)[0] == [(name, "file", 1, ""), ("old", "directory", 0, "")]


def test_an_empty_pax_record_overrides_nothing() -> None:
    info = tarfile.TarInfo("name")
    info.pax_headers = {"size": "", "path": ""}
    assert walk(make_tar(info, ("next", b"1")))[0] == [("name", "file", 0, ""), ("next", "file", 1, "")]


@pytest.mark.parametrize("long", [False, True])
def test_what_stands_behind_an_old_directory_with_a_size_is_no_content(long: bool) -> None:
    """Go reads an entry there, which a node unpacks then; GNU tar passes over it."""
    name = "d" * (120 if long else 4) + "/"
    directory = tarfile.TarInfo(name)
    directory.type, directory.size = tarfile.AREGTYPE, 1024
    hidden = make_tar(("hidden", b"abc"), format=tarfile.GNU_FORMAT)[:1024]
    tar = directory.tobuf(tarfile.GNU_FORMAT) + hidden + make_tar(("last", b""))
    assert [row[:3] for row in walk(tar)[0]] == [
        (name[:-1], "directory", 0),
        ("hidden", "file", 3),
        ("last", "file", 0),
    ]


def patched(header: bytes, *fields: tuple[int, bytes]) -> bytes:
    """A header block with some of its fields replaced, and its checksum put right."""
    raw = bytearray(header[:512])
    for at, content in fields:
        raw[at : at + len(content)] = content
    raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + sum(raw[156:]) + 8 * 32)
    return bytes(raw)


def extension(kind: bytes, content: bytes) -> bytes:
    info = tarfile.TarInfo("extension")
    info.type, info.size = kind, len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


GNU_HEADER = tarfile.TarInfo("METADATA").tobuf(tarfile.GNU_FORMAT)
FOLDER = b"site-packages/evil-1.dist-info"


@pytest.mark.parametrize(
    ("tar", "expected"),
    [
        pytest.param(patched(GNU_HEADER, (345, FOLDER)), [f"{FOLDER.decode()}/METADATA"], id="prefix-of-a-gnu-header"),
        pytest.param(
            patched(GNU_HEADER, (345, b"00000000001\0"), (357, b"\xbf" * 12)),
            ["00000000001/METADATA"],
            id="time-of-a-gnu-header-that-is-too-large",
        ),
        pytest.param(patched(GNU_HEADER, (345, b"00000000001\0")), ["METADATA"], id="times-of-a-gnu-header"),
        pytest.param(patched(GNU_HEADER, (345, b"\xe9t\xe9")), ["METADATA"], id="no-ascii"),
        pytest.param(
            patched(GNU_HEADER, (124, b"\0000001000\0")) + GNU_HEADER + patched(GNU_HEADER, (0, b"n")),
            ["METADATA", "nETADATA"],
            id="size-behind-a-nul",
        ),
        pytest.param(extension(b"L", b"\0") + GNU_HEADER, ["METADATA"], id="empty-long-name"),
        pytest.param(
            extension(b"x", b"13 path=name\n") + extension(b"g", b"") + GNU_HEADER, ["METADATA"], id="global-between"
        ),
        pytest.param(
            extension(b"L", b"name\0") + extension(b"g", b"") + GNU_HEADER, ["METADATA"], id="global-behind-a-long-name"
        ),
        pytest.param(
            extension(b"x", b"24 GNU.sparse.name=name\n") + GNU_HEADER, ["METADATA"], id="name-of-no-sparse-file"
        ),
        pytest.param(
            extension(b"L", b"long\0")
            + extension(b"x", b"24 GNU.sparse.name=name\n22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n")
            + GNU_HEADER,
            ["name"],
            id="name-of-a-sparse-file",
        ),
        pytest.param(patched(GNU_HEADER, (0, b"status/./\0")), ["status"], id="slash-and-dot"),
        pytest.param(patched(GNU_HEADER, (0, b"a/status/.\0")), ["a/status"], id="dot-at-the-end"),
    ],
)
def test_names_are_those_that_a_node_unpacks(tar: bytes, expected: list[str]) -> None:
    """Each of them hid a file from a scan. What is expected is what archive/tar of Go 1.26 gives, cleaned."""
    assert [row[0] for row in walk(tar + bytes(1024))[0]] == expected


def test_names_that_are_not_utf8_survive() -> None:
    raw = bytearray(make_tar(("nameX", b"1"), format=tarfile.USTAR_FORMAT))
    raw[4] = 0xFF
    raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + sum(raw[156:512]) + 256)
    ((name, *_),) = walk(bytes(raw))[0]
    assert name.encode("utf-8", "surrogateescape") == b"name\xff"


def test_whiteouts_are_exposed() -> None:
    tar = make_tar(
        ("a/.wh.b", b""), (".wh.top", b""), ("a/c/.wh..wh..opq", b""), (".wh..wh..opq", b""), ("a/wh.x", b"")
    )
    assert [(entry.removed, entry.opaque) for entry in open_layer(io.BytesIO(tar), OCI_LAYER)] == [
        ("a/b", None),
        ("top", None),
        ("", "a/c"),
        ("", ""),
        ("", None),
    ]


def test_sparse_files_are_passed_over_and_their_content_refused() -> None:
    header = bytearray(make_tar(("sparse", b"0123456789"), ("next", b"n"), format=tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[482] = 1
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:512]) + 256)
    extension = bytearray(512)
    raw = bytes(header[:512]) + bytes(extension) + bytes(header[512:])
    seen: list[Entry] = []
    for entry in open_layer(io.BytesIO(raw), OCI_LAYER):
        seen.append(entry)
        if entry.sparse:
            with pytest.raises(LayerInvalid, match="sparse"):
                entry.read(100)
    assert [(entry.name, entry.sparse) for entry in seen] == [("sparse", True), ("next", False)]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../etc/passwd", "climbs"),
        ("a/../../b", "climbs"),
        ("a/..", "climbs"),
        ("/etc/passwd", "absolute"),
        ("//x", "absolute"),
    ],
)
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_unsafe_names_are_refused(name: str, reason: str, format: int) -> None:
    with pytest.raises(LayerInvalid, match=reason):
        walk(make_tar((name, b"x"), format=format))
    with pytest.raises(LayerInvalid, match=reason):
        walk(make_tar(("ok", b""), (name + "/" + "n" * 300, b"x"), format=format))


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_paths_that_no_node_can_unpack_are_refused(format: int) -> None:
    """Half a megabyte of ``a/`` took minutes in each entry that a conversion looked at."""
    assert len(walk(make_tar(("a/" * 2047 + "b", b""), format=format))[0]) == 1
    for tar in (
        make_tar(("a/" * 2048, b""), format=format),
        make_tar(link("s", "a/" * 2048), format=format),
        make_tar(link("h", "a/" * 2048, tarfile.LNKTYPE), format=format),
    ):
        with pytest.raises(LayerInvalid, match="more than 4095 bytes"):
            walk(tar)


def test_a_nul_in_a_pax_path_is_refused() -> None:
    info = tarfile.TarInfo("x")
    info.pax_headers = {"path": "a\0b"}
    with pytest.raises(LayerInvalid, match="NUL"):
        walk(make_tar(info))


def test_a_hard_link_out_of_the_root_is_refused() -> None:
    with pytest.raises(LayerInvalid, match="climbs"):
        walk(make_tar(link("h", "../../etc/shadow", tarfile.LNKTYPE)))
    assert walk(make_tar(link("h", "/etc/shadow", tarfile.LNKTYPE)))[0][0][3] == "etc/shadow"


def test_symbolic_links_above_the_root_are_reported() -> None:
    tar = make_tar(
        link("a/b/up", "../../../etc"),
        link("a/b/ok", "../../etc"),
        link("abs", "/etc/x"),
        link("abs2", "/../x"),
        link("in", "a/../.."),
    )
    assert walk(tar)[1].link_escapes == ("a/b/up", "abs2", "in")


def test_bombs_are_bounded_by_ratio_total_and_entries() -> None:
    tar = make_tar(("zero", bytes(5_000_000)))
    raw = gzip.compress(tar)
    assert walk(raw)[1].uncompressed_size == len(tar)
    with pytest.raises(LayerInvalid, match="bomb"):
        walk(raw, limits=LayerLimits(ratio_grace_bytes=2_000_000))
    with pytest.raises(LayerInvalid, match="more than 3000000 bytes"):
        walk(raw, limits=LayerLimits(max_bytes=3_000_000))
    with pytest.raises(LayerInvalid, match="more than 2 entries"):
        walk(make_tar(*[(str(number), b"") for number in range(3)]), limits=LayerLimits(max_entries=2))


def test_the_default_limits_stop_a_real_bomb() -> None:
    header = tarfile.TarInfo("zero")
    header.size = 700 * 1024 * 1024
    with pytest.raises(LayerInvalid, match="bomb"):
        walk(gzip.compress(header.tobuf()) + gzip.compress(bytes(64 << 20)) * 11)


def test_a_zstd_window_beyond_the_limit_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    content = make_tar(("x", bytes(1_000_000)))
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    raw = stream.compress(content) + stream.flush()
    with pytest.raises(LayerInvalid, match="zstd"):
        walk(raw)


def test_expected_digests_are_checked() -> None:
    tar = make_tar(("a", b"1"))
    raw = gzip.compress(tar)
    right = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(raw, "sha512"), size=len(raw))
    facts = walk(raw, expected=right, diff_id=Digest.of(tar))[1]
    assert facts.digest == right.digest
    with pytest.raises(DigestMismatch, match="the layer hashes"):
        walk(raw, expected=Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(b""), size=len(raw)))
    with pytest.raises(DigestMismatch, match="the uncompressed layer hashes"):
        walk(raw, diff_id=Digest.of(raw))
    with pytest.raises(LayerInvalid, match="descriptor says 5"):
        walk(raw, expected=Descriptor(media_type=OCI_LAYER_GZIP, digest=right.digest, size=5))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x1f",
        b"\x1f\x8b",
        b"not a tar",
        gzip.compress(b"not a tar", mtime=0),
        bytes(512) + b"x" * 512,
        b"\xff" * 512,
    ],
)
def test_what_is_not_a_layer_is_refused(raw: bytes) -> None:
    with pytest.raises(LayerInvalid):
        walk(raw, OCI_LAYER_GZIP)


def test_other_media_types_are_refused() -> None:
    with pytest.raises(LayerInvalid, match="encrypted"):
        walk(b"", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted")


def test_trailing_garbage_after_gzip_is_refused() -> None:
    with pytest.raises(LayerInvalid, match="damaged"):
        walk(gzip.compress(make_tar(("a", b"1"))) + b"garbage")


@pytest.mark.parametrize("compress", [gzip.compress, two_members, zstd, two_frames])
def test_every_truncation_of_a_compressed_layer_is_our_error(compress: Callable[[bytes], bytes]) -> None:
    tar = make_tar(("a", b"hello"), ("b" * 200, bytes(range(256)) * 4), link("c", "d"))
    raw = compress(tar)
    descriptor = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(raw), size=len(raw))
    for length in range(len(raw)):
        with pytest.raises(ContentError):
            walk(raw[:length], OCI_LAYER_GZIP, expected=descriptor)


def test_a_truncated_compressed_stream_is_found_without_a_descriptor() -> None:
    tar = make_tar(("a", bytes(range(256)) * 40))
    for compress in (gzip.compress, zstd):
        raw = compress(tar)
        for length in range(len(raw)):
            with pytest.raises(LayerInvalid):
                walk(raw[:length], OCI_LAYER_GZIP)


def test_a_plain_tar_cut_inside_an_entry_is_refused() -> None:
    tar = make_tar(("a", b"x" * 2000), ("b", b"y"))
    whole = {0, 512 + 2048, 512 + 2048 + 1024, 512 + 2048 + 1024 + 512}
    for length in range(0, 512 + 2048 + 1024 + 1024, 16):
        if length in whole:
            walk(tar[:length])
        else:
            with pytest.raises(LayerInvalid, match="truncated"):
                walk(tar[:length])


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=150).filter(
    lambda name: name.strip("/.") and not name.startswith("/") and not {"..", ".", ""} & set(name.split("/"))
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=3000)), max_size=6),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_any_tar_reads_back(files: list[tuple[str, bytes]], format: int) -> None:
    layer = open_layer(io.BytesIO(gzip.compress(make_tar(*files, format=format), 1)), OCI_LAYER_GZIP)
    assert [(entry.name, entry.read(5000)) for entry in layer] == files


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=2000), st.integers(0, 1023), st.binary(min_size=1, max_size=12))
def test_damaged_bytes_give_our_error_or_a_walk(noise: bytes, at: int, patch: bytes) -> None:
    tar = bytearray(make_tar(("name", b"content"), link("l", "t")))
    tar[at : at + len(patch)] = patch
    for raw in (bytes(tar), noise, gzip.compress(noise), b"\x28\xb5\x2f\xfd" + noise, b"\x1f\x8b" + noise):
        try:
            walk(raw)
        except LayerInvalid:
            continue


class Trickle:
    """Gives one byte after the other, as a slow socket may."""

    def __init__(self, raw: bytes) -> None:
        self._raw = io.BytesIO(raw)

    def readinto(self, buffer: memoryview, /) -> int:
        return self._raw.readinto(buffer[:1])


@pytest.mark.parametrize("compress", [plain, gzip.compress, two_frames])
def test_short_reads_change_nothing(compress: Callable[[bytes], bytes]) -> None:
    raw = compress(make_tar(("a", b"1" * 700), ("b", b"2")))
    layer = open_layer(Trickle(raw), OCI_LAYER_GZIP)
    assert [(entry.name, entry.head(3)) for entry in layer] == [("a", b"111"), ("b", b"2")]
    assert layer.finish().digest == f"sha256:{hashlib.sha256(raw).hexdigest()}"


def test_tarfile_agrees_on_a_real_folder(tmp_path: Path) -> None:
    source = Path(io.__file__).parent / "json"
    target = tmp_path / "layer.tar"
    with tarfile.open(target, "w") as tar:
        tar.add(source, "json")
    with tarfile.open(target) as tar:
        expected = [(member.name, member.size) for member in tar if member.isfile()]
    with target.open("rb", buffering=0) as stream:
        files = [(entry.name, entry.size) for entry in open_layer(stream, OCI_LAYER) if entry.kind == "file"]
    assert files == expected and files
