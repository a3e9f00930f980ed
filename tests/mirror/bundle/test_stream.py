"""A bundle's stream is known before it is read: what Python's own tarfile makes of it is what was laid out."""

from __future__ import annotations

import io
import json
import tarfile

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.mirror.bundle.format import SCHEMA, Bundle, BundleBlob, BundleImage
from registry_pipelines.mirror.bundle.stream import Stream, lay_out, stream_of
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.media_types import OCI_MANIFEST

contents = st.lists(st.binary(max_size=1500), max_size=8, unique=True)
algorithms = st.sampled_from(["sha256", "sha512"])
names = st.lists(st.sampled_from(["library/app", "b"]), max_size=3)


def laid_out(
    manifests: list[bytes], blobs: list[bytes], repositories: list[str], algorithm: str
) -> tuple[Stream, dict[Digest, bytes]]:
    known = {Digest.of(each, algorithm): each for each in [*manifests, *blobs]}
    digests = [Digest.of(each, algorithm) for each in manifests]
    listed = [
        BundleBlob(digest=digest, size=len(content), offset=0, media_type=OCI_MANIFEST if digest in digests else "")
        for digest, content in known.items()
    ]
    images = [
        BundleImage(
            repository=name, digest=digest, media_type=OCI_MANIFEST, size=1, tags=tags, source="", manifests=(digest,)
        )
        for name, digest, tags in zip(repositories, digests, [("1", "2"), (), ("3",)], strict=False)
    ]
    return lay_out(images, listed), known


def read(stream: Stream, known: dict[Digest, bytes], start: int, stop: int) -> bytes:
    return b"".join(
        (known[segment.blob.digest] if segment.blob else segment.literal)[first:last]
        for segment, first, last in stream.between(start, stop)
    )


@settings(max_examples=60)
@given(manifests=contents, blobs=contents, repositories=names, algorithm=algorithms, cut=st.data())
def test_it_is_the_tar_that_was_laid_out_and_any_range_of_it_is_read_alone(
    manifests: list[bytes], blobs: list[bytes], repositories: list[str], algorithm: str, cut: st.DataObject
) -> None:
    stream, known = laid_out(manifests, blobs, repositories, algorithm)
    whole = read(stream, known, 0, stream.size)
    assert len(whole) == stream.size
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        found = {each.name: tar.extractfile(each) for each in tar if each.isfile()}
        read_back = {name: file.read() for name, file in found.items() if file}
    assert {name for name in read_back if name.startswith("blobs/")} == {
        f"blobs/{digest.algorithm}/{digest.hex}" for digest in known
    }
    for blob in stream.blobs:
        assert whole[blob.offset : blob.offset + blob.size] == known[blob.digest]
    entries = json.loads(read_back["index.json"])["manifests"]
    assert {entry["digest"] for entry in entries} == {Digest.of(each, algorithm) for each in manifests}
    start = cut.draw(st.integers(0, stream.size))
    stop = cut.draw(st.integers(start, stream.size))
    assert read(stream, known, start, stop) == whole[start:stop]


def test_a_blob_above_eight_gibibytes_has_its_size_in_a_record_of_its_own() -> None:
    large = BundleBlob(digest=Digest.of(b"large"), size=10 * 1024**3, offset=0)
    small = BundleBlob(digest=Digest.of(b"small"), size=3, offset=0)
    stream = lay_out([], [large, small])
    placed = dict(zip(("large", "small"), stream.blobs, strict=True))
    head = read(Stream(stream.segments[:3], ()), {}, 0, placed["large"].offset)
    with tarfile.open(fileobj=io.BytesIO(head + bytes(1024))) as tar:
        with pytest.raises(tarfile.ReadError):  # its content is not here
            sizes = {each.name: each.size for each in tar}
        sizes = {each.name: each.size for each in tar.members}
    assert sizes[f"blobs/sha256/{large.digest.hex}"] == 10 * 1024**3
    assert placed["small"].offset == placed["large"].offset + large.size + 512


def test_a_document_that_another_build_laid_out_is_not_made_again() -> None:
    stream = lay_out([], [BundleBlob(digest=Digest.of(b"a"), size=1, offset=0)])
    bundle = Bundle(
        schema=SCHEMA, mirror="m", line="0" * 32, number=1, made_at="", stream_size=stream.size, part_size=1, parts=(),
        blobs=stream.blobs, images=(),
    )  # fmt: skip
    assert stream_of(bundle).size == stream.size
    moved = msgspec.structs.replace(
        bundle, blobs=tuple(msgspec.structs.replace(each, offset=7) for each in stream.blobs)
    )
    with pytest.raises(ManifestInvalid, match="in another way"):
        stream_of(moved)
