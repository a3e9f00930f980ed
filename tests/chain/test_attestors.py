"""A trust policy of a configuration: "Build System AND Vulnerability Scanner", by the commands that people type."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from registry_pipelines.chain import Chain
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, PromotionDenied
from registry_pipelines.evidence.attestations import attest
from registry_pipelines.evidence.keys import generate_key, load_signer
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE, REPORT_TYPE
from registry_pipelines.scan.predicates import report_predicate
from registry_pipelines.scan.publish import read_report
from registry_pipelines.scan.report import Report
from tests.chain.fleet import Fleet
from tests.promote.parts import CRITICAL

TRUST = """
trust:
  attestors:
    build-system: {attests: [provenance], keys: [ci.pub]}
    vulnerability-scanner: {attests: [sbom, vulnerabilities], keys: [.registry-pipelines/keys/signing.pub]}
    qa: {attests: [approval], keys: [anna.pub]}
policies:
  default: {attestors: build-system AND vulnerability-scanner and qa}
signing:"""


def run(fleet: Fleet, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--config", str(fleet.path)])


def test_a_release_ships_when_its_attestors_vouch_for_it(fleet: Fleet) -> None:
    ci, anna = (generate_key(fleet.folder / f"{name}.key") for name in ("ci", "anna"))
    fleet.chain = fleet.reload(("\nsigning:", TRUST))
    release = fleet.release("v1.0.0")
    assert not fleet.judged(release)
    asked = run(fleet, "verify", "app:v1.0.0", "--json")
    told = json.loads(asked.stdout)["result"]["results"][0]
    assert (asked.exit_code, told["ok"]) == (3, False)
    assert told["reasons"][:2] == [
        "attestor build-system: no provenance is by its keys",
        "attestor qa: nobody approved it as qa",
    ]
    assert told["next_steps"][0].endswith("# with a key of qa")
    assert "build-system: provenance" in told["next_steps"][1]
    place = fleet.chain.place("app")
    subject = place.registry.resolve(place.repository, release.digest)
    predicate = {"buildDefinition": {"buildType": "urn:ci"}, "runDetails": {"builder": {"id": "urn:ci"}}}
    attest(place, subject, PROVENANCE_TYPE, predicate, load_signer(ci.private))
    approved = run(fleet, "approve", "app:v1.0.0", "--as", "qa", "--key", str(anna.private))
    assert approved.exit_code == 0, approved.output
    assert run(fleet, "verify", "app:v1.0.0").exit_code == 0
    with pytest.raises(PromotionDenied, match="verdict"):
        fleet.chain.promote(release)
    assert fleet.chain.judge(release).ok
    assert fleet.chain.promote(release).changed
    assert fleet.chain.replicate(release, "eu").ok
    fleet.chain.sign(release)
    assert not fleet.chain.sign(release).changed


def test_what_an_attestor_found_is_what_status_and_findings_show(fleet: Fleet) -> None:
    scanner = generate_key(fleet.folder / "scan.key")
    trust = "trust: {attestors: {scanner: {attests: [vulnerabilities], keys: [scan.pub]}}}"
    fleet.chain = fleet.reload(("\nsigning:", f"\n{trust}\npolicies: {{default: {{attestors: scanner}}}}\nsigning:"))
    chain, release = fleet.chain, fleet.release("v1.0.0")
    assert not fleet.judged(release)
    place = chain.place("app")
    subject, (_, report) = place.registry.resolve(place.repository, release.digest), read_report(place, release.digest)

    def found(report: Report) -> None:
        attest(place, subject, REPORT_TYPE, report_predicate(report), load_signer(scanner.private))

    found(report)
    assert chain.judge(release).ok
    chain.promote(release)
    [status] = chain.statuses(["app"])
    assert status.ruling == "allow"
    later = f"{datetime.now(UTC) + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    found(msgspec.structs.replace(report, findings=(CRITICAL,), scanned_at=later))
    [status] = Chain(chain.config).statuses(["app"])
    assert status.ruling == "outdated" and any("CVE-2026-1" in reason for reason in status.reasons)
    assert b"CVE-2026-1" in chain.sarif(release)


QA_OF_A = "ci: {attests: [sbom], keys: [a.pub]}, qa: {attests: [approval], keys: [a.pub]}"
A_IS_BOTH = "qa and boss are asked for together, and a.pub counts as both for approval"


@pytest.mark.parametrize(
    ("trust", "policy", "said"),
    [
        ("qa: {attests: [approval], keys: [a.pub]}", "qa and ghost", "ghost"),
        ("qa: {attests: [approval], keys: [a.pub]}", "qa and", "cannot be read: the name of an attestor is wanted"),
        ("qa: {attests: [approval], keys: []}", "qa", "names no `keys`"),
        ("qa: {attests: [], keys: [a.pub]}", "qa", "needs at least 1 entry"),
        ("qa: {attests: [approvals], keys: [a.pub]}", "qa", "is not what an attestor can attest"),
        ("qa: {attests: [approval]}", "qa", "names no `keys`, `keyless` or `certificates`"),
        (
            'qa: {attests: [approval], certificates: {roots: [a.pem], identities: ["*"]}}',
            "qa",
            "sign images and weights alone",
        ),
        ("qa: {attests: [weights], keys: [a.pub]}", "qa", r"qa signs weights, .*write `weights: \{signed: true\}`"),
        ("or: {attests: [approval], keys: [a.pub]}", "or", "is no name"),
        ('qa: {attests: ["urn:registry-pipelines:promotion:v1"], keys: [a.pub]}', "qa", "our own stages"),
        ('qa: {attests: ["https://slsa.dev/verification_summary/v1"], keys: [a.pub]}', "qa", "our own stages"),
        (f"{QA_OF_A}, boss: {{attests: [sbom, approval], keys: [a.pub, b.pub]}}", "ci or (qa and boss)", A_IS_BOTH),
    ],
)
def test_what_is_no_trust_policy(tmp_path: Path, trust: str, policy: str, said: str) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(
        f"registries: {{r: {{kind: embedded, port: 5999}}}}\ntrust: {{attestors: {{{trust}}}}}\n"
        f"policies: {{default: {{attestors: {policy}}}}}\n"
    )
    with pytest.raises(ConfigInvalid, match=said):
        load(path, {})


def test_teams_may_share_a_member_where_one_of_them_is_enough(tmp_path: Path) -> None:
    """And a channel that wants both is told, too; of two files with one key in them ``config check`` says it."""
    path = tmp_path / "registry-pipelines.yaml"
    made = generate_key(tmp_path / "a.key")
    (tmp_path / "copy.pub").write_bytes(made.public.read_bytes())
    text = (
        "registries: {{r: {{kind: embedded, port: 5999}}}}\n"
        "signing: {{key: a.key}}\n"
        "trust: {{attestors: {{qa: {{attests: [approval], keys: [a.pub]}},"
        " security: {{attests: [approval], keys: [{key}]}}}}}}\n"
        "policies: {{default: {{attestors: qa or security}}}}\n"
        "images: {{app: {{registry: r, repository: app, promote: auto,"
        " channels: [staging, {{name: prod, approvals: {approvals}}}]}}}}\n"
    )
    path.write_text(text.format(key="a.pub", approvals="[qa]"))
    assert load(path, {}).policies["default"].attestors == "qa or security"
    path.write_text(text.format(key="a.pub", approvals="[qa, security]"))
    with pytest.raises(
        ConfigInvalid, match=r"images\.app\.channels: qa and security are asked for together, and a.pub"
    ):
        load(path, {})
    path.write_text(text.format(key="copy.pub", approvals="[qa, security]"))
    assert load(path, {}).trust.attestors
    with pytest.raises(
        ConfigInvalid, match=r"the key sha256:[0-9a-f]+ \(a.pub, copy.pub\) counts as both for approval"
    ):
        load(path, {}, look=True)
