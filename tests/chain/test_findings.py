"""``findings``, and VEX files of a policy, as a user has them."""

from __future__ import annotations

import json

import jsonschema
import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from registry_pipelines.errors import InputError
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet
from tests.scan.test_openvex import document, schema

STATED = {"vulnerability": {"name": "TEST-2026-1"}, "products": [{"@id": "pkg:pypi/badwheel"}]}


@pytest.fixture
def bad(fleet: Fleet) -> Release:
    release = fleet.release("v1", package="badwheel")
    for stage in (fleet.chain.sbom, fleet.chain.vulnerabilities, fleet.chain.sign):
        stage(release)
    return release


def run(fleet: Fleet, *words: str) -> Result:
    return CliRunner().invoke(main, ["findings", "app:v1", "--config", str(fleet.path), *words])


def test_sarif_and_openvex_of_a_release(fleet: Fleet, bad: Release) -> None:
    found = json.loads(run(fleet).stdout)
    jsonschema.Draft7Validator(schema("sarif-schema-2.1.0.json.gz")).validate(found)
    assert [each["ruleId"] for each in found["runs"][0]["results"]] == ["TEST-2026-1"]
    path = fleet.folder / "app.openvex.json"
    told = run(fleet, "--format", "openvex", "--author", "me", "--output", str(path), "--json")
    assert json.loads(told.stdout)["result"]["bytes"] == path.stat().st_size
    [statement] = json.loads(path.read_text())["statements"]
    assert (statement["status"], statement["action_statement"]) == ("affected", "Update to 2.0.")
    for attached in ("OpenVEX document attached", "unchanged"):
        assert attached in run(fleet, "--format", "openvex", "--author", "me", "--attest").stdout
    assert not fleet.chain.judge(bad).ok


def test_a_vex_file_lets_a_release_ship_until_it_says_otherwise(fleet: Fleet, bad: Release) -> None:
    assert not fleet.chain.judge(bad).ok
    (fleet.folder / "team.json").write_bytes(document(STATED))
    chain = fleet.reload(("signing:", "policies: {default: {vex: [team.json]}}\nsigning:"))
    assert chain.vulnerabilities(bad).ok and chain.judge(bad).ok
    chain.promote(bad)
    suppressed = json.loads(chain.sarif(bad))["runs"][0]["results"][0]["suppressions"]
    assert suppressed[0]["justification"].startswith("vex: TEST-2026-1 in pkg:pypi/badwheel@1.0: not_affected")
    [statement] = json.loads(chain.openvex(bad))["statements"]
    assert statement["status"] == "not_affected" and bad.digest.hex in statement["products"][0]["@id"]
    assert chain.require_promoted(bad)
    (fleet.folder / "team.json").write_bytes(document({**STATED, "status": "affected"}))
    assert not chain.judge(bad).ok
    (fleet.folder / "team.json").write_bytes(b"{}")
    with pytest.raises(InputError, match="OpenVEX document is not valid"):
        chain.judge(bad)
