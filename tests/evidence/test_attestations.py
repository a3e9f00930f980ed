"""Attestations: written once, read from bundles and the ``.att`` tag, believed for the signed type and subject only."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.evidence.attestations import attest, attest_once, attest_statement, read_attestations
from registry_pipelines.evidence.bounds import MAX_BUNDLE_BYTES, MAX_SIGNATURES
from registry_pipelines.evidence.bundles import write_bundle
from registry_pipelines.evidence.dsse import Envelope, sign_envelope, write_envelope
from registry_pipelines.evidence.statements import write_statement
from registry_pipelines.evidence.tagged import append_layer, cosign_tag
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    Descriptor,
    Index,
    Manifest,
    ManifestBytes,
    artifact_manifest,
    manifest_bytes,
)
from registry_pipelines.oci.media_types import DSSE_ENVELOPE, SIGSTORE_BUNDLE
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from tests.evidence.parts import Counted, Key, Listing, push_image

PROVENANCE = "https://slsa.dev/provenance/v1"
BOM = "https://cyclonedx.org/bom"


def attach_bundle(place: Place, subject: Descriptor, content: bytes, media_type: str = SIGSTORE_BUNDLE) -> Descriptor:
    return attach(place, subject=subject, artifact_type=SIGSTORE_BUNDLE, content=content, media_type=media_type)


@pytest.mark.peer("docker-registry")
def test_what_is_attested_is_read_back(any_place: Place, key: Key) -> None:
    image = push_image(any_place)
    predicate = {"buildDefinition": {"n": 1, "none": None, "list": [1.5, "é"]}}
    made = attest(any_place, image, PROVENANCE, predicate, key.signer)
    attest(any_place, image, BOM, {"bomFormat": "CycloneDX"}, key.signer)
    found = read_attestations(any_place, image.digest, key.verifier, predicate_type=PROVENANCE)
    assert [(item.predicate, item.subjects, item.key_id) for item in found.verified] == [
        (predicate, (image.digest,), key.signer.key_id)
    ]
    assert found.verified[0].descriptor.digest == made.digest
    assert found.rejected == ()
    everything = read_attestations(any_place, image.digest, key.verifier)
    assert {item.predicate_type for item in everything.verified} == {PROVENANCE, BOM}


def test_the_referrer_is_what_cosign_3_writes(place: Place, image: Descriptor, key: Key) -> None:
    made = attest(place, image, PROVENANCE, {}, key.signer)
    manifest = json.loads(place.registry.get_manifest(place.repository, made.digest).raw)
    created = manifest["annotations"].pop("org.opencontainers.image.created")
    assert created.endswith("Z")
    assert manifest["annotations"] == {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": PROVENANCE,
    }
    assert (manifest["artifactType"], manifest["layers"][0]["mediaType"]) == (SIGSTORE_BUNDLE, SIGSTORE_BUNDLE)
    assert manifest["config"]["mediaType"] == media_types.OCI_EMPTY
    assert manifest["subject"]["digest"] == image.digest


def test_attesting_again_writes_nothing(counted: Counted, key: Key, other_key: Key) -> None:
    image = push_image(counted.place)
    first = attest_once(counted.place, image, PROVENANCE, {"a": 1}, key.signer, att_tag=True)
    before = counted.files()
    again = attest_once(counted.place, image, PROVENANCE, {"a": 1}, key.signer, att_tag=True)
    assert (first.changed, again.changed, again.descriptor) == (True, False, first.descriptor)
    assert counted.files() == before
    for signer, predicate in ((key.signer, {"a": 2}), (other_key.signer, {"a": 1})):
        assert attest_once(counted.place, image, PROVENANCE, predicate, signer).changed


def test_an_attestation_under_the_tag_alone_is_no_bundle(place: Place, image: Descriptor, key: Key) -> None:
    envelope = sign_envelope(write_statement(PROVENANCE, {"a": 1}, subjects=[image.digest], name="app"), key.signer)
    tag = cosign_tag(image.digest, "att")
    append_layer(place, tag, write_envelope(envelope), media_type=DSSE_ENVELOPE, annotations={})
    found = read_attestations(place, image.digest, key.verifier)
    assert [item.predicate for item in found.verified] == [{"a": 1}]
    assert attest_once(place, image, PROVENANCE, {"a": 1}, key.signer).changed


def test_the_tag_can_be_added_later(counted: Counted, key: Key) -> None:
    image = push_image(counted.place)
    first = attest_once(counted.place, image, PROVENANCE, {"a": 1}, key.signer)
    added = attest_once(counted.place, image, PROVENANCE, {"a": 1}, key.signer, att_tag=True)
    assert (added.changed, added.descriptor) == (True, first.descriptor)
    assert len(read_attestations(counted.place, image.digest, key.verifier).verified) == 2
    assert not attest_once(counted.place, image, PROVENANCE, {"a": 1}, key.signer, att_tag=True).changed


def test_a_statement_is_signed_byte_for_byte(place: Place, image: Descriptor, key: Key) -> None:
    statement = write_statement(PROVENANCE, {"z": 1, "a": 2}, subjects=[image.digest], name="x").replace(b":", b" : ")
    attest_statement(place, image, statement.replace(b" : //", b"://").replace(b"sha256 : ", b"sha256:"), key.signer)
    verified = read_attestations(place, image.digest, key.verifier).verified
    assert list(verified[0].predicate) == ["z", "a"]


@pytest.mark.parametrize("raw", [b"", b"{}", write_statement(PROVENANCE, {}, subjects=[Digest.of(b"x")], name="x")])
def test_only_a_statement_about_the_subject_is_signed(counted: Counted, key: Key, raw: bytes) -> None:
    image = push_image(counted.place)
    before = counted.files()
    with pytest.raises(SignatureInvalid):
        attest_statement(counted.place, image, raw, key.signer)
    assert counted.files() == before


def test_a_statement_readers_would_refuse_is_not_written(place: Place, image: Descriptor, key: Key) -> None:
    with pytest.raises(InputError, match="can be attested"):
        attest(place, image, BOM, {"x": "y" * (MAX_BUNDLE_BYTES // 2)}, key.signer)


def _statement(digest: Digest, kind: str = PROVENANCE) -> bytes:
    return write_statement(kind, {}, subjects=[digest], name="app")


BAD_BUNDLES: dict[str, tuple[Callable[[Digest, Key, Key], bytes], str]] = {
    "unknown key": (
        lambda digest, key, other: write_bundle(
            sign_envelope(_statement(digest), other.signer), key_id=key.signer.key_id
        ),
        "none of its 1 signature",
    ),
    "tampered payload": (
        lambda digest, key, other: write_bundle(
            Envelope(
                media_types.IN_TOTO, _statement(digest, BOM), sign_envelope(_statement(digest), key.signer).signatures
            ),
            key_id=key.signer.key_id,
        ),
        "none of its 1 signature",
    ),
    "other subject": (
        lambda digest, key, other: write_bundle(
            sign_envelope(_statement(Digest.of(b"other")), key.signer), key_id=key.signer.key_id
        ),
        "not about",
    ),
    "other payload type": (
        lambda digest, key, other: write_bundle(
            sign_envelope(_statement(digest), key.signer, payload_type="text/plain"), key_id=key.signer.key_id
        ),
        "payload type is 'text/plain'",
    ),
    "signed, but not a statement": (
        lambda digest, key, other: write_bundle(sign_envelope(b"[]", key.signer), key_id=key.signer.key_id),
        "statement is not valid",
    ),
    "not a bundle": (lambda digest, key, other: b"garbage", "Sigstore bundle is not valid"),
}


@pytest.mark.parametrize("fault", BAD_BUNDLES)
def test_a_bad_bundle_is_refused_and_hides_no_good_one(
    place: Place, image: Descriptor, key: Key, other_key: Key, fault: str
) -> None:
    make, reason = BAD_BUNDLES[fault]
    bad = attach_bundle(place, image, make(image.digest, key, other_key))
    good = attest(place, image, PROVENANCE, {}, key.signer)
    found = read_attestations(place, image.digest, key.verifier)
    assert [item.descriptor.digest for item in found.verified] == [good.digest]
    assert [item.where for item in found.rejected] == [bad.digest]
    assert reason in found.rejected[0].reason


def test_the_annotation_does_not_decide_the_type(place: Place, image: Descriptor, key: Key) -> None:
    bundle = write_bundle(sign_envelope(_statement(image.digest, BOM), key.signer), key_id=key.signer.key_id)
    attach(
        place,
        subject=image,
        artifact_type=SIGSTORE_BUNDLE,
        content=bundle,
        media_type=SIGSTORE_BUNDLE,
        annotations={"dev.sigstore.bundle.predicateType": PROVENANCE},
    )
    assert read_attestations(place, image.digest, key.verifier, predicate_type=PROVENANCE).verified == ()
    assert len(read_attestations(place, image.digest, key.verifier, predicate_type=BOM).verified) == 1


def test_a_bundle_manifest_must_have_one_layer_of_the_type(place: Place, image: Descriptor, key: Key) -> None:
    attach_bundle(place, image, b"{}", media_type="text/plain")
    blob = push_blob(place, b"{}", media_type=SIGSTORE_BUNDLE)
    push_blob(place, b"{}", media_type=media_types.OCI_EMPTY)
    two = artifact_manifest(artifact_type="text/plain", layers=[blob, blob], subject=image)
    place.registry.put_manifest(place.repository, two)
    found = read_attestations(place, image.digest, key.verifier)
    assert found.verified == ()
    assert ["exactly one layer" in item.reason for item in found.rejected] == [True, True]


def test_too_large_a_bundle_is_not_fetched(place: Place, image: Descriptor, key: Key) -> None:
    push_blob(place, b"{}", media_type=media_types.OCI_EMPTY)
    real = push_blob(place, b"x", media_type=SIGSTORE_BUNDLE)
    huge = Descriptor(media_type=SIGSTORE_BUNDLE, digest=real.digest, size=MAX_BUNDLE_BYTES + 1)
    manifest = artifact_manifest(artifact_type=SIGSTORE_BUNDLE, layers=[huge], subject=image)
    place.registry.put_manifest(place.repository, manifest)
    found = read_attestations(place, image.digest, key.verifier)
    assert "at most 33554432 are read" in found.rejected[0].reason


def test_an_artifact_without_artifact_type_is_found_by_its_layer(place: Place, image: Descriptor, key: Key) -> None:
    bundle = write_bundle(sign_envelope(_statement(image.digest), key.signer), key_id=key.signer.key_id)
    layer = push_blob(place, bundle, media_type=SIGSTORE_BUNDLE)
    config = push_blob(place, b"{}", media_type=media_types.OCI_EMPTY)
    manifest = manifest_bytes(
        Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=(layer,), subject=image)
    )
    place.registry.put_manifest(place.repository, manifest)
    assert len(read_attestations(place, image.digest, key.verifier).verified) == 1


def test_a_wrong_list_of_referrers_hides_nothing(place: Place, image: Descriptor, key: Key) -> None:
    good = attest(place, image, PROVENANCE, {}, key.signer)
    elsewhere = attest(place, push_image(place, "other"), PROVENANCE, {}, key.signer)
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=()))
    place.registry.put_manifest(place.repository, index)
    gone = ManifestBytes(b"gone", media_types.OCI_MANIFEST, Digest.of(b"gone")).descriptor
    lying = Place(Listing(place, [gone, index.descriptor, elsewhere, image]), place.repository)
    found = read_attestations(lying, image.digest, key.verifier)
    assert [item.descriptor.digest for item in found.verified] == [good.digest]
    assert [item.where for item in found.rejected] == [gone.digest, index.digest, elsewhere.digest, image.digest]
    assert "is an index" in found.rejected[1].reason
    assert "`subject` is not" in found.rejected[2].reason


def test_bad_layers_under_the_att_tag_are_reasons(place: Place, image: Descriptor, key: Key, other_key: Key) -> None:
    tag = cosign_tag(image.digest, "att")
    good = write_envelope(sign_envelope(_statement(image.digest), key.signer))
    theirs = write_envelope(sign_envelope(_statement(image.digest), other_key.signer))
    for content, media_type in (
        (good, "text/plain"),
        (theirs, DSSE_ENVELOPE),
        (b"{", DSSE_ENVELOPE),
        (good, DSSE_ENVELOPE),
    ):
        append_layer(place, tag, content, media_type=media_type, annotations={})
    found = read_attestations(place, image.digest, key.verifier)
    assert len(found.verified) == 1
    reasons = [item.reason for item in found.rejected]
    assert [text in reason for text, reason in zip(("text/plain", "none of its", "not valid"), reasons, strict=True)]


def test_att_layers_beyond_the_limit_or_size_are_unread(place: Place, image: Descriptor, key: Key) -> None:
    config = push_blob(place, b"{}", media_type=media_types.OCI_CONFIG)
    huge = Descriptor(media_type=DSSE_ENVELOPE, digest=config.digest, size=MAX_BUNDLE_BYTES + 1)
    manifest = Manifest(
        schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=(huge,) * (MAX_SIGNATURES + 1)
    )
    place.registry.put_manifest(place.repository, manifest_bytes(manifest), tag=cosign_tag(image.digest, "att"))
    found = read_attestations(place, image.digest, key.verifier)
    assert "at most" in found.rejected[0].reason
    assert "only the first 256" in found.rejected[-1].reason
    assert str(found.rejected[-1]).startswith(cosign_tag(image.digest, "att"))
