"""What a policy says of libraries that nothing brings: signed provenance counts, and what it does not say denies."""

from __future__ import annotations

from typing import Any

import pytest

from registry_pipelines.build.links.report import LinkFinding, LinkReport, link_parameters
from registry_pipelines.evidence.attestations import attest_statement
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE
from registry_pipelines.evidence.statements import write_statement
from registry_pipelines.promote.documents import Policy, Verdict
from tests.evidence.parts import Key
from tests.promote.parts import Candidate


def finding(severity: Any) -> LinkFinding:
    return LinkFinding(
        severity=severity,
        kind="missing",
        needs=("libcudart.so.12",),
        owners=("xformers 0.0.35",),
        files=("/x.so",),
        count=1,
        why="needs it",
        do="take another",
    )


def said(candidate: Candidate, *findings: LinkFinding) -> dict[str, Any]:
    reports = {
        str(child.platform): LinkReport(platform=str(child.platform), checked=3, libraries=2, findings=findings)
        for child in candidate.children
    }
    return link_parameters(reports)


def attest(candidate: Candidate, links: Any, key: Key | None = None) -> None:
    predicate = {"buildDefinition": {"internalParameters": {"links": links}}}
    subjects = (candidate.top.digest, *(child.digest for child in candidate.children))
    statement = write_statement(PROVENANCE_TYPE, predicate, subjects=subjects, name="app")
    attest_statement(candidate.place, candidate.top, statement, (key or candidate.key).signer)


def verdict(candidate: Candidate, links: Any) -> Verdict:
    return candidate.judge(Policy(required=(), links=links))


def test_a_policy_that_says_nothing_asks_nothing(bare: Candidate) -> None:
    attest(bare, said(bare, finding("certain")))
    assert verdict(bare, None).allow
    assert Policy(links=None).digest == Policy().digest != Policy(links="likely").digest


@pytest.mark.parametrize(
    ("found", "denies"), [("certain", ("certain", "likely")), ("likely", ("likely",)), ("optional", ())]
)
def test_the_severity_that_is_told_denies_and_worse(bare: Candidate, found: str, denies: tuple[str, ...]) -> None:
    attest(bare, said(bare, finding(found)))
    for policy in ("certain", "likely"):
        result = verdict(bare, policy)
        assert result.allow == (policy not in denies), result.reasons
        assert PROVENANCE_TYPE in {each.predicate_type for each in result.evidence}
    if denies:
        (reason, *_) = verdict(bare, "likely").reasons
        assert "cannot be loaded: xformers 0.0.35 needs libcudart.so.12" in reason


def test_what_no_trusted_provenance_says_is_denied(bare: Candidate, other_key: Key) -> None:
    attest(bare, said(bare), other_key)
    result = verdict(bare, "certain")
    assert all("no signed provenance says what is missing" in reason for reason in result.reasons)
    assert {step.kind for step in result.steps} >= {"provenance"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda links: {},
        lambda links: [],
        lambda links: {name: {**each, "certain": True} for name, each in links.items()},
        lambda links: {name: {**each, "likely": "0"} for name, each in links.items()},
        lambda links: dict(list(links.items())[:1]),
    ],
)
def test_half_an_answer_is_none(bare: Candidate, damage: Any) -> None:
    attest(bare, damage(said(bare)))
    assert not verdict(bare, "certain").allow


def test_of_two_statements_the_worse_one_counts(bare: Candidate) -> None:
    attest(bare, said(bare))
    assert verdict(bare, "certain").allow
    attest(bare, said(bare, finding("certain")))
    assert not verdict(bare, "certain").allow
