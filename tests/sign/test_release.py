"""Signing a release: what is attached gets attested, what is wrong is named, nothing is written twice."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT
from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.evidence.predicates import CYCLONEDX_TYPE, REPORT_TYPE, VULNERABILITIES_TYPE, Role
from registry_pipelines.evidence.referrers import read_artifacts
from registry_pipelines.evidence.statements import write_statement
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, artifact_manifest
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.predicates import attest_pass, report_of, signed_report, vulnerability_predicate
from registry_pipelines.scan.report import REPORT_MEDIA_TYPE, SBOM_MEDIA_TYPE, AdvisoryFacts, Report
from registry_pipelines.sign.cosign import verify_image
from registry_pipelines.sign.release import SignedRelease, sign_release
from tests.evidence.parts import Cosign, Counted, Key, Listing, push_image, push_index

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PROVENANCE = "https://slsa.dev/provenance/v1"


def put(place: Place, image: Descriptor, kind: str, content: bytes) -> Descriptor:
    return attach(place, subject=image, artifact_type=kind, content=content, media_type=kind)


def report(image: Descriptor, scanned_at: str = "2026-11-23T10:00:00Z") -> Report:
    return Report(
        subject=image.digest,
        covers=(image.digest,),
        advisories=AdvisoryFacts(digest=Digest.of(b"data"), newest="2026-11-22T00:00:00Z", records=1, source="pypa"),
        findings=(),
        unknowns=(),
        components=1,
        scanned_at=scanned_at,
    )


def with_evidence(place: Place) -> Descriptor:
    image = push_image(place)
    statement = write_statement(PROVENANCE, {"buildDefinition": {}}, subjects=[image.digest], name="app")
    put(place, image, PROVENANCE_ARTIFACT, statement)
    put(place, image, SBOM_MEDIA_TYPE, b'{"bomFormat":"CycloneDX","specVersion":"1.6","version":1}')
    put(place, image, REPORT_MEDIA_TYPE, report(image).encode())
    return image


def sign(place: Place, image: Descriptor, key: Key, **options: object) -> SignedRelease:
    return sign_release(place, image, key.signers, key.verifier, report_passes=lambda *_: [], now=NOW, **options)  # type: ignore[arg-type]


def test_everything_attached_is_attested_once(counted: Counted, key: Key) -> None:
    image = with_evidence(counted.place)
    signed = sign(counted.place, image, key)
    assert (signed.changed, signed.withheld, signed.problems) == (True, (), ())
    kinds = [item.predicate_type for item in signed.attestations]
    assert kinds == [PROVENANCE, CYCLONEDX_TYPE, REPORT_TYPE], "cosign's record comes after a verdict"
    found = read_attestations(counted.place, image.digest, key.verifier)
    assert {item.predicate_type for item in found.verified} > set(kinds)
    assert signed_report(found.of_type(REPORT_TYPE)[0]) == report(image)
    assert verify_image(counted.place, image.digest, key.verifier).signatures[0].identity == str(counted.place)
    before = counted.files()
    again = sign(counted.place, image, key)
    assert not again.changed
    assert [item.descriptor for item in again.attestations] == [item.descriptor for item in signed.attestations]
    assert counted.files() == before


def test_an_sbom_of_another_tool_is_signed_byte_for_byte(place: Place, key: Key) -> None:
    """Fields that no model knows, numbers and blanks as they were written."""
    image = push_image(place)
    document = b'{ "bomFormat": "CycloneDX",\n "compositions": [{"aggregate": "incomplete"}], "x": 1.50 }'
    put(place, image, SBOM_MEDIA_TYPE, document)
    (made,) = sign(place, image, key).attestations
    assert made.predicate_type == CYCLONEDX_TYPE
    (found,) = read_attestations(place, image.digest, key.verifier).of_type(CYCLONEDX_TYPE)
    assert found.predicate == json.loads(document)
    manifest = place.registry.get_manifest(place.repository, made.descriptor.digest).content()
    assert isinstance(manifest, Manifest)
    bundle = json.loads(read_blob(place, manifest.layers[0], limit=1 << 20))
    assert document in base64.b64decode(bundle["dsseEnvelope"]["payload"])
    assert not sign(place, image, key).changed


def test_the_report_is_attested_only_when_it_passes(place: Place, key: Key) -> None:
    image = with_evidence(place)
    seen: list[Report] = []
    signed = sign_release(
        place,
        image,
        key.signers,
        key.verifier,
        report_passes=lambda found, signed: seen.append(found) or ["too many"],
        identity="reg/app",
        now=NOW,
    )
    assert signed.withheld == ("too many",)
    assert seen == [report(image)]
    assert [item.predicate_type for item in signed.attestations] == [PROVENANCE, CYCLONEDX_TYPE]
    assert verify_image(place, image.digest, key.verifier).signatures[0].identity == "reg/app"


def test_an_image_without_evidence_is_signed_and_what_lacks_is_said(place: Place, key: Key) -> None:
    image = push_image(place)
    signed = sign(place, image, key)
    assert signed.image.changed
    assert signed.attestations == ()
    assert signed.problems == ("no provenance is attached", "no SBOM is attached")
    assert signed.withheld == ("no vulnerability report about this digest is attached",)


def test_one_document_attached_twice_is_attested_once(place: Place, key: Key) -> None:
    image = with_evidence(place)
    for kind in (SBOM_MEDIA_TYPE, PROVENANCE_ARTIFACT):
        [content] = read_artifacts(place, image.digest, kinds=(kind,))[0][kind]
        attach(
            place,
            subject=image,
            artifact_type=kind,
            content=content[1],
            media_type=kind,
            annotations={"again": "yes"},
        )
    assert len(sign(place, image, key).attestations) == 3


def test_a_role_whose_key_is_elsewhere_signs_nothing_and_that_is_said(
    place: Place, key: Key, make_key: Callable[[str], Key]
) -> None:
    image = with_evidence(place)
    person = make_key("person")
    trusted = load_verifier([key.public], {"person": [person.public]})

    def signed(*roles: Role) -> SignedRelease:
        signers = {"person": person.signer, **dict.fromkeys(roles, key.signer)}
        return sign_release(place, image, signers, trusted, report_passes=lambda *_: [], now=NOW)

    alone = signed()
    assert alone.attestations == ()
    assert [problem.partition(" is not signed, and the key of the ") for problem in alone.problems] == [
        ("the provenance", " is not signed, and the key of the ", "builder is not here"),
        ("an SBOM", " is not signed, and the key of the ", "scanner is not here"),
        ("the vulnerability report", " is not signed, and the key of the ", "scanner is not here"),
    ]
    assert signed("builder", "scanner").problems == ()
    assert (signed().problems, signed().changed) == ((), False)


def test_the_newest_report_counts(place: Place, key: Key) -> None:
    image = with_evidence(place)
    newest = report(image, "2026-11-23T11:00:00Z")
    put(place, image, REPORT_MEDIA_TYPE, newest.encode())
    put(place, image, REPORT_MEDIA_TYPE, report(image, "2026-11-23T09:00:00Z").encode())
    sign(place, image, key)
    signed = read_attestations(place, image.digest, key.verifier).of_type(REPORT_TYPE)
    assert [signed_report(item) for item in signed] == [newest]


def test_bad_evidence_is_named_and_hides_no_good_one(place: Place, key: Key) -> None:
    image = with_evidence(place)
    other = push_image(place, "other")
    put(place, image, PROVENANCE_ARTIFACT, b"{}")
    put(place, image, PROVENANCE_ARTIFACT, write_statement(PROVENANCE, {}, subjects=[other.digest], name="app"))
    put(place, image, SBOM_MEDIA_TYPE, b"[]")
    put(place, image, REPORT_MEDIA_TYPE, b"{")
    put(place, image, REPORT_MEDIA_TYPE, report(other, "2026-11-24T00:00:00Z").encode())
    blob = push_blob(place, b"x", media_type=SBOM_MEDIA_TYPE)
    two = artifact_manifest(artifact_type=SBOM_MEDIA_TYPE, layers=[blob, blob], subject=image)
    place.registry.put_manifest(place.repository, two)
    gone = Descriptor(media_type=SBOM_MEDIA_TYPE, digest=Digest.of(b"gone"), size=4)
    short = artifact_manifest(artifact_type=SBOM_MEDIA_TYPE, layers=[gone], subject=image)
    place.registry.put_manifest(place.repository, short)
    empty = artifact_manifest(artifact_type=media_types.SIGSTORE_BUNDLE, layers=[], subject=image)
    place.registry.put_manifest(place.repository, empty)
    signed = sign(place, image, key)
    assert len(signed.attestations) == 3
    problems = "\n".join(signed.problems)
    for part in (
        "in-toto statement is not valid",
        "the signed statement is about",
        "an SBOM cannot be signed",
        "vulnerability report is not valid",
        f"report is about {other.digest}",
        "it has 2 layers",
        str(gone.digest),
    ):
        assert part in problems


def test_a_lost_referrer_hides_no_evidence(place: Place, key: Key) -> None:
    image = with_evidence(place)
    lost = Descriptor(media_type=media_types.OCI_MANIFEST, digest=Digest.of(b"lost"), size=4)
    signed = sign(Place(Listing(place, [lost]), place.repository), image, key)
    assert len(signed.attestations) == 3
    assert len(signed.problems) == 1
    assert signed.problems[0].startswith(str(lost.digest))


def test_a_verdict_in_disguise_is_not_signed(place: Place, key: Key) -> None:
    """Whoever may push attaches a "provenance" that is a verdict, or that speaks about another release too."""
    image, other = push_image(place), push_image(place, "other")
    for kind, subjects in (
        ("https://slsa.dev/verification_summary/v1", [image.digest]),
        ("urn:registry-pipelines:promotion:v1", [image.digest]),
        (VULNERABILITIES_TYPE, [image.digest]),
        (PROVENANCE, [image.digest, other.digest]),
    ):
        put(place, image, PROVENANCE_ARTIFACT, write_statement(kind, {}, subjects=subjects, name="app"))
    signed = sign(place, image, key)
    assert signed.attestations == ()
    assert len([item for item in signed.problems if item.startswith("provenance cannot be signed")]) == 4
    found = read_attestations(place, image.digest, key.verifier)
    assert {item.predicate_type for item in found.verified} == {"https://sigstore.dev/cosign/sign/v1"}


VERDICT = "https://slsa.dev/verification_summary/v1"


@pytest.mark.parametrize(
    ("added", "said"),
    [
        (f'"PredicateType":"{VERDICT}",', "it has a field 'PredicateType'"),
        (f'"predicateType":"{VERDICT}",', "'predicateType' is there twice"),
        (f'"predicate_type":"{VERDICT}",', "it has a field 'predicate_type'"),
        ('"predicate":{"verificationResult":"PASSED"},', "'predicate' is there twice"),
        ('"extra":{"a":1,"a":2},', "'a' is there twice"),
    ],
)
def test_provenance_that_others_read_as_something_else_is_not_signed(
    place: Place, key: Key, added: str, said: str
) -> None:
    """We take the last of two equal keys and look at capitals; other programs do not (Go's encoding/json)."""
    image = push_image(place)
    raw = write_statement(PROVENANCE, {"buildDefinition": {}}, subjects=[image.digest], name="app").decode()
    put(place, image, PROVENANCE_ARTIFACT, ("{" + added + raw[1:]).encode())
    signed = sign(place, image, key)
    [problem] = [each for each in signed.problems if "provenance" in each]
    assert said in problem
    assert not read_attestations(place, image.digest, key.verifier, predicate_type=PROVENANCE).verified


def test_an_sbom_that_can_be_read_in_two_ways_is_not_signed(place: Place, key: Key) -> None:
    image = push_image(place)
    put(place, image, SBOM_MEDIA_TYPE, b'{"bomFormat":"CycloneDX","components":[{"name":"evil"}],"components":[]}')
    signed = sign(place, image, key)
    assert any("'components' is there twice" in each for each in signed.problems)
    assert not read_attestations(place, image.digest, key.verifier, predicate_type=CYCLONEDX_TYPE).verified


def test_provenance_may_name_the_platforms_of_its_index(place: Place, key: Key) -> None:
    index, children = push_index(place)
    subjects = [index.digest, *(child.digest for child in children)]
    put(place, index, PROVENANCE_ARTIFACT, write_statement(PROVENANCE, {}, subjects=subjects, name="app"))
    assert [item.predicate_type for item in sign(place, index, key).attestations] == [PROVENANCE]


@pytest.mark.parametrize("scanned_at", ["9999-01-01T00:00:00Z", "later", "2026-11-23T10:00:00"])
def test_a_report_from_the_future_is_not_signed(place: Place, key: Key, scanned_at: str) -> None:
    """It would stay the newest for ever, whatever later scans find."""
    image = push_image(place)
    put(place, image, REPORT_MEDIA_TYPE, report(image, scanned_at).encode())
    signed = sign(place, image, key)
    assert signed.attestations == ()
    assert f"{scanned_at!r}, not of the past" in signed.problems[-1]


def test_a_foreign_vulnerability_record_is_not_our_report() -> None:
    for predicate in ({}, {"scanner": None}, {"scanner": {"uri": "pkg:x", "result": {}}}):
        with pytest.raises(SignatureInvalid):
            report_of(predicate)


def test_the_vulnerability_record_has_cosigns_fields(place: Place) -> None:
    found = report(push_image(place))
    predicate = vulnerability_predicate(found)
    assert predicate["invocation"] == {"parameters": None, "uri": "", "event_id": "", "builder.id": ""}
    assert set(predicate["scanner"]) == {"uri", "version", "db", "result"}
    assert predicate["scanner"]["db"] == {"uri": "pypa", "version": Digest.of(b"data")}
    assert predicate["metadata"] == {"scanStartedOn": found.scanned_at, "scanFinishedOn": found.scanned_at}


@pytest.mark.peer("cosign", "cosign2")
def test_both_cosigns_verify_a_signed_release(place: Place, key: Key, cosign: Cosign, cosign2: Cosign) -> None:
    image = with_evidence(place)
    sign(place, image, key, att_tag=True)
    assert all(
        program.verify_attestation(key.public, "vuln", f"{place}@{image.digest}").returncode
        for program in (cosign, cosign2)
    )
    attest_pass(place, image, report(image), key.signer, att_tag=True)  # as a judge does after its verdict
    for program in (cosign, cosign2):
        assert program.verify(key.public, f"{place}@{image.digest}").returncode == 0
        for kind in ("slsaprovenance1", "cyclonedx", "vuln"):
            verified = program.verify_attestation(key.public, kind, f"{place}@{image.digest}")
            assert verified.returncode == 0, (kind, verified.stderr)
            assert json.loads(verified.stdout.splitlines()[0])["payloadType"] == media_types.IN_TOTO
