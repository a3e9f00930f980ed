"""Somebody who may push, and has no trusted key, against a trust policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from registry_pipelines.evidence import attestations, referrers
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.evidence.attestations import attest
from registry_pipelines.evidence.attestors import AttestorFiles
from registry_pipelines.evidence.bundles import write_bundle
from registry_pipelines.evidence.dsse import Envelope, pae, sign_envelope
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.evidence.predicates import CYCLONEDX_TYPE, PROVENANCE_TYPE, SIGNATURE_TYPE
from registry_pipelines.evidence.statements import write_statement
from registry_pipelines.evidence.tagged import cosign_tag
from registry_pipelines.oci.manifests import Descriptor, artifact_manifest
from registry_pipelines.oci.media_types import IN_TOTO, SIGSTORE_BUNDLE
from registry_pipelines.promote.documents import DEFAULT_POLICY, Verdict
from registry_pipelines.promote.judge import judge
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.protocol import Place
from tests.evidence.parts import Key
from tests.promote.parts import NOW, PROVENANCE, Candidate, candidate

MakeKey = Callable[[str], Key]
POLICY = msgspec.structs.replace(DEFAULT_POLICY, attestors="build-system")


@pytest.fixture
def build_system(make_key: MakeKey) -> Key:
    return make_key("build-system")


@pytest.fixture
def release(good: Candidate, build_system: Key) -> Candidate:
    """Whole, but for the word of the build system."""
    attestors = {"build-system": AttestorFiles(["provenance"], [build_system.public])}
    good.key = replace(good.key, verifier=load_verifier([good.key.public], attestors=attestors))
    return good


def verdict(item: Candidate) -> Verdict:
    return judge(item.place, item.top, POLICY, item.key.verifier, image="app", now=NOW)


def vouch(item: Candidate, key: Key) -> Descriptor:
    return attest(item.place, item.top, PROVENANCE_TYPE, PROVENANCE, key.signer)


def attach_bundle(item: Candidate, content: bytes, annotations: dict[str, str] | None = None) -> Descriptor:
    return attach(
        item.place,
        subject=item.top,
        artifact_type=SIGSTORE_BUNDLE,
        content=content,
        media_type=SIGSTORE_BUNDLE,
        annotations=annotations,
    )


def signed_statement(kind: str, key: Key, *subjects: Descriptor, **changes: Any) -> bytes:
    """A bundle with a statement; changes: fields of the statement that are written otherwise."""
    raw = write_statement(kind, PROVENANCE, subjects=[each.digest for each in subjects], name="app")
    raw = json.dumps({**json.loads(raw), **changes}).encode()
    return write_bundle(sign_envelope(raw, key.signer), key_id=key.signer.key_id)


def refused(item: Candidate) -> str:
    """Why, after it was seen that the release is denied for want of the build system's word alone."""
    said = verdict(item)
    assert not said.allow
    assert {reason.partition(":")[0] for reason in said.reasons} == {"attestor build-system", "SLSA provenance"}
    return " ".join(said.notes)


def test_the_word_of_the_build_system_is_enough(release: Candidate, build_system: Key) -> None:
    refused(release)
    vouch(release, build_system)
    assert verdict(release).allow


def test_a_type_that_only_an_annotation_says_is_none(release: Candidate, build_system: Key) -> None:
    """The build system signed something else; nobody signs annotations (GHSA-w6c6-c85g-mmv6)."""
    content = signed_statement("https://example.com/licences/v1", build_system, release.top)
    attach_bundle(release, content, {"dev.sigstore.bundle.predicateType": PROVENANCE_TYPE})
    assert "no role's" in refused(release) or "not as" in refused(release)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"_type": "https://in-toto.io/Statement/v9"}, "not an in-toto statement"),
        ({"predicateType": CYCLONEDX_TYPE}, "not as scanner"),
        ({"predicateType": SIGNATURE_TYPE}, "not as person"),
        ({"predicateType": f"{PROVENANCE_TYPE}/"}, "no role's"),
        ({"predicateType": PROVENANCE_TYPE.upper()}, "no role's"),
        ({"subject": []}, "about nothing in a registry"),
        ({"subject": [{"name": "app", "digest": {"sha1": "00"}}]}, "about nothing in a registry"),
        ({"predicate": None}, "not valid"),
    ],
)
def test_a_statement_of_another_type_or_form_is_not_believed(
    release: Candidate, build_system: Key, changes: dict[str, Any], said: str
) -> None:
    attach_bundle(release, signed_statement(PROVENANCE_TYPE, build_system, release.top, **changes))
    assert said in refused(release)
    vouch(release, build_system)
    assert verdict(release).allow  # and it hides no good one


def test_a_payload_of_another_type_is_not_believed(release: Candidate, build_system: Key) -> None:
    """DSSE signs the type of its payload: what was signed as something else is no statement."""
    raw = write_statement(PROVENANCE_TYPE, PROVENANCE, subjects=[release.top.digest], name="app")
    other = sign_envelope(raw, build_system.signer, payload_type="application/x-notes")
    attach_bundle(release, write_bundle(other, key_id=build_system.signer.key_id))
    relabelled = Envelope(IN_TOTO, raw, other.signatures)
    attach_bundle(release, write_bundle(relabelled, key_id=build_system.signer.key_id))
    notes = refused(release)
    assert "the payload type is 'application/x-notes'" in notes
    assert "none of its 1 signature was made by a trusted key" in notes


def test_a_swapped_statement_of_another_release_is_not_believed(
    release: Candidate, build_system: Key, place: Place
) -> None:
    """Its bundle is pushed again as a referrer of this release, byte for byte."""
    other = candidate(place, release.key, "other")
    bundle = vouch(other, build_system)
    manifest = place.registry.get_manifest(place.repository, bundle.digest).content()
    attach_bundle(release, read_blob(place, manifest.layers[0], limit=1 << 20))  # type: ignore[union-attr]
    assert f"is about {other.top.digest.short}" in refused(release)


def test_a_changed_statement_is_not_believed(release: Candidate, build_system: Key) -> None:
    raw = write_statement(PROVENANCE_TYPE, PROVENANCE, subjects=[release.top.digest], name="app")
    [signature] = sign_envelope(raw, build_system.signer).signatures
    forged = raw.replace(b"urn:y", b"urn:z")
    assert forged != raw
    attach_bundle(release, write_bundle(Envelope(IN_TOTO, forged, (signature,)), key_id=build_system.signer.key_id))
    assert "was made by a trusted key" in refused(release)


def test_a_key_id_that_only_the_envelope_names_is_not_believed(release: Candidate, build_system: Key) -> None:
    """The hint of a bundle and the key id of an envelope are unsigned."""
    raw = write_statement(PROVENANCE_TYPE, PROVENANCE, subjects=[release.top.digest], name="app")
    stranger = b"0" * 70
    attach_bundle(release, write_bundle(Envelope(IN_TOTO, raw, (stranger,)), key_id=build_system.signer.key_id))
    assert "was made by a trusted key" in refused(release)


def test_a_good_signature_behind_bad_ones_counts(release: Candidate, build_system: Key, other_key: Key) -> None:
    raw = write_statement(PROVENANCE_TYPE, PROVENANCE, subjects=[release.top.digest], name="app")
    signed = pae(IN_TOTO, raw)
    signatures = (b"", b"0" * 4000, other_key.signer.sign(signed), build_system.signer.sign(signed))
    attach_bundle(release, write_bundle(Envelope(IN_TOTO, raw, signatures), key_id=other_key.signer.key_id))
    assert verdict(release).allow


def test_referrers_that_are_stripped_leave_nothing_to_believe(release: Candidate, build_system: Key) -> None:
    bundle = vouch(release, build_system)
    assert verdict(release).allow
    release.place.registry.delete_manifest(release.place.repository, bundle.digest)
    refused(release)
    every = release.place.registry.referrers(release.place.repository, release.top.digest)
    for referrer in every:
        release.place.registry.delete_manifest(release.place.repository, referrer.digest)
    release.place.registry.delete_tag(release.place.repository, cosign_tag(release.top.digest, "sig"))
    said = verdict(release)
    missing = {"attestor build-system", "SLSA provenance", "CycloneDX SBOM", "vulnerability report", "signature"}
    assert {reason.partition(":")[0] for reason in said.reasons} == missing | {"advisories"}


def test_a_flood_of_referrers_stops_a_release_and_ships_none(
    release: Candidate, build_system: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the bound the good one is found wherever it stands; beyond it nothing is decided."""
    place = release.place
    there = len(place.registry.referrers(place.repository, release.top.digest))
    monkeypatch.setattr(referrers, "MAX_REFERRERS", there + 21)
    for number in range(20):
        attach_bundle(release, b"noise %d" % number)
    vouch(release, build_system)
    assert verdict(release).allow
    attach_bundle(release, b"one more")
    said = verdict(release)
    assert [reason.partition(",")[0] for reason in said.reasons] == [f"release: {there + 22} referrers are listed"]


def test_many_manifests_of_one_large_blob_stop_a_release_and_ship_none(
    release: Candidate, build_system: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob is pushed once, and every manifest that carries it would have it read again."""
    monkeypatch.setattr(attestations, "MAX_ATTESTATION_BYTES", 1_000_000)
    noise = b"0" * 99_000
    for number in range(9):
        attach_bundle(release, noise, {"number": str(number)})
    vouch(release, build_system)
    assert verdict(release).allow
    for number in range(9, 12):
        attach_bundle(release, noise, {"number": str(number)})
    [reason] = verdict(release).reasons
    assert reason.startswith("release: its attestations have more than 1000000 bytes together")


def test_odd_referrers_hide_no_good_one(release: Candidate, build_system: Key) -> None:
    """No layer, two layers, a layer that is not there, one that is too large, one of another type."""
    place = release.place
    layer = push_blob(place, b"{}", media_type=SIGSTORE_BUNDLE)
    gone = msgspec.structs.replace(layer, digest=release.top.digest)
    large = msgspec.structs.replace(layer, size=1 << 40)
    push_blob(place, b"{}", media_type="application/vnd.oci.empty.v1+json")
    for number, layers in enumerate(([], [layer, layer], [gone], [large], [layer])):
        odd = artifact_manifest(
            artifact_type=SIGSTORE_BUNDLE, layers=layers, subject=release.top, annotations={"n": str(number)}
        )
        place.registry.put_manifest(place.repository, odd)
    vouch(release, build_system)
    assert verdict(release).allow


def test_platforms_that_nobody_vouched_for_are_named(release: Candidate, build_system: Key) -> None:
    amd64, arm64 = release.children
    attach_bundle(release, signed_statement(PROVENANCE_TYPE, build_system, release.top, amd64))
    said = verdict(release)
    assert f"attestor build-system: its provenance does not cover linux/arm64 ({arm64.digest})" in said.reasons
    attach_bundle(release, signed_statement(PROVENANCE_TYPE, build_system, release.top, arm64))
    assert verdict(release).allow


def test_provenance_of_a_platform_alone_is_none_of_the_release(release: Candidate, build_system: Key) -> None:
    """A child's own referrer says nothing about the index that was promoted."""
    for child in release.children:
        attest(release.place, child, PROVENANCE_TYPE, PROVENANCE, build_system.signer)
    refused(release)
