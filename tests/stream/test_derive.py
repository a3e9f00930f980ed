"""Images made of a release: documents, record and tag, what copies and programs make of them, what is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from registry_pipelines.errors import DigestMismatch, InputError, LayerInvalid, ManifestInvalid, Refused, TagImmutable
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.predicates import DERIVATION_TYPE
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.estargz_footer import footer
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.promote.documents import Policy
from registry_pipelines.promote.judge import judge
from registry_pipelines.registry.blobs import BlobStream, read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.derivation import Derivation, read_derivations
from registry_pipelines.stream.documents import REFERENCE_ANNOTATION
from registry_pipelines.stream.model import Stream
from registry_pipelines.stream.signed_index import find_index
from registry_pipelines.stream.soci_index import MANIFEST_DIGEST, read_soci_index
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.evidence.parts import Counted, Key
from tests.promote.parts import NOW, Candidate
from tests.stream.layers import convert, pack
from tests.stream.releases import ESTARGZ, SOCI, Layer, Streamer, entries, files, hows, layer, push
from tests.stream.test_publish import GONE, Unreadable, two_platforms

BOTH = pytest.mark.parametrize("stream", [SOCI, ESTARGZ], ids=["soci-v2", "estargz"])


def content(place: Place, reference: str) -> Any:
    return place.registry.get_manifest(place.repository, reference).content()


def children(place: Place, reference: str) -> dict[str, Descriptor]:
    """Lines of the images of an index, by architecture."""
    index = content(place, reference)
    assert isinstance(index, Index)
    return {
        line.platform.architecture: line
        for line in index.manifests
        if line.platform and not line.platform.unknown and not line.artifact_type
    }


def record_of(place: Place, digest: Digest, key: Key) -> Derivation:
    known = read_attestations(place, digest, key.verifier, predicate_type=DERIVATION_TYPE)
    [(record, _)], rejected = read_derivations(known, digest)
    assert not rejected
    return record


@BOTH
def test_a_release_becomes_an_image_of_its_own_with_a_signed_record(
    any_place: Place, key: Key, tmp_path: Path, stream: Stream
) -> None:
    place = any_place
    top, amd64, arm64 = two_platforms(place)
    made = Streamer(place, tmp_path / "state", key.signer).convert(top, stream)
    assert made.derived is not None and made.changed and made.origin == top.digest
    assert made.tag == f"v1-{stream.format}"
    assert place.registry.resolve(place.repository, made.tag).digest == made.derived.digest != top.digest
    assert place.registry.resolve(place.repository, "v1").digest == top.digest
    record = record_of(place, made.derived.digest, key)
    after = children(place, made.tag)
    assert (record.origin, record.derived, record.format) == (top.digest, made.derived.digest, stream.format)
    pairs = [(each.platform, each.origin, each.derived) for each in record.platforms]
    assert pairs == [
        ("linux/amd64", amd64.digest, after["amd64"].digest),
        ("linux/arm64", arm64.digest, after["arm64"].digest),
    ]
    links = {
        (line.annotations or {}).get(REFERENCE_ANNOTATION): line.platform and line.platform.unknown
        for line in content(place, made.tag).manifests
    }
    assert links.pop(after["amd64"].digest) and links.pop(after["arm64"].digest)
    assert hows(made.rows) == ["uploaded", "uploaded", "present", "uploaded"]
    # The layer that both platforms share is made and counted once.
    assert [row.bytes_sent for row in made.rows].count(0) == 1
    assert made.bytes_sent > sum(row.made_bytes for row in made.rows if row.bytes_sent)


@BOTH
def test_a_second_run_writes_nothing_and_reads_no_layer_even_without_its_state(
    counted: Counted, key: Key, tmp_path: Path, stream: Stream
) -> None:
    top, *_ = two_platforms(counted.place)
    first = Streamer(counted.place, tmp_path / "one", key.signer).convert(top, stream)
    before = counted.files()
    place = Place(Unreadable(counted.place), counted.place.repository)
    again = Streamer(place, tmp_path / "two", key.signer).convert(top, stream)
    assert (again.changed, again.bytes_sent, again.derived, again.record) == (False, 0, first.derived, first.record)
    assert hows(again.rows) == ["present"] * 4
    assert [row.made for row in again.rows] == [row.made for row in first.rows]
    assert counted.files() == before


def test_soci_keeps_layers_and_config_and_signs_the_index_too(place: Place, streamer: Streamer, key: Key) -> None:
    top, amd64, _ = two_platforms(place)
    made = streamer.convert(top, SOCI)
    line = children(place, made.tag)["amd64"]
    before, after = content(place, amd64.digest), content(place, line.digest)
    assert (after.layers, after.config) == (before.layers, before.config)
    [found] = find_index(place, line.digest, key.verifier).signed
    document = read_soci_index(found.stored)
    assert (document.version, document.exact, document.subject) == (2, True, None)
    assert (after.annotations or {})["com.amazon.soci.index-digest"] == found.descriptor.digest
    soci = [each for each in content(place, made.tag).manifests if each.artifact_type == media_types.SOCI_V2]
    assert (soci[0].annotations or {})[MANIFEST_DIGEST] == line.digest
    assert soci[0].digest == found.descriptor.digest and found.note.format == "soci-v2"
    # Its index is signed as the other form's are; without that key nobody serves it.
    unsigned = find_index(place, line.digest, load_other(key))
    assert not unsigned.signed and found.descriptor.digest in [each.where for each in unsigned.not_served]


def load_other(key: Key) -> Any:
    from registry_pipelines.evidence.keys import generate_key, load_verifier

    path = key.path.with_name("nobody.key")
    return load_verifier([generate_key(path).public if not path.exists() else path.with_suffix(".pub")])


def test_a_single_image_is_wrapped_by_soci_and_stays_one_as_estargz(place: Place, streamer: Streamer) -> None:
    image = push(place, layer("a", media_type=media_types.DOCKER_LAYER_GZIP), docker=True, tag="v1")
    streamer.convert(image, SOCI)
    assert list(children(place, "v1-soci-v2")) == ["amd64"]
    streamer.convert(image, ESTARGZ)
    made = content(place, "v1-estargz")
    assert isinstance(made, Manifest)
    assert (made.media_type, made.config.media_type) == (media_types.OCI_MANIFEST, media_types.OCI_CONFIG)
    assert [each.media_type for each in made.layers] == [media_types.OCI_LAYER_GZIP]


def test_an_image_without_a_platform_is_not_wrapped(counted: Counted, streamer: Streamer) -> None:
    image = push(counted.place, layer("a"), architecture="", tag="v1")
    before = counted.files()
    with pytest.raises(ManifestInvalid, match="config names no platform"):
        streamer.convert(image, SOCI)
    assert counted.files() == before
    assert streamer.convert(image, ESTARGZ).derived is not None


def test_estargz_has_the_right_config_history_and_annotations(place: Place, streamer: Streamer) -> None:
    image = push(place, layer("a"), layer("b"), tag="v1", annotations={"team": "ml"})
    made = streamer.convert(image, ESTARGZ)
    before, after = content(place, "v1"), content(place, made.tag)
    old, new = (json.loads(read_blob(place, each.config, limit=10_000)) for each in (before, after))
    blobs = [read_blob(place, each, limit=10_000_000) for each in after.layers]
    diff_ids = [f"sha256:{hashlib.sha256(gzip.decompress(blob)).hexdigest()}" for blob in blobs]
    assert new == old | {"rootfs": {"type": "layers", "diff_ids": diff_ids}} and new != old
    assert all(TOC_ANNOTATION in (each.annotations or {}) for each in after.layers)
    assert after.annotations == {"team": "ml"}
    assert [row.made for row in made.rows] == [each.digest for each in after.layers]
    assert all(row.spans for row in made.rows)


def test_a_layer_is_converted_once_for_all_images_and_repositories(counted: Counted, key: Key, tmp_path: Path) -> None:
    place = counted.place
    base = layer("base")
    streamer = Streamer(place, tmp_path / "state", key.signer)
    streamer.convert(push(place, base, layer("a"), tag="v1"), ESTARGZ)
    made = streamer.convert(push(place, base, layer("b"), tag="v2"), ESTARGZ, tag="v2")
    assert hows(made.rows) == ["present", "uploaded"]
    elsewhere = Place(place.registry, "other/app")
    streamer.place = elsewhere
    moved = streamer.convert(push(elsewhere, base, tag="v1"), ESTARGZ)
    assert hows(moved.rows) == ["mounted"]
    first = msgspec.structs.replace(ESTARGZ, prioritize=("data/base",))
    other = streamer.convert(push(elsewhere, base, tag="v3"), first, tag="v3")
    assert hows(other.rows) == ["uploaded"] and other.rows[0].made != moved.rows[0].made


def test_what_a_converted_layer_has_not_and_what_was_not_found_is_said_also_from_memory(
    place: Place, streamer: Streamer
) -> None:
    tar = pack(2 * entries("twice"))
    image = push(place, Layer(gzip.compress(tar, mtime=0), tar), layer("b"), tag="v1")
    first = msgspec.structs.replace(ESTARGZ, prioritize=("data/b", "data/none"))
    made = streamer.convert(image, first)
    assert (made.missing, made.rows[1].why) == (("data/none",), "")
    assert made.rows[0].why == "1 entry left out, whose name comes again or is the format's own: 'data/twice'"
    other = push(place, Layer(gzip.compress(tar, mtime=0), tar), layer("c"), tag="v2")
    again = streamer.convert(other, first, tag="v2")
    assert (again.missing, again.rows[0]) == (first.prioritize, replace(made.rows[0], how="present", bytes_sent=0))


def test_what_an_older_run_made_otherwise_keeps_the_tag(counted: Counted, streamer: Streamer) -> None:
    image = push(counted.place, layer("a"), tag="v1")
    streamer.convert(image, SOCI)
    before = counted.files()
    coarse = msgspec.structs.replace(SOCI, span_size=type(SOCI.span_size)(1 << 20))
    with pytest.raises(TagImmutable, match=r"the tag v1-soci-v2 names sha256:.*, and what is made now is sha256:"):
        streamer.convert(image, coarse)
    assert counted.files() == before


def test_a_tag_of_somebody_else_is_never_moved(place: Place, streamer: Streamer) -> None:
    image, other = push(place, layer("a"), tag="v1"), push(place, layer("b"), tag="v1-estargz")
    with pytest.raises(TagImmutable):
        streamer.convert(image, ESTARGZ)
    assert place.registry.resolve(place.repository, "v1-estargz").digest == other.digest


def test_what_was_converted_is_not_converted_again(counted: Counted, streamer: Streamer) -> None:
    place = counted.place
    image = push(place, layer("a"), tag="v1")
    soci, estargz = (streamer.convert(image, stream).derived for stream in (SOCI, ESTARGZ))
    assert soci is not None and estargz is not None
    before = counted.files()
    for made, form in ((soci, "soci-v2"), (estargz, "estargz")):
        with pytest.raises(InputError, match=rf"made by a conversion itself \({form}\), of {image.digest}"):
            streamer.convert(made, ESTARGZ, tag="v2")
    foreign = push(place, layer("a"), tag="v3", annotations={"com.amazon.soci.index-digest": GONE})
    with pytest.raises(InputError, match=f"it names a SOCI index already, {GONE}"):
        streamer.convert(foreign, SOCI, tag="v3")
    with pytest.raises(InputError, match="soci-v1 makes no new image"):
        streamer.convert(image, Stream())
    now = counted.files()
    assert before.keys() <= now.keys() and not any("v2" in str(path) for path in now)


def test_nothing_to_convert_is_said_and_nothing_is_written(counted: Counted, streamer: Streamer) -> None:
    place = counted.place
    blob, converted = convert(files("b"))
    estargz = Layer(blob, gzip.decompress(blob), more={"annotations": converted.descriptor.annotations})
    small, done = push(place, layer("a"), tag="v1"), push(place, estargz, tag="v2")
    before = counted.files()
    made = streamer.convert(small, Stream(format="soci-v2"))
    assert (made.derived, made.record, made.changed, hows(made.rows)) == (None, None, False, ["skipped"])
    assert "smaller than an index is worth" in made.why
    made = streamer.convert(done, ESTARGZ, tag="v2")
    assert (made.derived, made.changed, hows(made.rows)) == (None, False, ["kept"])
    assert made.why == "no layer of it is to be converted: it is eStargz already"
    assert counted.files() == before


def test_an_estargz_layer_stays_and_one_that_is_none_or_a_wrong_one_is_made_anew(
    place: Place, streamer: Streamer
) -> None:
    blob, converted = convert(files("a"))
    tar = gzip.decompress(blob)
    lying = {"annotations": {TOC_ANNOTATION: str(GONE)}}
    image = push(place, Layer(blob, tar), layer("b", more=lying), Layer(blob[:-51] + footer(0), tar), tag="v1")
    made = streamer.convert(image, ESTARGZ)
    assert hows(made.rows) == ["kept", "uploaded", "uploaded"]
    assert made.rows[0].why == "it is eStargz already"
    assert made.rows[1].why == "it was made anew: its annotation says eStargz, and it is not"
    assert "it was made anew: no valid eStargz layer" in made.rows[2].why
    after = content(place, made.tag).layers
    # What it lost is told again; what it says is what the conversion told.
    assert (after[0].digest, after[0].annotations) == (converted.descriptor.digest, converted.descriptor.annotations)
    assert after[2].digest == after[0].digest
    assert streamer.convert(image, ESTARGZ).derived == made.derived


def test_a_layer_that_needs_a_second_pass_is_sent_a_second_time(place: Place, streamer: Streamer) -> None:
    """Larger than what is sent in one piece, so that an upload was open when a name came again."""
    noise = random.Random(1).randbytes(PART_BYTES + 1)
    members = []
    for name, payload in (("large", noise), ("a", b"old"), ("a", b"new")):
        info = tarfile.TarInfo(name)
        info.size = len(payload)
        members.append((info, payload))
    tar = pack(members)
    image = push(place, Layer(gzip.compress(tar, 0), tar), tag="v1")
    made = streamer.convert(image, ESTARGZ)
    assert hows(made.rows) == ["uploaded"]
    [after] = content(place, made.tag).layers
    with BlobStream(place, after) as stream:
        found = [(entry.name, entry.head(3)) for entry in open_layer(stream, after.media_type)]
    assert found[1:3] == [("large", noise[:3]), ("a", b"new")] and len(found) == 4


def test_layers_that_nobody_can_read_stay_and_zstd_is_converted(place: Place, streamer: Streamer) -> None:
    tar = files("zstd")
    foreign = layer("foreign", more={"urls": ["https://example.com/layer"]})
    secret = layer("secret", media_type=f"{media_types.OCI_LAYER_GZIP}+encrypted")
    image = push(place, Layer(zstandard.compress(tar), tar, media_types.OCI_LAYER_ZSTD), foreign, secret, tag="v1")
    made = streamer.convert(image, ESTARGZ)
    assert hows(made.rows) == ["uploaded", "kept", "kept"]
    assert ["not this registry" in made.rows[1].why, "has its key" in made.rows[2].why] == [True, True]
    before, after = content(place, "v1").layers, content(place, made.tag).layers
    assert after[1:] == before[1:] and after[0].media_type == media_types.OCI_LAYER_GZIP
    again = streamer.convert(image, ESTARGZ)
    assert not again.changed and [row.why for row in again.rows[1:]] == [row.why for row in made.rows[1:]]


@BOTH
@pytest.mark.parametrize("harm", ["cut", "another diffID"])
def test_a_damaged_layer_leaves_nothing_that_anybody_finds(
    counted: Counted, streamer: Streamer, stream: Stream, harm: str
) -> None:
    place, good = counted.place, layer("bad")
    bad = replace(good, blob=good.blob[:-100]) if harm == "cut" else replace(good, tar=good.tar + bytes(512))
    image = push(place, layer("good"), bad, tag="v1")
    tags = list(place.registry.tags(place.repository))
    manifests = _manifests(counted)
    with pytest.raises((LayerInvalid, DigestMismatch)):
        streamer.convert(image, stream)
    assert (list(place.registry.tags(place.repository)), _manifests(counted)) == (tags, manifests)


def _manifests(counted: Counted) -> set[Path]:
    """Files that are no blobs: manifests of the repository, tags, referrers; and no open upload."""
    return {path for path in counted.files() if "blobs" not in path.parts}


@BOTH
def test_a_copy_brings_everything_and_skopeo_copies_it_too(
    place: Place, streamer: Streamer, key: Key, tmp_path: Path, peer: Callable[[str], str], stream: Stream
) -> None:
    top, *_ = two_platforms(place)
    made = streamer.convert(top, stream)
    assert made.derived is not None
    away = Place(LayoutRegistry(tmp_path / "away"), "copy")
    copy_closure(place, made.tag, [away])
    assert compare(place, away, made.tag, content=True) == []
    assert record_of(away, made.derived.digest, key).origin == top.digest
    if stream is SOCI:
        for line in children(away, made.tag).values():
            [found] = find_index(away, line.digest, key.verifier).signed
            assert all(away.registry.blob_size("copy", each.digest) for each in found.ztocs.values())
    subprocess.run(
        [
            *(
                peer("skopeo-sigstore"),
                "--insecure-policy",
                "copy",
                "--all",
                "--preserve-digests",
                "--src-tls-verify=false",
            ),
            *(f"docker://{place.registry.name}/{place.repository}:{made.tag}", f"oci:{tmp_path / 'oci'}:v1"),
        ],
        check=True,
        capture_output=True,
    )
    copied = json.loads((tmp_path / "oci" / "index.json").read_bytes())
    assert [each["digest"] for each in copied["manifests"]] == [made.derived.digest]


@BOTH
def test_the_gate_takes_the_provenance_of_the_origin(
    place: Place, streamer: Streamer, key: Key, stream: Stream
) -> None:
    top, *images = two_platforms(place)
    candidate = Candidate(place, key, "x", top, list(images))
    candidate.attach_provenance()
    candidate.sign()
    made = streamer.convert(top, stream)
    assert made.derived is not None

    def judged() -> Any:
        return judge(place, made.derived, Policy(required=("provenance",)), key.verifier, image="app", now=NOW)

    verdict = judged()
    assert verdict.allow, verdict.reasons
    assert any(f"that of {top.digest}, which it was made of ({stream.format})" in note for note in verdict.notes)
    assert made.record in [used.digest for used in verdict.evidence]
    place.registry.delete_manifest(place.repository, made.record)
    assert not judged().allow


@BOTH
@pytest.mark.parametrize("refused", ["index", "tag"])
def test_a_registry_that_refuses_what_is_made_keeps_its_tags(
    counted: Counted, key: Key, tmp_path: Path, stream: Stream, refused: str
) -> None:
    top, *_ = two_platforms(counted.place)
    with FaultRegistry(counted.server.address) as faults:
        registry = DistributionRegistry(faults.address)
        place = Place(registry, counted.place.repository)
        made = Streamer(counted.place, tmp_path / "one", key.signer).convert(top, stream)
        assert made.derived is not None
        counted.place.registry.delete_manifest(place.repository, made.derived.digest)
        name = made.derived.digest if refused == "index" else made.tag
        body = b'{"errors":[{"code":"MANIFEST_INVALID","message":"no sparse index here"}]}'
        faults.play("PUT", f".*/manifests/{name}", Status(400, body=body))
        with pytest.raises(Refused, match="no sparse index here"):
            Streamer(place, tmp_path / "two", key.signer).convert(top, stream)
        assert list(counted.place.registry.tags(place.repository)) == ["v1"]
        faults.clear()
        again = Streamer(place, tmp_path / "two", key.signer).convert(top, stream)
        assert (again.changed, again.derived) == (True, made.derived)
        registry.close()
