"""A key per role: each stage signs what it says, and a key vouches for nothing but its role."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.errors import InputError, PromotionDenied, SignatureInvalid
from registry_pipelines.evidence.attestations import attest, read_attestations
from registry_pipelines.evidence.keys import KeySet, generate_key, load_signer, load_verifier
from registry_pipelines.evidence.predicates import (
    CYCLONEDX_TYPE,
    PROMOTION_TYPE,
    PROVENANCE_TYPE,
    REPORT_TYPE,
    ROLES,
    VERDICT_TYPE,
    VULNERABILITIES_TYPE,
    Role,
)
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet

STAGES = ("sbom", "vulnerabilities", "sign", "judge", "promote")


def split(fleet: Fleet, *here: Role) -> Chain:
    """The chain of a machine that has the private keys of these roles, and believes all."""
    folder = fleet.folder / "keys"
    for role in ROLES:
        if not (folder / f"{role}.key").exists():
            generate_key(folder / f"{role}.key")
    told = [f"{role}: {{{'key' if role in here else 'trusted'}: {_file(role, here)}}}" for role in ROLES]
    text = fleet.path.read_text().partition("signing:")
    fleet.path.write_text(f"{text[0]}signing: {{{', '.join(told)}}}\n{text[2].partition(chr(10))[2]}")
    return fleet.reload()


def _file(role: Role, here: Sequence[Role]) -> str:
    return f"keys/{role}.key" if role in here else f"[keys/{role}.pub]"


def believed(chain: Chain, release: Release, trusted: KeySet) -> dict[str, list[str]]:
    """Predicate types of what is signed about a release, with the key of each."""
    found: dict[str, list[str]] = {}
    for item in read_attestations(chain.place(release.image), release.digest, trusted).verified:
        found.setdefault(item.predicate_type, []).append(item.key_id)
    return found


def everyone(fleet: Fleet) -> KeySet:
    return load_verifier([fleet.folder / "keys" / f"{role}.pub" for role in ROLES])


def key_id(fleet: Fleet, role: Role) -> str:
    return load_signer(fleet.folder / "keys" / f"{role}.key").key_id


def test_each_stage_signs_what_it_says_with_its_own_key_and_once(fleet: Fleet) -> None:
    """Every stage runs where only its own key is, twice."""
    release = fleet.release("v1.0.0")
    at: dict[str, tuple[Role, ...]] = {
        "sbom": ("scanner",),
        "vulnerabilities": ("scanner",),
        "sign": ("person", "builder"),
        "judge": ("promoter",),
        "promote": ("promoter",),
    }
    for stage in (*STAGES, *STAGES):
        result = getattr(split(fleet, *at[stage]), stage)(release)
        assert result.ok, result.reasons
    assert not any(result.reasons for result in [split(fleet, "person").sign(release)])
    assert not result.changed
    signed = believed(fleet.chain, release, everyone(fleet))
    scanner, promoter = [key_id(fleet, "scanner")], [key_id(fleet, "promoter")]
    assert signed.pop(PROVENANCE_TYPE) == [key_id(fleet, "builder")]
    assert [signed.pop(kind) for kind in (CYCLONEDX_TYPE, REPORT_TYPE, VULNERABILITIES_TYPE)] == [scanner] * 3
    assert [signed.pop(kind) for kind in (VERDICT_TYPE, PROMOTION_TYPE)] == [promoter] * 2
    assert list(signed.values()) == [[key_id(fleet, "person")]]
    assert fleet.reload().replicate(release, "eu").ok


def test_a_key_of_another_role_vouches_for_nothing(fleet: Fleet) -> None:
    """The promoter's key signs provenance and an SBOM in the builder's and the scanner's place."""
    release = fleet.release("v1.0.0", provenance=False)
    chain = split(fleet, "scanner", "person", "promoter")
    for stage in STAGES[:3]:
        getattr(chain, stage)(release)
    place = chain.place("app")
    subject = place.registry.resolve(place.repository, release.digest)
    forger = load_signer(fleet.folder / "keys" / "promoter.key")
    attest(place, subject, PROVENANCE_TYPE, {"buildDefinition": {}}, forger)
    verdict = chain.judge(release)
    assert not verdict.ok
    assert "no attestation of type https://slsa.dev/provenance/v1 is signed by a trusted key" in str(verdict.reasons)
    told = " ".join(str(row["text"]) for row in verdict.rows)
    assert f"signed by {forger.key_id[:19]}, which is trusted, but not as builder for {PROVENANCE_TYPE}" in told
    with pytest.raises(PromotionDenied):
        chain.promote(release)


def test_an_image_signature_is_the_persons(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    with pytest.raises(InputError, match=r"no key of the person"):
        split(fleet, "builder", "scanner", "promoter").sign(release)
    fleet.reload(("person: {trusted: [keys/person.pub]}", "person: {key: keys/promoter.key}")).sign(release)
    with pytest.raises(SignatureInvalid, match=r"(?s)not as person for .*not as person for"):
        split(fleet).verify(release)
    split(fleet, "person").sign(release)
    assert split(fleet).verify(release).facts["signatures"] == 2


def test_what_nobody_signed_and_cannot_be_signed_here_is_said(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    chain = split(fleet, "person")
    for stage in STAGES[:2]:
        getattr(chain, stage)(release)
    assert chain.sign(release).reasons == [
        "the provenance is not signed, and the key of the builder is not here",
        "an SBOM is not signed, and the key of the scanner is not here",
        "the vulnerability report is not signed, and the key of the scanner is not here",
    ]
    assert split(fleet, "builder", "scanner", "person").sign(release).reasons == []
    assert chain.sign(release).reasons == []


def test_a_person_promotes_by_hand_what_the_promoter_allowed(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    chain = split(fleet, *ROLES)
    for stage in STAGES[:4]:
        getattr(chain, stage)(release)
    promoted = split(fleet, "person").promote(release)
    assert promoted.facts["identity"] == "claimed"
    assert believed(chain, release, everyone(fleet))[PROMOTION_TYPE] == [key_id(fleet, "person")]
    assert split(fleet).replicate(release, "eu").ok
    with pytest.raises(InputError, match=r"no key of the promoter or person for this machine"):
        split(fleet, "scanner").promote(release)


def test_a_failing_report_is_signed_and_nobody_reads_it_as_a_pass(fleet: Fleet) -> None:
    bad = fleet.release("v1.0.0", package="badwheel")
    chain = split(fleet, *ROLES)
    for stage in STAGES[:3]:
        getattr(chain, stage)(bad)
    signed = believed(chain, bad, everyone(fleet))
    assert signed[REPORT_TYPE] == [key_id(fleet, "scanner")]
    assert VULNERABILITIES_TYPE not in signed
    verdict = chain.judge(bad)
    assert "CRITICAL 9.8: pkg:pypi/badwheel@1.0" in " ".join(verdict.reasons)
    assert "no trusted key signed it" not in " ".join(verdict.reasons)


def test_a_machine_that_signs_in_no_role_makes_no_key(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    chain = split(fleet)
    assert chain.sbom(release).ok and chain.vulnerabilities(release).ok
    assert believed(chain, release, everyone(fleet)) == {}
    assert not chain.config.signing_key.exists()
