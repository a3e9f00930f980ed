"""A converted release: its origin's provenance counts through a record that the indexer signed, through no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from registry_pipelines.evidence.attestations import attest
from registry_pipelines.evidence.keys import KeySet, load_verifier
from registry_pipelines.evidence.predicates import DERIVATION_TYPE, PROVENANCE_TYPE, ROLES
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, encode_json, manifest_bytes
from registry_pipelines.promote.documents import Policy, Verdict
from registry_pipelines.promote.judge import judge
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.stream.derivation import Derivation, DerivedPlatform, attest_derivation
from tests.evidence.parts import Key
from tests.promote.parts import NOW, Candidate

PROVEN = Policy(required=("provenance",))
MakeKey = Callable[[str], Key]


@pytest.fixture
def origin(bare: Candidate) -> Candidate:
    """A release with provenance of its builder."""
    bare.attach_provenance()
    bare.sign()
    return bare


@pytest.fixture
def derived(origin: Candidate) -> Candidate:
    """The same images with an annotation more, as a SOCI conversion makes them."""
    return convert(origin)


def convert(origin: Candidate, name: str = "soci", **changes: Any) -> Candidate:
    place, lines = origin.place, []
    for child in origin.children:
        content = place.registry.get_manifest(place.repository, child.digest).content()
        assert isinstance(content, Manifest)
        made = manifest_bytes(msgspec.structs.replace(content, annotations={"made": name}, **changes))
        place.registry.put_manifest(place.repository, made)
        lines.append(msgspec.structs.replace(made.descriptor, platform=child.platform))
    top = place.registry.get_manifest(place.repository, origin.top.digest)
    index = manifest_bytes(msgspec.structs.replace(top.content(), manifests=tuple(lines)))
    place.registry.put_manifest(place.repository, index, tag=f"v1-{name}")
    return Candidate(place, origin.key, name, index.descriptor, lines)


def record(origin: Candidate, derived: Candidate, **changes: Any) -> Derivation:
    pairs = [
        DerivedPlatform(platform=str(after.platform), origin=before.digest, derived=after.digest)
        for before, after in zip(origin.children, derived.children, strict=True)
    ]
    told = Derivation(
        origin=origin.top.digest,
        derived=derived.top.digest,
        format="soci-v2",
        options={"span_size": 4 << 20},
        platforms=tuple(pairs),
        tool="tests",
    )
    return msgspec.structs.replace(told, **changes)


def judged(derived: Candidate, verifier: KeySet | None = None) -> Verdict:
    return judge(derived.place, derived.top, PROVEN, verifier or derived.key.verifier, image="app", now=NOW)


def denied(derived: Candidate, verifier: KeySet | None = None) -> str:
    verdict = judged(derived, verifier)
    assert not verdict.allow
    assert {step.kind for step in verdict.steps} == {"provenance", "sign", "judge"}
    return "\n".join([*verdict.reasons, *verdict.notes])


def test_provenance_of_the_origin_counts_through_the_record_and_the_verdict_says_so(
    origin: Candidate, derived: Candidate, key: Key
) -> None:
    assert "no attestation of type https://slsa.dev/provenance/v1" in denied(derived)
    made = attest_derivation(derived.place, derived.top, record(origin, derived), key.signer)
    verdict = judged(derived)
    assert (verdict.allow, verdict.accepted) == (True, ())
    [note] = verdict.notes
    assert note == (
        f"SLSA provenance: that of {origin.top.digest}, which it was made of (soci-v2) by a record that "
        f"{key.signer.key_id[:19]} signed as indexer"
    )
    used = {item.predicate_type: item.digest for item in verdict.evidence}
    assert used[DERIVATION_TYPE] == made.descriptor.digest and PROVENANCE_TYPE in used
    assert judged(origin).allow


def test_a_converted_release_is_signed_without_a_complaint_about_provenance(
    origin: Candidate, derived: Candidate, key: Key
) -> None:
    assert "no provenance is attached" in derived.sign().problems
    attest_derivation(derived.place, derived.top, record(origin, derived), key.signer)
    assert "no provenance is attached" not in derived.sign().problems


def test_a_record_is_written_once_whichever_version_writes_it(origin: Candidate, derived: Candidate, key: Key) -> None:
    told = record(origin, derived)
    first = attest_derivation(derived.place, derived.top, told, key.signer)
    again = attest_derivation(derived.place, derived.top, msgspec.structs.replace(told, tool="later"), key.signer)
    assert (first.changed, again.changed, again.descriptor) == (True, False, first.descriptor)
    other = attest_derivation(derived.place, derived.top, msgspec.structs.replace(told, options={}), key.signer)
    assert other.changed


@pytest.mark.parametrize("role", [role for role in ROLES if role != "indexer"])
def test_a_record_by_the_key_of_another_role_is_not_believed(
    origin: Candidate, derived: Candidate, key: Key, make_key: MakeKey, role: Any
) -> None:
    split = load_verifier([key.public], {role: [make_key(role).public], "indexer": [make_key("indexer").public]})
    attest_derivation(derived.place, derived.top, record(origin, derived), make_key(role).signer)
    said = denied(derived, split)
    assert f"which is trusted, but not as indexer for {DERIVATION_TYPE}" in said
    attest_derivation(derived.place, derived.top, record(origin, derived), make_key("indexer").signer)
    # The builder's own key signed nothing here: it is the origin's provenance that nobody is believed for then.
    assert judged(derived, split).allow is (role != "builder")


def test_a_record_by_a_key_that_nobody_trusts(origin: Candidate, derived: Candidate, other_key: Key) -> None:
    attest_derivation(derived.place, derived.top, record(origin, derived), other_key.signer)
    assert "was made by a trusted key" in denied(derived)


def _other_pair(index: int, **changes: Any) -> Callable[[Derivation], dict[str, Any]]:
    def changed(told: Derivation) -> dict[str, Any]:
        pairs = list(told.platforms)
        pairs[index] = msgspec.structs.replace(pairs[index], **changes)
        return {"platforms": tuple(pairs)}

    return changed


GONE = Digest.of(b"gone")


@pytest.mark.parametrize(
    ("tampered", "reason"),
    [
        (lambda told: {"derived": GONE}, f"the derivation record is about {GONE}, not sha256:"),
        (lambda told: {"origin": GONE}, f"the origin {GONE} is not here any more"),
        (lambda told: {"platforms": told.platforms[:1]}, "the derivation record does not name it"),
        (lambda told: {"platforms": ()}, "the derivation record does not name it"),
        (_other_pair(1, origin=GONE), f"says it was made of {GONE}, which is no image of sha256:"),
        (_other_pair(1, derived=GONE), "the derivation record does not name it"),
        (lambda told: {"format": "zip"}, "this derivation record is not valid: Invalid enum value 'zip'"),
        (lambda told: {"origin": told.derived}, "no provenance of the origin sha256:"),
    ],
)
def test_a_record_that_says_something_else_proves_nothing(
    origin: Candidate,
    derived: Candidate,
    key: Key,
    tampered: Callable[[Derivation], dict[str, Any]],
    reason: str,
) -> None:
    told = record(origin, derived)
    predicate = json.loads(encode_json(told)) | json.loads(encode_json(tampered(told)))
    attest(derived.place, derived.top, DERIVATION_TYPE, predicate, key.signer)
    assert reason in denied(derived)


def test_an_origin_that_was_deleted_or_is_not_whole(origin: Candidate, derived: Candidate, key: Key) -> None:
    attest_derivation(derived.place, derived.top, record(origin, derived), key.signer)
    registry, repository = origin.place.registry, origin.place.repository
    registry.delete_manifest(repository, origin.children[0].digest)
    assert f"cannot be read: the child manifest {origin.children[0].digest} does not exist" in denied(derived)
    registry.delete_manifest(repository, origin.top.digest)
    assert f"SLSA provenance: the origin {origin.top.digest} is not here any more" in denied(derived)


def test_an_origin_without_provenance_of_each_platform(bare: Candidate, key: Key) -> None:
    derived = convert(bare)
    attest_derivation(derived.place, derived.top, record(bare, derived), key.signer)
    assert f"no provenance of the origin {bare.top.digest} is signed by a trusted key" in denied(derived)
    bare.attach_provenance(bare.top.digest, bare.children[0].digest)
    bare.sign()
    said = denied(derived)
    assert f"the origin's signed provenance does not cover {bare.children[1].digest}" in said
    assert f"nothing signed covers linux/arm64 ({derived.children[1].digest})" in said
    assert f"linux/amd64 ({derived.children[0].digest})" not in said


def test_provenance_of_its_own_and_of_its_origin_are_taken_together(bare: Candidate, key: Key) -> None:
    bare.attach_provenance(bare.top.digest, bare.children[0].digest)
    bare.sign()
    derived = convert(bare)
    attest_derivation(derived.place, derived.top, record(bare, derived), key.signer)
    derived.attach_provenance(derived.top.digest, derived.children[1].digest)
    derived.sign()
    assert judged(derived).allow


def _pushed(origin: Candidate, content: bytes, media_type: str) -> Descriptor:
    return push_blob(origin.place, content, media_type=media_type)


@pytest.mark.parametrize("form", ["soci-v2", "estargz"])
def test_an_image_of_other_content_has_no_share_in_the_provenance(origin: Candidate, key: Key, form: Any) -> None:
    """The indexer's key was stolen: what its record can hide is what no other document says."""
    foreign = _pushed(origin, b"another layer", media_types.OCI_LAYER)
    swapped = convert(origin, "layers", layers=(foreign,))
    attest_derivation(swapped.place, swapped.top, record(origin, swapped, format=form), key.signer)
    if form == "soci-v2":
        assert "and this conversion changes none (soci-v2)" in denied(swapped)
    else:
        assert judged(swapped).allow  # its layers are new; that they hold the same is the indexer's word
    child = origin.place.registry.get_manifest(origin.place.repository, origin.children[0].digest).content()
    assert isinstance(child, Manifest)
    config = json.loads(read_blob(origin.place, child.config, limit=10_000))
    started = json.dumps(config | {"config": {"Cmd": ["evil"]}}).encode()
    restarted = convert(origin, "command", config=_pushed(origin, started, media_types.OCI_CONFIG))
    attest_derivation(restarted.place, restarted.top, record(origin, restarted, format=form), key.signer)
    assert "its config says other things than that of" in denied(restarted)
