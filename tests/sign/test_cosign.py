"""Image signatures: both forms, kept beside those of others, written once, believed only for the exact digest."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from registry_pipelines.errors import ClosureIncomplete, EvidenceMissing, ManifestInvalid, SignatureInvalid, Unavailable
from registry_pipelines.evidence import referrers, tagged
from registry_pipelines.evidence.attestations import attest
from registry_pipelines.evidence.bounds import MAX_PAYLOAD_BYTES, MAX_SIGNATURES
from registry_pipelines.evidence.predicates import SIGNATURE_TYPE
from registry_pipelines.evidence.tagged import SIGNATURE_ANNOTATION, append_layer, cosign_tag
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.sign.cosign import sign_image, verify_image, write_payload
from tests.evidence.parts import Counted, Key, push_image, push_index


def sig_layers(place: Place, digest: Digest) -> tuple[Descriptor, ...]:
    content = place.registry.get_manifest(place.repository, cosign_tag(digest, "sig")).content()
    assert isinstance(content, Manifest)
    return content.layers


def put_sig(place: Place, digest: Digest, layers: list[Descriptor]) -> None:
    """Replace the signatures under the tag, as whoever may push could."""
    config = push_blob(place, b"{}", media_type=media_types.OCI_CONFIG)
    manifest = manifest_bytes(
        Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=tuple(layers))
    )
    place.registry.put_manifest(place.repository, manifest, tag=cosign_tag(digest, "sig"))


def sig_layer(
    place: Place, payload: bytes, signature: bytes, media_type: str = media_types.SIMPLE_SIGNING
) -> Descriptor:
    pushed = push_blob(place, payload, media_type=media_type)
    annotations = {SIGNATURE_ANNOTATION: base64.b64encode(signature).decode()}
    return Descriptor(media_type=media_type, digest=pushed.digest, size=pushed.size, annotations=annotations)


@pytest.mark.peer("docker-registry")
def test_a_signature_is_found_in_both_forms(any_place: Place, key: Key) -> None:
    image = push_image(any_place)
    signed = sign_image(any_place, image, key.signer, identity="reg.example/app")
    found = verify_image(any_place, image.digest, key.verifier)
    assert signed.changed
    assert {item.form: item.descriptor.digest for item in found.signatures} == {
        "sig": signed.sig.digest,
        "bundle": signed.bundle.digest,
    }
    assert [item.identity for item in found.signatures] == ["reg.example/app", ""]
    assert {item.key_id for item in found.signatures} == {key.signer.key_id}
    assert found.rejected == ()


def test_signing_again_writes_nothing(counted: Counted, key: Key) -> None:
    image = push_image(counted.place)
    unsigned = counted.files()
    first = sign_image(counted.place, image, key.signer, identity="app")
    before = counted.files()
    assert before != unsigned
    again = sign_image(counted.place, image, key.signer, identity="app")
    assert (again.sig, again.bundle, again.changed) == (first.sig, first.bundle, False)
    assert counted.files() == before


def test_an_index_is_signed_by_its_own_digest(place: Place, key: Key) -> None:
    index, children = push_index(place)
    sign_image(place, index, key.signer, identity="app")
    assert verify_image(place, index.digest, key.verifier).signatures
    with pytest.raises(EvidenceMissing, match="not signed"):
        verify_image(place, children[0].digest, key.verifier)


def test_signatures_of_others_stay(place: Place, image: Descriptor, key: Key, other_key: Key) -> None:
    sign_image(place, image, other_key.signer, identity="app")
    before = sig_layers(place, image.digest)
    sign_image(place, image, key.signer, identity="app")
    assert sig_layers(place, image.digest)[:1] == before
    assert len(sig_layers(place, image.digest)) == 2
    for item in (key, other_key):
        found = verify_image(place, image.digest, item.verifier)
        assert {signature.key_id for signature in found.signatures} == {item.signer.key_id}
        assert len(found.rejected) == 2


def test_unknown_fields_of_a_foreign_manifest_stay(place: Place, image: Descriptor, key: Key) -> None:
    put_sig(place, image.digest, [sig_layer(place, b"theirs", b"sig")])
    stored = place.registry.get_manifest(place.repository, cosign_tag(image.digest, "sig"))
    document = {**json.loads(stored.raw), "annotations": {"a": "b"}, "com.example": 1}
    raw = json.dumps(document).encode()
    extended = ManifestBytes(raw, media_types.OCI_MANIFEST, Digest.of(raw))
    place.registry.put_manifest(place.repository, extended, tag=cosign_tag(image.digest, "sig"))
    sign_image(place, image, key.signer, identity="app")
    now = json.loads(place.registry.get_manifest(place.repository, cosign_tag(image.digest, "sig")).raw)
    assert (now["annotations"], now["com.example"]) == ({"a": "b"}, 1)
    assert now["layers"][0] == document["layers"][0]


def test_writers_of_one_process_lose_nothing(place: Place, image: Descriptor, make_key: Callable[[str], Key]) -> None:
    keys = [make_key(f"writer {number}") for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda item: sign_image(place, image, item.signer, identity="app"), keys))
    assert len(sig_layers(place, image.digest)) == 6
    for item in keys:
        assert len(verify_image(place, image.digest, item.verifier).signatures) == 2


class Rival:
    """A registry on which another program replaces the tag after each of our writes, so many times."""

    def __init__(self, place: Place, tag: str, rival: ManifestBytes, times: int) -> None:
        self._registry, self._place, self._tag, self._rival, self.times = place.registry, place, tag, rival, times
        self.name = place.registry.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        self._registry.put_manifest(repository, manifest, tag=tag)
        if tag == self._tag and self.times:
            self.times -= 1
            self._registry.put_manifest(repository, self._rival, tag=tag)


@pytest.mark.parametrize(("times", "wins"), [(2, True), (tagged.ATTEMPTS, False)])
def test_a_signature_that_another_program_overwrote_is_written_again(
    place: Place, image: Descriptor, key: Key, times: int, wins: bool
) -> None:
    put_sig(place, image.digest, [sig_layer(place, b"theirs", b"sig")])
    tag = cosign_tag(image.digest, "sig")
    rival = Rival(place, tag, place.registry.get_manifest(place.repository, tag), times)
    contested = Place(rival, place.repository)
    if wins:
        sign_image(contested, image, key.signer, identity="app")
        assert len(sig_layers(place, image.digest)) == 2
    else:
        with pytest.raises(Unavailable, match="was lost 5 times"):
            sign_image(contested, image, key.signer, identity="app")


def test_an_unsigned_image_is_told_from_a_badly_signed_one(
    place: Place, image: Descriptor, key: Key, other_key: Key
) -> None:
    with pytest.raises(EvidenceMissing, match="not signed"):
        verify_image(place, image.digest, key.verifier)
    sign_image(place, image, other_key.signer, identity="app")
    with pytest.raises(SignatureInvalid, match="no trusted key made this signature") as caught:
        verify_image(place, image.digest, key.verifier)
    assert "none of its 1 signature was made by a trusted key" in str(caught.value)


def test_an_attestation_is_not_a_signature(place: Place, image: Descriptor, key: Key) -> None:
    """cosign 3.1.1 `verify` takes any bundle for a signature (GHSA-w6c6-c85g-mmv6 fixed only verify-attestation)."""
    attest(place, image, "https://slsa.dev/provenance/v1", {}, key.signer)
    with pytest.raises(EvidenceMissing, match="not signed"):
        verify_image(place, image.digest, key.verifier)


def test_a_signature_moved_to_another_image_is_refused(place: Place, image: Descriptor, key: Key) -> None:
    sign_image(place, image, key.signer, identity="app")
    evil = push_image(place, "evil")
    put_sig(place, evil.digest, list(sig_layers(place, image.digest)))
    with pytest.raises(SignatureInvalid, match="the signature is over"):
        verify_image(place, evil.digest, key.verifier)


BAD_LAYERS: dict[str, tuple[Callable[[Place, Digest, Key], Descriptor], str]] = {
    "other media type": (
        lambda place, digest, key: sig_layer(
            place, write_payload(digest, "a"), key.signer.sign(write_payload(digest, "a")), "text/plain"
        ),
        "the layer is text/plain",
    ),
    "tampered payload": (
        lambda place, digest, key: sig_layer(
            place, write_payload(digest, "b"), key.signer.sign(write_payload(digest, "a"))
        ),
        "no trusted key",
    ),
    "not base64": (
        lambda place, digest, key: Descriptor(
            media_type=media_types.SIMPLE_SIGNING,
            digest=push_blob(place, b"x", media_type="a/b").digest,
            size=1,
            annotations={SIGNATURE_ANNOTATION: "!"},
        ),
        "not base64",
    ),
    "no annotation": (
        lambda place, digest, key: Descriptor(
            media_type=media_types.SIMPLE_SIGNING, digest=push_blob(place, b"x", media_type="a/b").digest, size=1
        ),
        "no trusted key",
    ),
    "too large": (
        lambda place, digest, key: sig_layer(place, b"x" * (MAX_PAYLOAD_BYTES + 1), b"s"),
        "at most 65536 are read",
    ),
    "signed, but not a payload": (
        lambda place, digest, key: sig_layer(place, b"{}", key.signer.sign(b"{}")),
        "payload is not valid",
    ),
    "signed for Binary Authorization": (
        lambda place, digest, key: (lambda payload: sig_layer(place, payload, key.signer.sign(payload)))(
            write_payload(digest, "a").replace(b"cosign container", b"Google cloud binauthz container")
        ),
        "not cosign's",
    ),
}


@pytest.mark.parametrize("fault", BAD_LAYERS)
def test_a_bad_layer_is_refused_and_hides_no_good_one(place: Place, image: Descriptor, key: Key, fault: str) -> None:
    make, reason = BAD_LAYERS[fault]
    put_sig(place, image.digest, [make(place, image.digest, key)])
    with pytest.raises(SignatureInvalid, match=reason):
        verify_image(place, image.digest, key.verifier)
    sign_image(place, image, key.signer, identity="app")
    found = verify_image(place, image.digest, key.verifier)
    assert [item.form for item in found.signatures] == ["sig", "bundle"]
    assert len(found.rejected) == 1
    assert reason in str(found.rejected[0])


def test_layers_beyond_the_limit_are_said_to_be_unread(place: Place, image: Descriptor, key: Key) -> None:
    junk = sig_layer(place, b"junk", b"sig")
    good = write_payload(image.digest, "app")
    put_sig(place, image.digest, [junk] * MAX_SIGNATURES + [sig_layer(place, good, key.signer.sign(good))])
    with pytest.raises(SignatureInvalid):
        verify_image(place, image.digest, key.verifier)
    attest(place, image, SIGNATURE_TYPE, {}, key.signer)
    found = verify_image(place, image.digest, key.verifier)
    assert [item.form for item in found.signatures] == ["bundle"]
    assert "only the first 256 were read" in found.rejected[-1].reason


def test_a_tag_that_holds_something_else_is_left_alone(place: Place, image: Descriptor, key: Key) -> None:
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=()))
    tag = cosign_tag(image.digest, "sig")
    place.registry.put_manifest(place.repository, index, tag=tag)
    with pytest.raises(ManifestInvalid, match="holds an index"):
        sign_image(place, image, key.signer, identity="app")
    assert place.registry.resolve(place.repository, tag).digest == index.digest
    found = verify_image(place, image.digest, key.verifier)
    assert [item.form for item in found.signatures] == ["bundle"]
    assert "holds an index" in found.rejected[0].reason


def test_a_missing_payload_is_a_reason(counted: Counted, key: Key) -> None:
    place, image = counted.place, push_image(counted.place)
    sign_image(place, image, key.signer, identity="app")
    payload = sig_layers(place, image.digest)[0].digest
    (counted.server.root / place.repository / "blobs" / "sha256" / payload.hex).unlink()
    found = verify_image(place, image.digest, key.verifier)
    assert [item.form for item in found.signatures] == ["bundle"]


def test_an_unreachable_registry_is_not_an_unsigned_image(tmp_path: Any, key: Key) -> None:
    with EmbeddedServer(tmp_path / "gone") as server:
        registry = DistributionRegistry(server.address, retries=Retries(attempts=1))
        place = Place(registry, "team/app")
        image = push_image(place)
        sign_image(place, image, key.signer, identity="app")
    with pytest.raises(Unavailable):
        verify_image(place, image.digest, key.verifier)
    registry.close()


def test_two_layers_with_one_payload_are_two_signatures(place: Place, image: Descriptor) -> None:
    one = append_layer(place, "sha256-x.sig", b"p", media_type=media_types.SIMPLE_SIGNING, annotations={"a": "1"})
    two = append_layer(place, "sha256-x.sig", b"p", media_type=media_types.SIMPLE_SIGNING, annotations={"a": "2"})
    same = append_layer(place, "sha256-x.sig", b"p", media_type=media_types.SIMPLE_SIGNING, annotations={"a": "1"})
    assert one.digest != two.digest == same.digest


def test_of_too_many_referrers_none_is_believed(
    place: Place, image: Descriptor, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        attest(place, image, "https://example.com/x", {"number": number}, key.signer)
    monkeypatch.setattr(referrers, "MAX_REFERRERS", 2)
    with pytest.raises(ClosureIncomplete, match="3 referrers are listed, at most 2 are opened"):
        verify_image(place, image.digest, key.verifier)
