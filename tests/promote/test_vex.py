"""VEX at the gate: who is believed, which of several statements counts, and what never passes by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry_pipelines.evidence.attestations import attest, attest_once
from registry_pipelines.evidence.keys import generate_key, load_signer, load_verifier
from registry_pipelines.evidence.predicates import OPENVEX_TYPE, OPENVEX_TYPES
from registry_pipelines.promote.documents import DEFAULT_POLICY, Policy
from registry_pipelines.promote.gate import against_limits
from registry_pipelines.promote.judge import judge
from registry_pipelines.promote.vex import of_policy
from registry_pipelines.scan.openvex import stated_affected, write_openvex
from tests.evidence.parts import NO_LOG, Cosign, Key
from tests.promote.parts import CRITICAL, NOW, Candidate
from tests.scan.reports import finding, report
from tests.scan.test_openvex import document


def says(status: str = "not_affected", **fields: Any) -> dict[str, Any]:
    return {
        "vulnerability": {"name": "CVE-2026-1"},
        "products": [{"@id": "pkg:pypi/jinja2"}],
        "status": status,
        **fields,
    }


def policy_with(*statements: dict[str, Any]) -> Policy:
    vex = of_policy([("team.json", document(*statements))])
    return msgspec.structs.replace(DEFAULT_POLICY, vex_statements=vex)


def judged(policy: Policy) -> list[str]:
    return against_limits(report(CRITICAL), policy, image="app", now=NOW).reasons


def test_a_file_of_the_policy_excuses_and_the_verdict_says_who_said_so(bare: Candidate) -> None:
    policy = policy_with(says())
    bare.attach_everything(CRITICAL)
    bare.sign(policy)
    assert not bare.judge().allow
    verdict = bare.judge(policy)
    assert verdict.allow and verdict.accepted == (
        "vex: CVE-2026-1 PYSEC-2026-1 in pkg:pypi/jinja2@3.1.2: not_affected (vulnerable_code_not_in_execute_path), "
        "says Imaging Team, team.json, of 2026-11-20T09:00:00Z",
    )
    assert verdict.policy_digest != DEFAULT_POLICY.digest


@pytest.mark.parametrize("kind", OPENVEX_TYPES)
def test_what_a_trusted_person_attached_excuses_and_is_evidence_of_the_verdict(bare: Candidate, kind: str) -> None:
    bare.attach_everything(CRITICAL)
    bare.sign(policy_with(says()))
    statement = json.loads(document({**says(), "products": []}))
    made = attest(bare.place, bare.top, kind, statement, bare.key.signer)
    verdict = bare.judge()
    assert verdict.allow and "signed by sha256:" in verdict.accepted[0]
    assert (kind, made.digest) in {(each.predicate_type, each.digest) for each in verdict.evidence}


def test_a_document_that_we_wrote_of_a_report_is_no_evidence(bare: Candidate) -> None:
    """Attached after the verdict, it changes nothing that the verdict rests on."""
    bare.attach_everything()
    bare.sign()
    before = bare.judge()
    stated = stated_affected(bare.report((CRITICAL,)), CRITICAL, author="me", action="x")
    ours = json.loads(write_openvex([stated], author="me", now=NOW))
    attest(bare.place, bare.top, OPENVEX_TYPE, ours, bare.key.signer)
    assert before.allow and bare.judge().same_judgement(before)


def test_what_others_attached_says_nothing(bare: Candidate, other_key: Key) -> None:
    bare.attach_everything(CRITICAL)
    bare.sign(policy_with(says()))
    attest(bare.place, bare.top, OPENVEX_TYPE, json.loads(document(says())), other_key.signer)
    assert not bare.judge().allow


def test_a_broken_document_hides_no_good_one(bare: Candidate) -> None:
    bare.attach_everything(CRITICAL)
    bare.sign(policy_with(says()))
    broken = json.loads(document(says("not_affected", justification="because")))
    attest(bare.place, bare.top, OPENVEX_TYPE, broken, bare.key.signer)
    assert not bare.judge().allow
    assert any("justification" in note for note in bare.judge().notes)
    attest(bare.place, bare.top, OPENVEX_TYPE, json.loads(document(says())), bare.key.signer)
    assert bare.judge().allow


@pytest.mark.parametrize(("status", "passes"), [("fixed", True), ("affected", False), ("under_investigation", False)])
def test_each_status(status: str, passes: bool) -> None:
    outcome = against_limits(report(CRITICAL), policy_with(says(status)), image="app", now=NOW)
    assert outcome.passes is passes
    assert any(
        f": {status} " in text or f": {status}," in text for text in (outcome.accepted if passes else outcome.notes)
    )


def test_the_latest_statement_counts_and_of_one_moment_the_cautious_one() -> None:
    old, new = {"timestamp": "2026-01-01T00:00:00Z"}, {"timestamp": "2026-02-01T00:00:00Z"}
    assert judged(policy_with(says() | old, says("affected") | new))
    assert not judged(policy_with(says("affected") | old, says() | new))
    assert judged(policy_with(says() | new, says("under_investigation") | new))


def test_a_malicious_package_is_excused_by_a_statement_about_its_own_record_alone() -> None:
    evil = report(finding("MALICIOUS", "MAL-1", "CVE-2026-1", component="pkg:pypi/jinja2@3.1.2"))
    assert against_limits(evil, policy_with(says()), image="app", now=NOW).reasons
    own = says(vulnerability={"name": "MAL-1"})
    assert not against_limits(evil, policy_with(own), image="app", now=NOW).reasons


def test_a_changed_file_changes_the_policy_and_a_moved_one_does_not() -> None:
    one = policy_with(says())
    assert one.digest != policy_with(says("fixed")).digest
    assert msgspec.structs.replace(one, vex=("a",)).digest == one.digest


@pytest.mark.parametrize("name", [pytest.param(each, marks=pytest.mark.peer(each)) for each in ("cosign", "cosign2")])
def test_what_cosign_attests_counts_and_it_verifies_ours(
    bare: Candidate, tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    program: Cosign = request.getfixturevalue(name)
    files = generate_key(tmp_path / "person.key", form="cosign", password="x")
    signer, verifier = load_signer(files.private, "x"), load_verifier([bare.key.public, files.public])
    bare.attach_everything(CRITICAL)
    bare.sign(policy_with(says()))
    image = f"{bare.place}@{bare.top.digest}"
    (program.home / "predicate.json").write_bytes(document(says()))
    made = program(
        *("attest", "--key", str(files.private), "--yes", "--type", "openvex", "--predicate", "predicate.json"),
        *(*NO_LOG[name], image),
        password="x",
    )
    assert made.returncode == 0, made.stderr
    verdict = judge(bare.place, bare.top, DEFAULT_POLICY, verifier, image="app", now=NOW)
    assert verdict.allow and "not_affected" in verdict.accepted[0]
    ours = write_openvex(
        [stated_affected(bare.report((CRITICAL,)), CRITICAL, author="me", action="x")], author="me", now=NOW
    )
    attest_once(bare.place, bare.top, OPENVEX_TYPE, msgspec.Raw(ours), signer, att_tag=True)
    told = program.verify_attestation(files.public, OPENVEX_TYPE, image)
    assert told.returncode == 0, told.stderr
    assert judge(bare.place, bare.top, DEFAULT_POLICY, verifier, image="app", now=NOW).allow  # ours counts for nothing
