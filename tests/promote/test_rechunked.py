"""A rechunked release: its layers are all new, so what an indexer signed of both roots is what counts, and the records
of several derivations are followed to the image that was pushed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from registry_pipelines.evidence.attestations import attest
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.evidence.predicates import RECHUNK_TYPE, ROLES
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, encode_json, manifest_bytes
from registry_pipelines.promote.documents import Policy, Verdict
from registry_pipelines.promote.judge import judge
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.stream.derivation import attest_derivation
from registry_pipelines.stream.model import RECHUNKED, RECHUNKED_LAYER
from registry_pipelines.stream.rechunk_record import DroppedFiles, RechunkedPlatform, RechunkRecord, attest_rechunk
from tests.evidence.parts import Key
from tests.promote.parts import NOW, Candidate, copied_evidence
from tests.promote.test_origins import convert, record

PROVEN = Policy(required=("provenance",))
SAME = Policy(required=("same-tree",))
TREE, OTHER = Digest.of(b"tree"), Digest.of(b"another")


@pytest.fixture
def origin(bare: Candidate) -> Candidate:
    """A release with provenance of its builder."""
    bare.attach_provenance()
    bare.sign()
    return bare


@pytest.fixture
def made(origin: Candidate) -> Candidate:
    """The same images with one other layer, and another history."""
    return regrouped(origin)


def regrouped(origin: Candidate, **config: Any) -> Candidate:
    place, lines = origin.place, []
    layer = push_blob(place, b"a layer of all packages", media_type=media_types.OCI_LAYER_GZIP)
    layer = msgspec.structs.replace(layer, annotations={RECHUNKED_LAYER: "python numpy"})
    for child in origin.children:
        content = place.registry.get_manifest(place.repository, child.digest).content()
        assert isinstance(content, Manifest)
        told = json.loads(read_blob(place, content.config, limit=10_000)) | {"history": [{"created_by": "x"}]} | config
        described = push_blob(place, json.dumps(told).encode(), media_type=media_types.OCI_CONFIG)
        made = manifest_bytes(msgspec.structs.replace(content, layers=(layer,), config=described))
        place.registry.put_manifest(place.repository, made)
        lines.append(msgspec.structs.replace(made.descriptor, platform=child.platform))
    top = place.registry.get_manifest(place.repository, origin.top.digest)
    index = manifest_bytes(msgspec.structs.replace(top.content(), manifests=tuple(lines)))
    place.registry.put_manifest(place.repository, index, tag="v1-rechunked")
    return Candidate(place, origin.key, RECHUNKED, index.descriptor, lines)


def roots(origin: Candidate, made: Candidate, **changes: Any) -> RechunkRecord:
    platforms = tuple(
        RechunkedPlatform(
            platform=str(after.platform), origin=before.digest, rechunked=after.digest, origin_tree=TREE, tree=TREE
        )
        for before, after in zip(origin.children, made.children, strict=True)
    )
    told = RechunkRecord(
        origin=origin.top.digest, rechunked=made.top.digest, times="fixed", platforms=platforms, tool="tests"
    )
    return msgspec.structs.replace(told, **changes)


def judged(release: Candidate, policy: Policy = PROVEN) -> Verdict:
    return judge(release.place, release.top, policy, release.key.verifier, image="app", now=NOW)


def reasons(release: Candidate, policy: Policy = PROVEN) -> str:
    verdict = judged(release, policy)
    assert not verdict.allow
    return "\n".join([*verdict.reasons, *verdict.notes])


def test_provenance_counts_when_both_records_are_signed_and_the_verdict_rests_on_both(
    origin: Candidate, made: Candidate, key: Key
) -> None:
    attest_derivation(made.place, made.top, record(origin, made, format=RECHUNKED), key.signer)
    assert f"nothing that a trusted indexer signed says that its files are those of {origin.children[0].digest}" in (
        reasons(made)
    )
    carrier = attest_rechunk(made.place, made.top, roots(origin, made), key.signer)
    verdict = judged(made)
    assert verdict.allow and f"that of {origin.top.digest}, which it was made of (rechunked)" in verdict.notes[0]
    assert {item.predicate_type: item.digest for item in verdict.evidence}[RECHUNK_TYPE] == carrier.descriptor.digest


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": str(OTHER)},
        {"platforms": ()},
        {"rechunked": str(OTHER)},
        {"times": "sometimes"},
    ],
)
def test_a_record_of_both_roots_that_says_something_else_counts_for_nothing(
    origin: Candidate, made: Candidate, key: Key, wrong: dict[str, Any]
) -> None:
    attest_derivation(made.place, made.top, record(origin, made, format=RECHUNKED), key.signer)
    predicate = json.loads(encode_json(roots(origin, made))) | wrong
    attest(made.place, made.top, RECHUNK_TYPE, predicate, key.signer)
    assert "nothing that a trusted indexer signed says that its files are those of" in reasons(made)
    assert "nothing that a trusted indexer signed says what both roots hold" in reasons(made, SAME)


def test_a_record_that_names_no_tree_or_that_nobody_trusts_counts_for_nothing(
    origin: Candidate, made: Candidate, key: Key, other_key: Key
) -> None:
    attest_derivation(made.place, made.top, record(origin, made, format=RECHUNKED), key.signer)
    told = roots(origin, made)
    bare = tuple(msgspec.structs.replace(each, tree="", origin_tree="") for each in told.platforms)
    attest_rechunk(made.place, made.top, msgspec.structs.replace(told, platforms=bare), key.signer)
    attest_rechunk(made.place, made.top, told, other_key.signer)
    for policy in (PROVEN, SAME):
        assert "nothing that a trusted indexer signed" in reasons(made, policy)


def test_another_start_command_is_seen_whatever_the_records_say(origin: Candidate, key: Key) -> None:
    restarted = regrouped(origin, config={"Cmd": ["evil"]})
    attest_derivation(restarted.place, restarted.top, record(origin, restarted, format=RECHUNKED), key.signer)
    attest_rechunk(restarted.place, restarted.top, roots(origin, restarted), key.signer)
    assert "its config says other things than that of" in reasons(restarted)


def test_what_was_rechunked_and_then_converted_has_the_provenance_of_what_was_pushed(
    origin: Candidate, made: Candidate, key: Key
) -> None:
    converted = convert(made, "rechunked-soci-v2")
    attest_derivation(converted.place, converted.top, record(made, converted), key.signer)
    assert f"no provenance of the origin {made.top.digest} is signed by a trusted key" in reasons(converted)
    attest_derivation(made.place, made.top, record(origin, made, format=RECHUNKED), key.signer)
    assert "nothing that a trusted indexer signed says that its files are those of" in reasons(converted)
    attest_rechunk(made.place, made.top, roots(origin, made), key.signer)
    verdict = judged(converted)
    assert (
        verdict.allow
        and f"that of {origin.top.digest}, which it was made of (rechunked and soci-v2)" in (verdict.notes[0])
    )
    kinds = [item.predicate_type for item in verdict.evidence]
    assert kinds.count("urn:registry-pipelines:derivation:v1") == 2 and kinds.count(RECHUNK_TYPE) == 1
    same = judged(converted, SAME)
    assert same.allow and len(same.notes) == 2 and all(str(TREE) in note for note in same.notes)
    # Derivations in a circle, signed by a stolen key, lead nowhere and end.
    loop = convert(converted, "loop")
    attest_derivation(loop.place, loop.top, record(loop, loop), key.signer)
    assert "no provenance of the origin" in reasons(loop)


def test_same_tree_asks_nothing_of_an_image_that_was_not_rechunked(origin: Candidate) -> None:
    assert judged(origin, SAME).allow


def test_layers_that_say_that_they_were_rechunked_want_a_record(origin: Candidate, made: Candidate) -> None:
    """Pushed as if a team's CI had made it: no record at all."""
    said = reasons(made, SAME)
    assert f"linux/amd64 ({made.children[0].digest}) was rechunked, and nothing that a trusted indexer signed" in said


def test_files_that_were_left_out_are_named(origin: Candidate, made: Candidate, key: Key) -> None:
    attest_derivation(made.place, made.top, record(origin, made, format=RECHUNKED), key.signer)
    told = roots(origin, made)
    dropped = (DroppedFiles(why="pip-cache", files=2, bytes=2048, paths=("root/.cache/pip/a",)),)
    less = tuple(msgspec.structs.replace(each, origin_tree=OTHER, dropped=dropped) for each in told.platforms)
    attest_rechunk(made.place, made.top, msgspec.structs.replace(told, platforms=less), key.signer)
    assert judged(made).allow  # its provenance is what it was
    said = reasons(made, SAME)
    assert f"has not all files of {origin.children[0].digest}: left out 2 files of 2.0 KiB (pip-cache)" in said


def test_records_that_were_copied_to_another_image_count_for_nothing(
    origin: Candidate, made: Candidate, key: Key
) -> None:
    attest_derivation(made.place, made.top, record(origin, made, format=RECHUNKED), key.signer)
    attest_rechunk(made.place, made.top, roots(origin, made), key.signer)
    assert judged(made).allow and judged(made, SAME).allow
    other = copied_evidence(made)
    assert not judged(other).allow
    assert "nothing that a trusted indexer signed says what both roots hold" in reasons(other, SAME)


@pytest.mark.parametrize("role", [role for role in ROLES if role != "indexer"])
def test_a_record_of_both_roots_by_the_key_of_another_role_is_not_believed(
    origin: Candidate, made: Candidate, key: Key, make_key: Callable[[str], Key], role: Any
) -> None:
    split = load_verifier([key.public], {role: [make_key(role).public], "indexer": [make_key("indexer").public]})
    attest_derivation(made.place, made.top, record(origin, made, format=RECHUNKED), make_key("indexer").signer)
    attest_rechunk(made.place, made.top, roots(origin, made), make_key(role).signer)
    verdict = judge(made.place, made.top, SAME, split, image="app", now=NOW)
    assert not verdict.allow and "nothing that a trusted indexer signed" in verdict.reasons[0]


def test_a_record_whose_trees_differ_is_not_the_same_tree_whatever_else_it_says(
    origin: Candidate, made: Candidate, key: Key
) -> None:
    attest_derivation(made.place, made.top, record(origin, made, format=RECHUNKED), key.signer)
    told = roots(origin, made)
    for changes in ({"tree": str(OTHER)}, {"origin_tree": ""}, {"origin_tree": "", "tree": ""}):
        lies = tuple(msgspec.structs.replace(each, **changes) for each in told.platforms)
        attest_rechunk(made.place, made.top, msgspec.structs.replace(told, platforms=lies), key.signer)
        assert not judged(made, SAME).allow
