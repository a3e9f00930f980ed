"""A key per role: each stage signs what it says, and a key vouches for nothing but its role."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT
from registry_pipelines.chain import Chain
from registry_pipelines.chain.keys import trusted_keys
from registry_pipelines.errors import InputError, PromotionDenied, SignatureInvalid
from registry_pipelines.evidence.artifacts import attach, attached
from registry_pipelines.evidence.attestations import attest, attest_statement, read_attestations
from registry_pipelines.evidence.keys import KeySet, generate_key, load_signer, load_verifier
from registry_pipelines.evidence.predicates import (
    CYCLONEDX_TYPE,
    PROMOTION_TYPE,
    PROVENANCE_TYPE,
    REPORT_TYPE,
    ROLES,
    SIGNATURE_TYPE,
    VERDICT_TYPE,
    VULNERABILITIES_TYPE,
    Role,
)
from registry_pipelines.release import Release
from registry_pipelines.scan.cyclonedx import read_cyclonedx, write_cyclonedx
from registry_pipelines.scan.report import SBOM_MEDIA_TYPE
from tests.chain.fleet import Fleet, attach_provenance

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


def built(fleet: Fleet, tag: str = "v1.0.0", *, package: str = "goodwheel") -> Release:
    """A release whose builder signed its provenance with its own key."""
    release, place = fleet.release(tag, package=package), fleet.chain.place("app")
    split(fleet)
    subject = place.registry.resolve(place.repository, release.digest)
    [provenance] = attached(place, release.digest, artifact_type=PROVENANCE_ARTIFACT)
    attest_statement(place, subject, provenance.content, load_signer(fleet.folder / "keys" / "builder.key"))
    return release


def test_each_stage_signs_what_it_says_with_its_own_key_and_once(fleet: Fleet) -> None:
    """Every stage runs where only its own key is, twice."""
    release = built(fleet)
    at: dict[str, tuple[Role, ...]] = {
        "sbom": ("scanner",),
        "vulnerabilities": ("scanner",),
        "sign": ("person",),
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


def test_signing_vouches_in_no_name_that_has_a_key_of_its_own(fleet: Fleet) -> None:
    """Whoever may push attached all of it: with the builder's and the scanner's keys at hand, too, none is signed."""
    release = fleet.release("v1.0.0")
    chain = split(fleet)
    for stage in STAGES[:2]:
        getattr(chain, stage)(release)
    for here in (("person",), ("person", "builder", "scanner")):
        chain = split(fleet, *here)
        assert chain.sign(release).reasons == [
            "the provenance is not signed by its builder, whose key signs nothing that others attached",
            "an SBOM is not signed by its scanner, whose key signs nothing that others attached",
            "the vulnerability report is not signed by its scanner, whose key signs nothing that others attached",
        ]
        assert set(believed(chain, release, everyone(fleet))) == {SIGNATURE_TYPE}
    denied = split(fleet, "promoter").judge(release)
    assert not denied.ok
    assert "Have the builder of app sign its provenance" in denied.next_steps[0]
    for stage in STAGES[:2]:
        getattr(split(fleet, "scanner"), stage)(release)
    assert len(split(fleet, "person", "builder").sign(release).reasons) == 1


def test_a_scanner_signs_no_report_that_is_made_of_an_sbom_nobody_signed(fleet: Fleet) -> None:
    """An attacker pushes an image with an SBOM that lists nothing bad, and has it scanned."""
    bad, place = fleet.release("v1.0.0", package="badwheel"), fleet.chain.place("app")
    split(fleet).sbom(bad)
    [real] = attached(place, bad.digest, artifact_type=SBOM_MEDIA_TYPE)
    packages = read_cyclonedx(real.content)
    place.registry.delete_manifest(place.repository, real.descriptor.digest)
    subject = place.registry.resolve(place.repository, bad.digest)
    forged = write_cyclonedx(msgspec.structs.replace(packages, components=()))
    attach(place, subject=subject, artifact_type=SBOM_MEDIA_TYPE, content=forged, media_type=SBOM_MEDIA_TYPE)
    chain = split(fleet, "scanner")
    result = chain.vulnerabilities(bad)
    assert result.notes == ["the report is not signed: no trusted scanner signed the SBOM of linux/amd64"]
    assert believed(chain, bad, everyone(fleet)) == {}
    chain.sbom(bad)
    assert not chain.vulnerabilities(bad).ok
    for document in attached(place, bad.digest, artifact_type=SBOM_MEDIA_TYPE):
        if document.content != forged:
            place.registry.delete_manifest(place.repository, document.descriptor.digest)
    assert not chain.vulnerabilities(bad).ok  # what was signed counts, whoever deletes what is attached


def test_provenance_beside_that_of_the_builder_is_not_signed(fleet: Fleet) -> None:
    """By one key for everything: the builder signed its own, and somebody who may push attached another."""
    release, place = fleet.release("v1.0.0"), fleet.chain.place("app")
    assert fleet.judged(release)
    subject = place.registry.resolve(place.repository, release.digest)
    attach_provenance(place, subject, package="forged")
    assert fleet.chain.sign(release).reasons == ["provenance is attached beside that which is signed; nobody signed it"]
    signed = read_attestations(place, release.digest, trusted_keys(fleet.config), predicate_type=PROVENANCE_TYPE)
    assert len(signed.verified) == 1 and "forged" not in str(signed.verified[0].predicate)


def test_a_person_promotes_by_hand_what_the_promoter_allowed(fleet: Fleet) -> None:
    release = built(fleet)
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
    assert VULNERABILITIES_TYPE not in believed(chain, bad, everyone(fleet))


def test_cosigns_record_of_a_scan_waits_for_the_verdict(fleet: Fleet) -> None:
    """Its findings pass, and it is not signed yet: what others read as a pass is the judge's to say, about everything.
    The scanner's machine signs it at its next scan, where the judge has not that key."""
    release = built(fleet)
    scanner, promoter = split(fleet, "scanner"), ("promoter",)
    assert scanner.sbom(release).ok and scanner.vulnerabilities(release).ok
    assert not split(fleet, "scanner", *promoter).judge(release).ok, "nobody signed the image yet"
    assert VULNERABILITIES_TYPE not in believed(fleet.chain, release, everyone(fleet))
    split(fleet, "person").sign(release)
    assert split(fleet, *promoter).judge(release).ok
    assert VULNERABILITIES_TYPE not in believed(fleet.chain, release, everyone(fleet)), "its key was not there"
    assert split(fleet, "scanner").vulnerabilities(release).changed
    assert believed(fleet.chain, release, everyone(fleet))[VULNERABILITIES_TYPE] == [key_id(fleet, "scanner")]
    assert split(fleet, *promoter).promote(release).ok, "it changed no verdict"


def test_a_machine_that_signs_in_no_role_makes_no_key(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    chain = split(fleet)
    assert chain.sbom(release).ok and chain.vulnerabilities(release).ok
    assert believed(chain, release, everyone(fleet)) == {}
    assert not chain.config.signing_key.exists()
