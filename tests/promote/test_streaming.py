"""A policy that requires a streaming index: what counts as one, and what is said of the layers that are left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from registry_pipelines.evidence.keys import KeySet, load_verifier
from registry_pipelines.evidence.predicates import ROLES, STREAMING_INDEX_TYPE
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.promote.documents import DEFAULT_POLICY, Policy, Verdict
from registry_pipelines.promote.judge import judge
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.derivation import Derivation, DerivedPlatform, attest_derivation
from registry_pipelines.stream.documents import annotated_manifest
from registry_pipelines.stream.signed_index import StreamingIndex, attest_index
from registry_pipelines.stream.soci_index import CONFIG, index_line, soci_index, table_line
from tests.evidence.parts import Key, push_index
from tests.promote.parts import NOW, Candidate

STREAMED = Policy(required=("streaming-index",))
MiB = 1 << 20
MakeKey = Callable[[str], Key]


def release(place: Place, key: Key, *sizes: int, kind: str = media_types.OCI_LAYER_GZIP, **more: Any) -> Candidate:
    """A release of two platforms whose manifests say that their layers have these sizes."""
    top, children = push_index(place)
    lines = []
    for child in children:
        content = place.registry.get_manifest(place.repository, child.digest).content()
        assert isinstance(content, Manifest)
        layers = []
        for number, size in enumerate(sizes):
            blob = push_blob(place, f"layer {number} for {child.platform}".encode(), media_type=kind)
            layers.append(msgspec.structs.replace(blob, size=size, **more))
        made = manifest_bytes(msgspec.structs.replace(content, layers=tuple(layers)))
        place.registry.put_manifest(place.repository, made)
        lines.append(msgspec.structs.replace(made.descriptor, platform=child.platform))
    index = place.registry.get_manifest(place.repository, top.digest).content()
    assert isinstance(index, Index)
    stored = manifest_bytes(msgspec.structs.replace(index, manifests=tuple(lines)))
    place.registry.put_manifest(place.repository, stored, tag="v1-good")
    return Candidate(place, key, "good", stored.descriptor, lines)


def layers_of(place: Place, image: Descriptor) -> tuple[Descriptor, ...]:
    content = place.registry.get_manifest(place.repository, image.digest).content()
    assert isinstance(content, Manifest)
    return content.layers


def index(candidate: Candidate, image: Descriptor, *, only: int | None = None, least: int | None = None) -> Digest:
    """A SOCI index of version 1 beside one image, signed by the indexer; of the first ``only`` layers."""
    place = candidate.place
    push_blob(place, CONFIG, media_type=media_types.SOCI_V1)
    lines = []
    for layer in layers_of(place, image)[:only]:
        table = push_blob(place, b"table of " + layer.digest.encode(), media_type="application/octet-stream")
        lines.append(table_line(table, layer, span_bytes=4 * MiB))
    made = soci_index(lines, subject=image)
    place.registry.put_manifest(place.repository, made)
    options = {"span_size": 4 * MiB} | ({} if least is None else {"min_layer_size": least})
    sign(candidate, image, made.digest, options=options)
    return made.digest


def sign(candidate: Candidate, image: Descriptor, made: Digest, **changes: Any) -> None:
    note = StreamingIndex(
        image=image.digest,
        index=made,
        format="soci-v1",
        release=candidate.top.digest,
        options={"min_layer_size": 10 * MiB},
        tool="tests",
    )
    attest_index(candidate.place, image, msgspec.structs.replace(note, **changes), candidate.key.signer)


def judged(candidate: Candidate, policy: Policy = STREAMED, verifier: KeySet | None = None) -> Verdict:
    place, trusted = candidate.place, verifier or candidate.key.verifier
    return judge(place, candidate.top, policy, trusted, image="app", now=NOW)


def test_without_an_index_each_platform_is_a_reason_with_its_layers_and_the_step_is_to_index(
    place: Place, key: Key
) -> None:
    app = release(place, key, 20 * MiB, 30 * MiB, 1000)
    verdict = judged(app)
    first, second = layers_of(place, app.children[0])[:2]
    assert not verdict.allow
    assert verdict.reasons[0] == (
        f"streaming index: linux/amd64 ({app.children[0].digest}): nothing that a trusted indexer signed covers "
        f"layer {first.digest} (20.0 MiB), {second.digest} (30.0 MiB)"
    )
    assert len(verdict.reasons) == 2
    assert [step.kind for step in verdict.steps] == ["index", "judge"]
    assert judged(app, DEFAULT_POLICY).reasons != verdict.reasons


def test_signed_indexes_of_every_platform_pass_and_the_verdict_rests_on_them(place: Place, key: Key) -> None:
    app = release(place, key, 20 * MiB, 1000)
    index(app, app.children[0], only=1)
    assert len(judged(app).reasons) == 1
    index(app, app.children[1], only=1)
    verdict = judged(app)
    assert (verdict.allow, verdict.reasons) == (True, ())
    assert [used.predicate_type for used in verdict.evidence] == [STREAMING_INDEX_TYPE] * 2
    assert {used.key_id for used in verdict.evidence} == {key.signer.key_id}


def test_a_layer_that_the_index_leaves_out_is_named_and_a_small_one_is_not(place: Place, key: Key) -> None:
    app = release(place, key, 20 * MiB, 10 * MiB - 1, 10 * MiB, 11 * MiB, 12 * MiB, 13 * MiB)
    for child in app.children:
        index(app, child, only=1)
    verdict = judged(app)
    named = [layer.digest in verdict.reasons[0] for layer in layers_of(place, app.children[0])]
    assert named == [False, False, True, True, True, False]
    assert "what its indexer signed does not cover layer" in verdict.reasons[0]
    assert verdict.reasons[0].endswith(" and 1 layer more")


def test_of_several_indexes_the_one_that_covers_most_counts(place: Place, key: Key) -> None:
    app = release(place, key, 20 * MiB, 20 * MiB)
    for child in app.children:
        for count in (0, 2, 1):
            index(app, child, only=count)
    assert judged(app).allow


def test_small_layers_need_no_index(place: Place, key: Key) -> None:
    assert judged(release(place, key, 10 * MiB - 1, 5)).allow


def test_a_limit_that_the_indexer_was_told_holds_and_is_said(place: Place, key: Key) -> None:
    app = release(place, key, 60 * MiB, 40 * MiB)
    for child in app.children:
        index(app, child, only=1, least=50 * MiB)
    verdict = judged(app)
    assert verdict.allow
    assert [note for note in verdict.notes if "50.0 MiB" in note and "fetched whole" in note]
    for child in app.children:
        index(app, child, only=2, least=0)
    assert not any("fetched whole" in note for note in judged(app).notes)


@pytest.mark.parametrize("key_for", ["other", "roleless"])
def test_an_index_that_no_trusted_indexer_signed_does_not_count_and_is_noted(
    place: Place, key: Key, other_key: Key, key_for: str
) -> None:
    app = release(place, key, 20 * MiB)
    made = [index(app, child) for child in app.children]
    split = load_verifier([], {role: [other_key.public if role == "indexer" else key.public] for role in ROLES})
    verdict = judged(app, verifier=other_key.verifier if key_for == "other" else split)
    assert not verdict.allow
    assert all("nothing that a trusted indexer signed" in reason for reason in verdict.reasons)
    assert all(any(str(digest) in note for note in verdict.notes) for digest in made)


def test_a_part_of_the_index_that_is_gone_covers_nothing(place: Place, key: Key) -> None:
    app = release(place, key, 20 * MiB)
    for child in app.children:
        index(app, child)
    layer = layers_of(place, app.children[0])[0]
    place.registry.delete_blob(place.repository, Digest.of(b"table of " + layer.digest.encode()))
    (reason,) = judged(app).reasons
    assert f"{layer.digest} (20.0 MiB, its part of the index is gone)" in reason


def test_a_signed_index_that_was_deleted_denies_again(place: Place, key: Key) -> None:
    app = release(place, key, 20 * MiB)
    made = [index(app, child) for child in app.children]
    assert judged(app).allow
    place.registry.delete_manifest(place.repository, made[1])
    assert len(judged(app).reasons) == 1


@pytest.mark.parametrize(
    "kind", [media_types.OCI_LAYER_ZSTD, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "application/odd.tar"]
)
def test_a_layer_of_which_there_is_no_index_wants_another_image(place: Place, key: Key, kind: str) -> None:
    verdict = judged(release(place, key, 20 * MiB, kind=kind))
    (image,) = [step for step in verdict.steps if step.kind == "image"]
    assert kind in image.about[0]
    assert "index" not in {step.kind for step in verdict.steps}


def test_a_layer_that_the_indexer_left_out_after_it_read_it_wants_another_image(place: Place, key: Key) -> None:
    app = release(place, key, 20 * MiB, 30 * MiB)
    for child in app.children:
        index(app, child, only=1)
    verdict = judged(app)
    left_out = {layers_of(place, child)[1].digest.short for child in app.children}
    (image,) = [step for step in verdict.steps if step.kind == "image"]
    assert {about.split()[1].rstrip(":") for about in image.about} == left_out
    assert "index" not in {step.kind for step in verdict.steps}


def test_a_part_that_is_gone_is_made_again_by_indexing(place: Place, key: Key) -> None:
    app = release(place, key, 20 * MiB)
    for child in app.children:
        index(app, child)
        layer = layers_of(place, child)[0]
        place.registry.delete_blob(place.repository, Digest.of(b"table of " + layer.digest.encode()))
    assert [step.kind for step in judged(app).steps] == ["index", "judge"]


def convert(candidate: Candidate, derived: Candidate, form: Any = "estargz") -> None:
    """Sign that the images of one release were made of those of another."""
    pairs = zip(candidate.children, derived.children, strict=True)
    record = Derivation(
        origin=candidate.top.digest,
        derived=derived.top.digest,
        format=form,
        options={},
        platforms=tuple(DerivedPlatform(platform="x", origin=a.digest, derived=b.digest) for a, b in pairs),
        tool="tests",
    )
    attest_derivation(derived.place, derived.top, record, derived.key.signer)


def test_of_a_conversion_and_an_index_the_one_that_covers_more_counts(place: Place, key: Key) -> None:
    """No layer here has a table of contents inside, as those that eStargz could not carry."""
    origin, app = release(place, key, 21 * MiB), release(place, key, 20 * MiB)
    convert(origin, app)
    denied = judged(app)
    assert not denied.allow
    assert [step.kind for step in denied.steps if step.kind in ("image", "index")] == ["image"]
    for child in app.children:
        index(app, child)
    verdict = judged(app)
    assert (verdict.allow, verdict.reasons) == (True, ())
    assert {used.predicate_type for used in verdict.evidence} == {STREAMING_INDEX_TYPE}


def test_an_image_that_names_its_index_counts_by_the_same_signature(place: Place, key: Key) -> None:
    app = release(place, key, 20 * MiB)
    push_blob(place, CONFIG, media_type=media_types.SOCI_V2)
    lines = []
    for child in app.children:
        (layer,) = layers_of(place, child)
        table = push_blob(place, b"table of " + layer.digest.encode(), media_type="application/octet-stream")
        made = soci_index([table_line(table, layer, span_bytes=4 * MiB)])
        image = annotated_manifest(place.registry.get_manifest(place.repository, child.digest).raw, made.digest)
        for each in (made, image):
            place.registry.put_manifest(place.repository, each)
        assert child.platform is not None
        lines += [msgspec.structs.replace(image.descriptor, platform=child.platform)]
        lines += [index_line(made, image.digest, child.platform)]
        sign(app, image.descriptor, made.digest, format="soci-v2")
    top = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=tuple(lines)))
    place.registry.put_manifest(place.repository, top, tag="v1-soci-v2")
    verdict = judged(Candidate(place, key, "soci-v2", top.descriptor, lines[::2]))
    assert (verdict.allow, verdict.reasons) == (True, ())


@pytest.mark.parametrize("annotated", [True, False])
@pytest.mark.parametrize("recorded", ["estargz", "soci-v2", ""])
def test_layers_that_the_indexer_converted_count_and_those_of_others_do_not(
    place: Place, key: Key, annotated: bool, recorded: Any
) -> None:
    notes = {"annotations": {TOC_ANNOTATION: "sha256:" + "1" * 64}} if annotated else {}
    origin, app = release(place, key, 21 * MiB), release(place, key, 20 * MiB, **notes)
    if recorded:
        convert(origin, app, recorded)
    verdict = judged(app)
    assert verdict.allow == (annotated and recorded == "estargz")
    assert bool(verdict.evidence) == (recorded == "estargz")


def test_the_policy_is_another_one_with_it_and_its_digest_does_not_follow_the_order() -> None:
    both = Policy(required=("streaming-index", "signature"))
    assert (
        both.digest
        == Policy(required=("signature", "streaming-index")).digest
        != Policy(required=("signature",)).digest
    )
