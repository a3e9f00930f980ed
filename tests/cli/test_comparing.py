"""``diff``: what changed between two images, by what is attached to them or by their layers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.release import Release
from tests.answers import answered
from tests.chain.fleet import Fleet, start
from tests.doubles.fault_registry import FaultRegistry
from tests.scan.images import push_image


def wheel(name: str, version: str) -> dict[str, str]:
    folder = f"usr/lib/python3/site-packages/{name}-{version}.dist-info"
    return {
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n",
        f"{folder}/RECORD": "",
    }


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as stack:
        fleet = start(tmp_path_factory.mktemp("fleet"), stack)
        place = fleet.chain.place("app")
        push_image(place, [wheel("numpy", "1.0"), wheel("pandas", "2.0")], tag="v1")
        push_image(place, [wheel("numpy", "1.1"), wheel("pandas", "2.0"), wheel("badwheel", "1.0")], tag="v2")
        push_image(place, [wheel("pandas", "2.0"), wheel("badwheel", "1.5")], tag="v3")
        for tag in ("v1", "v2"):
            scanned(fleet, tag)
        yield fleet


def scanned(fleet: Fleet, tag: str) -> Release:
    release = fleet.chain.find_release(f"app:{tag}")
    fleet.chain.sbom(release)
    fleet.chain.vulnerabilities(release)
    return release


def run(fleet: Fleet, *arguments: str, code: int = 0) -> Result:
    found = CliRunner().invoke(main, ["diff", *arguments, "--config", str(fleet.path)])
    assert found.exit_code == code, found.output
    return found


def answer(fleet: Fleet, *arguments: str) -> Any:
    return answered(run(fleet, *arguments, "--json").stdout)


def layers(fleet: Fleet, tag: str) -> dict[str, int]:
    content = fleet.chain.registry("us").get_manifest("team/app", tag).content()
    assert isinstance(content, Manifest)
    return {layer.digest: layer.size for layer in content.layers}


def test_packages_layers_and_findings_of_two_releases(fleet: Fleet) -> None:
    found = answer(fleet, "app:v1", "app:v2")
    rows = [(row["package"], row["change"], row["before"], row["after"]) for row in found["packages"]]
    assert rows == [("badwheel", "added", "", "1.0"), ("numpy", "changed", "1.0", "1.1")]
    old, new = layers(fleet, "v1"), layers(fleet, "v2")
    expected = {"shared": old.keys() & new.keys(), "new": new.keys() - old.keys(), "gone": old.keys() - new.keys()}
    assert {row["layers"]: (row["number"], row["bytes"]) for row in found["layers"]} == {
        kind: (len(digests), sum({**old, **new}[one] for one in digests)) for kind, digests in expected.items()
    }
    assert [(row["finding"], row["component"]) for row in found["findings"]] == [("new", "pkg:pypi/badwheel@1.0")]
    assert found["notes"] == []
    back = answer(fleet, "app:v2", "app:v1")
    assert [row["finding"] for row in back["findings"]] == ["gone"]
    table = run(fleet, "app:v1", "us/team/app:v2").stdout
    for expected_text in (
        "packages: 1 added, 1 changed",
        "numpy",
        "1.1",
        "shared",
        "findings: 1 new, 0 gone",
        "CRITICAL",
    ):
        assert expected_text in table
    assert "they are the same image" in run(fleet, "app:v1", "app:v1").stdout


def test_what_has_an_sbom_is_not_pulled(fleet: Fleet) -> None:
    with FaultRegistry(fleet.chain.registry("us").name) as front:
        found = answer(fleet, f"{front.address}/team/app:v1", f"{front.address}/team/app:v2")
        read = {each.target.rpartition("/")[2] for each in front.requests("GET", r".*/blobs/.*")}
    assert found["packages"] and read and not read & (layers(fleet, "v1").keys() | layers(fleet, "v2").keys())


def test_without_an_sbom_the_layers_are_read_and_that_is_said(fleet: Fleet) -> None:
    found = answer(fleet, "app:v2", "us/team/app:v3")
    assert [side["scanned"] for side in (found["before"], found["after"])] == [False, True]
    rows = [(row["package"], row["change"]) for row in found["packages"]]
    assert rows == [("badwheel", "changed"), ("numpy", "removed")]
    assert (found["findings"], found["findings_in_both"]) == ([], 1), (
        "another version with the same finding is no other"
    )
    assert any("its layers were read" in note for note in found["notes"])
    digest = fleet.chain.registry("us").resolve("team/app", "v3").digest
    assert fleet.chain.registry("us").referrers("team/app", digest) == []


def test_what_only_newer_advisories_know_is_no_change_of_the_image(fleet: Fleet) -> None:
    place = fleet.chain.place("tool")
    push_image(place, [wheel("lateone", "1.0")], tag="v1")
    push_image(place, [wheel("lateone", "1.0"), wheel("numpy", "1.0")], tag="v2")
    first, second = (fleet.chain.find_release(f"tool:{tag}") for tag in ("v1", "v2"))
    fleet.chain.sbom(first), fleet.chain.sbom(second)
    assert not fleet.chain.vulnerabilities(first).rows
    record = json.loads((fleet.folder / "advisories" / "TEST-2026-1.json").read_text())
    record["id"], record["affected"][0]["package"]["name"] = "TEST-2026-2", "lateone"
    (fleet.folder / "advisories" / "TEST-2026-2.json").write_text(json.dumps(record))
    assert fleet.chain.vulnerabilities(second).rows
    found = answer(fleet, "tool:v1", "tool:v2")
    assert (found["findings"], found["findings_in_both"]) == ([], 1)
    assert any("by different advisories" in note for note in found["notes"])


def test_slips_are_told(fleet: Fleet) -> None:
    assert "Check the name" in run(fleet, "app:v1", "app:v9", code=4).stderr
    assert "did you mean `app`" in run(fleet, "ap:v1", "app:v1", code=8).stderr
