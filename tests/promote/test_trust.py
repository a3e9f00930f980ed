"""Trust policies: which attestors vouch for a release, all of some, one of others, and nobody in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import InputError, PromotionDenied
from registry_pipelines.evidence.attestations import attest
from registry_pipelines.evidence.attestors import AttestorCertificates, AttestorFiles
from registry_pipelines.evidence.keys import KeySet, load_verifier
from registry_pipelines.evidence.notation.signers import load_certified_signer
from registry_pipelines.evidence.predicates import (
    CYCLONEDX_TYPE,
    PROVENANCE_TYPE,
    REPORT_TYPE,
    SIGNATURE_TYPE,
    VERDICT_TYPE,
)
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.promote.admission.rulings import Ruling, ruling_of
from registry_pipelines.promote.approvals import new_approval, publish
from registry_pipelines.promote.attestors import AllOf, AnyOf, Expression, Named, names_in, read_expression
from registry_pipelines.promote.channels import promote
from registry_pipelines.promote.documents import DEFAULT_POLICY, Policy, Verdict
from registry_pipelines.promote.judge import judge, require_allowed, require_promoted
from registry_pipelines.promote.person import Person
from registry_pipelines.promote.verdicts import publish as publish_verdict
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.predicates import report_predicate
from registry_pipelines.scan.report import Finding
from registry_pipelines.sign.notation import sign_notation
from tests.doubles.authorities import CODE, make_root
from tests.evidence.parts import Key
from tests.promote.parts import CRITICAL, NOW, PROVENANCE, Candidate, candidate

MakeKey = Callable[[str], Key]
BEFORE = NOW - datetime.now(UTC) - timedelta(days=1)
ROOT, STRANGER = make_root(begins=BEFORE), make_root(begins=BEFORE)
LEAF = ROOT.issue("signer", uses=(CODE,), begins=BEFORE)
ANNA = Person("anna", "claimed")
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True).filter(lambda name: name not in ("and", "or"))


def _combined(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    parts = st.lists(inner, min_size=2, max_size=4).map(tuple)
    return parts.map(AllOf) | parts.map(AnyOf)


def flat(expression: Expression) -> Any:
    """The same without parentheses that change nothing."""
    if isinstance(expression, Named):
        return expression.name
    kind = type(expression)
    parts: list[Any] = []
    for part in map(flat, expression.parts):
        parts += part[1:] if part[0] is kind else [part]
    return (kind, *parts)


@given(st.recursive(NAMES.map(Named), _combined, max_leaves=12))
def test_what_is_written_is_read_as_it_was(expression: Expression) -> None:
    assert flat(read_expression(str(expression))) == flat(expression)
    shouted = str(expression).replace(" and ", "  AND ").replace(" or ", " OR\t")
    assert flat(read_expression(shouted)) == flat(expression)


@given(st.text(alphabet="ab()-_ \tandor", max_size=60) | st.text(max_size=60))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        assert names_in(read_expression(text))
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the name of an attestor is wanted"),
        ("a b", "'b' is one word too many"),
        ("a and", "there is ''"),
        ("a and or b", "there is 'or'"),
        ("(a or b", "not closed"),
        ("a)", "')' is one word too many"),
        ("()", "there is ')'"),
        ("Build System", "there is 'Build'"),
        ("(" * 9 + "a" + ")" * 9, "more than 8 parentheses"),
        (" and ".join(f"a{number}" for number in range(65)), "more than 64"),
    ],
)
def test_what_is_no_expression(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="(?s)" + said.replace("(", r"\(").replace(")", r"\)")):
        read_expression(text)
    if text:
        with pytest.raises(InputError, match="attestors of policy default cannot be read"):
            _ = Policy(attestors=text).attestor_names


@dataclass
class Trusted:
    """A release, its attestors, and who signs as what."""

    item: Candidate
    make_key: MakeKey
    verifier: KeySet

    def say(self, kind: str, predicate: Mapping[str, Any], by: str, *, about: Descriptor | None = None) -> None:
        attest(self.item.place, about or self.item.top, kind, predicate, self.make_key(by).signer)

    def provenance(self, by: str) -> None:
        self.say(PROVENANCE_TYPE, PROVENANCE, by)

    def report(self, by: str, *findings: Finding, **changes: Any) -> None:
        self.say(REPORT_TYPE, report_predicate(self.item.report(findings, **changes)), by)

    def approve(self, capacity: str, by: str, **more: Any) -> None:
        approval = new_approval(self.item.place, self.item.release, capacity, ANNA, now=NOW, **more)
        publish(self.item.place, self.item.top, approval, self.make_key(by).signer, self.verifier)

    def verdict(self, attestors: str, *, now: Any = NOW, policy: Policy = DEFAULT_POLICY) -> Verdict:
        wanted = msgspec.structs.replace(policy, attestors=attestors)
        return judge(self.item.place, self.item.top, wanted, self.verifier, image="app", now=now)

    def against(self, attestors: str, **options: Any) -> list[str]:
        return [each for each in self.verdict(attestors, **options).reasons if each.startswith("attestor ")]


ATTESTORS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "build-system": (["provenance"], ["ci", "ci-new"]),
    "other-build": (["provenance"], ["other-ci"]),
    "vulnerability-scanner": (["sbom", "vulnerabilities"], ["scan-box"]),
    "release-team": (["signature"], ["lead"]),
    "qa": (["approval"], ["anna", "ben"]),
    "security": (["approval"], ["carl"]),
    "testers": ([TEST_RESULT], ["lab"]),
}


@pytest.fixture
def trusted(good: Candidate, make_key: MakeKey) -> Trusted:
    """Everything is signed by the key of all roles, and by no attestor yet."""
    attestors = {
        name: AttestorFiles(attests, [make_key(each).public for each in keys])
        for name, (attests, keys) in ATTESTORS.items()
    }
    return Trusted(good, make_key, load_verifier([good.key.public], attestors=attestors))


def test_a_policy_without_attestors_believes_none_of_them(trusted: Trusted) -> None:
    """Another image's build system forges nothing here."""
    assert trusted.verdict("").allow
    trusted.provenance("ci")
    trusted.report("scan-box", CRITICAL, scanned_at="2026-11-23T11:00:00Z")
    verdict = trusted.verdict("")
    assert verdict.allow
    assert any("not as builder" in note for note in verdict.notes)


def test_an_attestor_alone_is_believed_for_what_it_attests(trusted: Trusted) -> None:
    """The key of all roles signed provenance, and that is not the build system's."""
    verdict = trusted.verdict("build-system")
    assert "attestor build-system: no provenance is by its keys" in verdict.reasons
    assert any(each.startswith("SLSA provenance: no attestation") for each in verdict.reasons)
    assert any("not as build-system" in note for note in verdict.notes)
    assert [(step.kind, step.about) for step in verdict.steps if step.kind == "attest"] == [
        ("attest", ("build-system provenance",))
    ]
    trusted.provenance("other-ci")
    assert not trusted.verdict("build-system").allow
    trusted.provenance("ci-new")
    allowed = trusted.verdict("build-system")
    assert allowed.allow
    assert trusted.make_key("ci-new").signer.key_id in {used.key_id for used in allowed.evidence}


def test_all_of_some_and_one_of_others(trusted: Trusted) -> None:
    policy = "build-system and (qa or security)"
    assert len(trusted.against(policy)) == 3
    trusted.provenance("ci")
    assert trusted.against(policy) == [
        "attestor qa: nobody approved it as qa (or qa or security)",
        "attestor security: nobody approved it as security (or qa or security)",
    ]
    trusted.approve("security", "carl")
    assert trusted.verdict(policy).allow
    assert trusted.against("build-system and qa and security") == ["attestor qa: nobody approved it as qa"]
    assert trusted.verdict("qa or build-system").allow
    assert not trusted.verdict("qa or other-build").allow


def test_one_key_is_one_person_however_many_attestors_it_counts_as(good: Candidate, make_key: MakeKey) -> None:
    """Two teams with one member: what she says is one word, also where she says it twice."""
    keys = {"qa": ["anna"], "security": ["anna", "carl"], "legal": ["anna", "carl"]}
    files = {
        name: AttestorFiles(["approval"], [make_key(each).public for each in members]) for name, members in keys.items()
    }
    trusted = Trusted(good, make_key, load_verifier([good.key.public], attestors=files))
    for capacity in keys:
        trusted.approve(capacity, "anna")
    [against] = trusted.against("qa and security")
    assert against.startswith("attestor security: its approval is by sha256:")
    assert against.endswith("which counts as qa already: one key counts once")
    assert trusted.verdict("qa or security").allow
    trusted.approve("security", "carl")
    assert trusted.verdict("qa and security").allow
    assert trusted.verdict("security and legal").allow, "carl is security, anna is legal"
    assert len(trusted.against("qa and security and legal")) == 1, "two persons are no three"
    assert trusted.verdict("qa and (legal or security)").allow, "of several ways one is enough"


def test_an_approval_counts_in_its_capacity_by_its_keys_while_it_lasts(trusted: Trusted) -> None:
    with pytest.raises(InputError, match="does not count as qa"):
        trusted.approve("qa", "carl")
    with pytest.raises(InputError, match="does not count as qa"):
        trusted.approve("qa", "ours")  # a person's key, where qa has keys of its own
    trusted.approve("owner", "ours")  # a capacity that is no attestor
    trusted.approve("qa", "anna", lasts=timedelta(days=1))
    assert trusted.verdict("qa").allow
    later = trusted.verdict("qa", now=NOW + timedelta(days=1))
    assert later.reasons == ("attestor qa: the approval of anna as qa ended at 2026-11-24T12:00:00Z",)
    trusted.approve("qa", "ben", withdraw=True)
    assert "withdrew it as qa" in trusted.against("qa", now=NOW + timedelta(seconds=5))[0]


def test_a_new_approval_wants_a_new_verdict_and_then_the_channel_moves(trusted: Trusted) -> None:
    item, policy = trusted.item, msgspec.structs.replace(DEFAULT_POLICY, attestors="qa")
    trusted.approve("qa", "anna")
    verdict = trusted.verdict("qa")
    publish_verdict(item.place, item.top, verdict, item.key.signer, trusted.verifier)
    done = promote(
        item.place, item.release, policy, trusted.verifier, item.key.signer, channel="prod", now=NOW, by=ANNA
    )
    assert done.changed
    require_allowed(item.place, item.release, policy, trusted.verifier, now=NOW)
    trusted.approve("qa", "ben")
    assert not trusted.verdict("qa", now=NOW + timedelta(minutes=1)).same_judgement(verdict)


def test_what_an_attestor_finds_after_the_promotion_stops_starts_as_it_stops_copies(trusted: Trusted) -> None:
    item, policy = trusted.item, msgspec.structs.replace(DEFAULT_POLICY, attestors="vulnerability-scanner")
    for child in item.children:
        trusted.say(CYCLONEDX_TYPE, sbom_of(child), "scan-box")
    trusted.report("scan-box", scanned_at="2026-11-23T10:30:00Z")
    verdict = trusted.verdict(policy.attestors)
    publish_verdict(item.place, item.top, verdict, item.key.signer, trusted.verifier)
    promote(item.place, item.release, policy, trusted.verifier, item.key.signer, channel="prod", now=NOW, by=ANNA)

    def start() -> Ruling:
        release = item.release
        return ruling_of(
            item.place, release.digest, policy, trusted.verifier, image=release.image, channel="prod", now=NOW
        )

    assert start().allowed
    trusted.report("scan-box", CRITICAL, scanned_at="2026-11-23T11:00:00Z")
    assert start().code == "not-allowed"
    with pytest.raises(PromotionDenied) as denied:
        require_promoted(item.place, item.release, policy, trusted.verifier, channel="prod", now=NOW)
    assert start().reasons == tuple(denied.value.reasons)


def test_a_scanner_covers_every_platform_and_finds_nothing(trusted: Trusted) -> None:
    policy, item = "vulnerability-scanner", trusted.item
    for child in item.children[:1]:
        trusted.say(CYCLONEDX_TYPE, sbom_of(child), "scan-box")
    trusted.report("scan-box", covers=item.children[:1])
    reasons = trusted.against(policy)
    missing = str(item.children[1].digest)
    assert len(reasons) == 2 and all(missing in reason for reason in reasons)
    assert reasons[0].startswith("attestor vulnerability-scanner: its sbom does not cover linux/arm64")
    trusted.say(CYCLONEDX_TYPE, sbom_of(item.children[1]), "scan-box")
    trusted.report("scan-box", scanned_at="2026-11-23T10:30:00Z")
    assert trusted.verdict(policy).allow
    trusted.report("scan-box", CRITICAL, scanned_at="2026-11-23T11:00:00Z")
    assert any("CRITICAL 9.8" in reason for reason in trusted.against(policy))
    kinds = [step.kind for step in trusted.verdict(policy).steps]
    assert "image" in kinds and "attest" not in kinds, "the attestor has said it: the image is to be put right, once"
    assert kinds.count("image") == 1


def sbom_of(manifest: Descriptor) -> dict[str, Any]:
    component = {"type": "container", "name": "app", "bom-ref": str(manifest.digest)}
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "metadata": {"component": component}}


def test_provenance_that_names_single_platforms_covers_those_alone(trusted: Trusted, bare: Candidate) -> None:
    from registry_pipelines.evidence.attestations import attest_statement
    from registry_pipelines.evidence.statements import write_statement

    item = trusted.item
    for number, child in enumerate(item.children):
        subjects = [item.top.digest, child.digest]
        statement = write_statement(PROVENANCE_TYPE, PROVENANCE, subjects=subjects, name="app")
        attest_statement(item.place, item.top, statement, trusted.make_key("ci").signer)
        against = trusted.against("build-system")
        assert len(against) == len(item.children) - 1 - number


def test_a_signature_and_a_foreign_type_are_attested_too(trusted: Trusted) -> None:
    policy = "release-team and testers"
    assert trusted.against(policy) == [
        "attestor release-team: no signature of the image is by its keys",
        f"attestor testers: no {TEST_RESULT} is by its keys",
    ]
    trusted.say(SIGNATURE_TYPE, {}, "lead")
    trusted.say(TEST_RESULT, {"result": "PASSED"}, "lead")
    assert trusted.against(policy) == [f"attestor testers: no {TEST_RESULT} is by its keys"]
    trusted.say(TEST_RESULT, {"result": "PASSED"}, "lab")
    verdict = trusted.verdict(policy)
    assert verdict.allow
    assert TEST_RESULT in {used.predicate_type for used in verdict.evidence}


def test_an_attestor_that_nobody_is_vouches_for_nothing(trusted: Trusted) -> None:
    assert trusted.against("ghost") == ["attestor ghost: nobody is known as that"]
    assert judge(
        trusted.item.place,
        trusted.item.top,
        msgspec.structs.replace(DEFAULT_POLICY, attestors="qa"),
        trusted.item.key.verifier,
        image="app",
        now=NOW,
    ).reasons == ("attestor qa: nobody is known as that",)


def test_an_attestors_key_signs_no_verdict(trusted: Trusted) -> None:
    item, verdict = trusted.item, trusted.verdict("")
    forger = trusted.make_key("ci")
    publish_verdict(item.place, item.top, verdict, forger.signer, trusted.verifier)
    for attestors in ("", "build-system"):
        assert forger.signer.key_id not in trusted.verifier.under(attestors.split()).believed(VERDICT_TYPE)


def test_the_attestors_are_part_of_what_a_verdict_was_made_by() -> None:
    one, other = Policy(attestors="a and b"), Policy(attestors="a or b")
    assert len({DEFAULT_POLICY.digest, one.digest, other.digest}) == 3


def test_a_statement_about_another_release_vouches_for_nothing(trusted: Trusted, place: Place) -> None:
    other = candidate(place, trusted.item.key, "other")
    trusted.say(PROVENANCE_TYPE, PROVENANCE, "ci", about=other.top)
    assert trusted.against("build-system") == ["attestor build-system: no provenance is by its keys"]


@pytest.fixture
def certified(good: Candidate, tmp_path: Path) -> Callable[..., Verdict]:
    """The verdict where the platform team signs by certificate. by: of its authority, or of a namesake."""
    files = {}
    for name, issued in (("root", ROOT), ("stranger", STRANGER)):
        files[name] = tmp_path / f"{name}.pem"
        files[name].write_bytes(issued.certificate.public_bytes(Encoding.PEM))

    def verdict(
        *, root: str = "root", subject: str = "x509.subject: C=GB, ST=X, O=platform", now: datetime = NOW
    ) -> Verdict:
        certificates = AttestorCertificates(roots=(files[root],), identities=(subject,))
        attestors = {"platform": AttestorFiles(["signature"], certificates=certificates)}
        verifier = load_verifier([good.key.public], attestors=attestors)
        policy = Policy(attestors="platform", required=("provenance", "sbom", "vulnerabilities"))
        return judge(good.place, good.top, policy, verifier, image="app", now=now)

    return verdict


def test_a_signature_by_certificate_is_an_attestors(
    good: Candidate, certified: Callable[..., Verdict], tmp_path: Path
) -> None:
    assert certified().reasons == (
        "attestor platform: no signature of the image is by its keys, and the image has no Notation signature",
    )
    (tmp_path / "leaf.key").write_bytes(LEAF.key_pem)
    (tmp_path / "leaf.pem").write_bytes(LEAF.pem)
    signer = load_certified_signer(tmp_path / "leaf.key", tmp_path / "leaf.pem")
    made = sign_notation(good.place, good.top, signer, now=NOW).descriptor
    verdict = certified()
    assert verdict.allow, verdict.reasons
    assert made.digest in {used.digest for used in verdict.evidence}
    for other in (certified(root="stranger"), certified(subject="x509.subject: C=GB, ST=X, O=Other")):
        assert not other.allow and "no Notation signature is believed" in other.reasons[0]
    expired = certified(now=datetime.now(UTC) + timedelta(days=3))  # and no timestamp says when it was signed
    assert any(each.startswith("attestor platform:") and "valid until" in each for each in expired.reasons)
