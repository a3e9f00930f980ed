"""Which key is believed for which statement."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.evidence.attestations import attest, attest_once, read_attestations
from registry_pipelines.evidence.bundles import write_bundle
from registry_pipelines.evidence.dsse import Envelope, pae
from registry_pipelines.evidence.keys import KeySet, load_verifier
from registry_pipelines.evidence.predicates import (
    APPROVAL_TYPE,
    BREAK_GLASS_TYPE,
    CLOSING_TYPE,
    CYCLONEDX_TYPE,
    DERIVATION_TYPE,
    HOT_PACK_TYPE,
    LIFTING_TYPE,
    OMS_TYPE,
    PROMOTION_TYPE,
    PROVENANCE_TYPE,
    RECORDING_TYPE,
    REPORT_TYPE,
    REVOCATION_TYPE,
    ROLES,
    SIGNATURE_TYPE,
    STREAMING_INDEX_TYPE,
    VERDICT_TYPE,
    VULNERABILITIES_TYPE,
    Role,
    roles_for,
)
from registry_pipelines.evidence.statements import write_statement
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import IN_TOTO, SIGSTORE_BUNDLE
from registry_pipelines.registry.protocol import Place
from tests.evidence.parts import Counted, Key, push_image

FOREIGN = "https://example.com/licences/v1"
TYPES: dict[str, tuple[Role, ...]] = {
    PROVENANCE_TYPE: ("builder",),
    STREAMING_INDEX_TYPE: ("indexer",),
    HOT_PACK_TYPE: ("indexer",),
    RECORDING_TYPE: ("indexer",),
    DERIVATION_TYPE: ("indexer",),
    CYCLONEDX_TYPE: ("scanner",),
    REPORT_TYPE: ("scanner",),
    VULNERABILITIES_TYPE: ("scanner",),
    SIGNATURE_TYPE: ("person",),
    OMS_TYPE: ("person", "builder"),
    VERDICT_TYPE: ("promoter",),
    PROMOTION_TYPE: ("promoter", "person"),
    APPROVAL_TYPE: ("person",),
    BREAK_GLASS_TYPE: ("person",),
    REVOCATION_TYPE: ("person", "promoter"),
    CLOSING_TYPE: ("person", "promoter"),
    LIFTING_TYPE: ("person",),
    FOREIGN: (),
}
MakeKey = Callable[[str], Key]


def by_role(make_key: MakeKey, general: str = "", roles: tuple[Role, ...] = ROLES) -> KeySet:
    """Keys named after their roles, and one for the rest."""
    return load_verifier(
        [make_key(general).public] if general else [], {role: [make_key(role).public] for role in roles}
    )


@pytest.mark.parametrize("kind", TYPES)
def test_a_statement_is_believed_of_its_roles_alone(
    place: Place, image: Descriptor, make_key: MakeKey, kind: str
) -> None:
    trusted = by_role(make_key, "general")
    assert roles_for(kind) == TYPES[kind]
    for name in (*ROLES, "general"):
        attest(place, image, kind, {"by": name}, make_key(name).signer)
    found = read_attestations(place, image.digest, trusted)
    assert {item.predicate["by"] for item in found.verified} == set(TYPES[kind] or ["general"])
    assert len(found.rejected) == len(ROLES) + 1 - len(found.verified)
    for item in found.rejected:
        assert "which is trusted" in item.reason and kind in item.reason


def test_one_key_in_every_role_and_a_role_that_has_none_of_its_own(
    place: Place, image: Descriptor, make_key: MakeKey, key: Key
) -> None:
    for kind in TYPES:
        attest(place, image, kind, {"by": "ours"}, key.signer)
    assert len(read_attestations(place, image.digest, key.verifier).verified) == len(TYPES)
    split = load_verifier([key.public], {"promoter": [make_key("promoter").public]})
    found = read_attestations(place, image.digest, split)
    # The person's key, ours, vouches for a promotion by hand.
    assert {item.predicate_type for item in found.verified} == set(TYPES) - {VERDICT_TYPE}


def test_a_role_whose_keys_are_none_is_believed_of_nobody(place: Place, image: Descriptor, key: Key) -> None:
    attest(place, image, CYCLONEDX_TYPE, {}, key.signer)
    assert not read_attestations(place, image.digest, load_verifier([key.public], {"scanner": []})).verified
    with pytest.raises(InputError, match="no trusted public key"):
        KeySet([], {"scanner": []})


def test_of_several_signatures_the_one_of_the_right_role_counts(
    place: Place, image: Descriptor, make_key: MakeKey
) -> None:
    statement = write_statement(CYCLONEDX_TYPE, {}, subjects=[image.digest], name="app")
    signed = pae(IN_TOTO, statement)
    keys = [make_key(role) for role in ("promoter", "scanner")]
    envelope = Envelope(IN_TOTO, statement, tuple(key.signer.sign(signed) for key in keys))
    content = write_bundle(envelope, key_id=keys[0].signer.key_id)
    attach(place, subject=image, artifact_type=SIGSTORE_BUNDLE, content=content, media_type=SIGSTORE_BUNDLE)
    [found] = read_attestations(place, image.digest, by_role(make_key)).verified
    assert found.key_id == keys[1].signer.key_id


def test_what_a_signer_wrote_is_found_whether_or_not_it_is_believed(
    counted: Counted, make_key: MakeKey, key: Key
) -> None:
    image = push_image(counted.place)
    trusted = by_role(make_key, "general").also({"scanner": key.signer})
    for _ in range(2):
        known = read_attestations(counted.place, image.digest, trusted)
        made = attest_once(counted.place, image, CYCLONEDX_TYPE, {"a": 1}, key.signer, known=known)
    assert not made.changed
    assert trusted.vouching([make_key("scanner").signer.key_id], CYCLONEDX_TYPE)
    with pytest.raises(SignatureInvalid, match="not as builder for"):
        trusted.vouching([key.signer.key_id], PROVENANCE_TYPE)
    with pytest.raises(SignatureInvalid, match="is no role's"):
        trusted.vouching([key.signer.key_id], FOREIGN)
