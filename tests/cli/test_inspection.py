"""`inspect` of images that clients start differently, or not at all; documents of several images of one platform."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.choices import CLIENTS
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.warning_kinds import KINDS
from tests.answers import answered
from tests.chain.conftest import fleet
from tests.chain.entries import AMD64, NOWHERE, V2, entry, index, release
from tests.chain.fleet import Fleet
from tests.scan.images import dist_info, make_tar

__all__ = ["fleet"]
ROOT = Path(__file__).parents[2]


def run(fleet: Fleet, *arguments: str) -> Result:
    found = CliRunner().invoke(main, [*arguments, "--config", str(fleet.path)], env={"COLUMNS": "400"})
    assert found.exit_code == 0, found.output
    return found


def answer(fleet: Fleet, *arguments: str) -> Any:
    return answered(run(fleet, *arguments, "--json").stdout)


def test_every_entry_and_who_starts_which(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    server = Platform(os="windows", architecture="amd64", os_version="10.0.20348")
    lines = [
        entry(place, "two", platform=V2),
        entry(place, "one"),
        entry(place, "three", platform=server),
        entry(place, "four", platform=NOWHERE, artifact_type=media_types.SOCI_V2, layer_type=media_types.IN_TOTO),
    ]
    nested = index(place, lines[1])
    index(place, *lines, nested, tag="v1.0.0")
    found = answer(fleet, "inspect", "us/team/app:v1.0.0")
    assert [(row["platform"], row["os_version"], row["kind"], row["digest"]) for row in found["entries"]] == [
        ("linux/amd64/v2", "", "image", lines[0].digest),
        ("linux/amd64", "", "image", lines[1].digest),
        ("linux/amd64", "", "image", lines[1].digest),
        ("windows/amd64", "10.0.20348", "image", lines[2].digest),
        ("unknown/unknown", "", "attestation", lines[3].digest),
        ("none", "", "index", nested.digest),
    ]
    assert all(row["bytes"] > 100 for row in found["entries"])
    assert {row["platform"] for row in found["starts"]} == {"linux/amd64"}
    starts = {name: row["starts"] for row in found["starts"] for name in row["clients"].split("; ")}
    assert starts["containerd"] == lines[1].digest and starts["crane"] == lines[0].digest
    assert {row["warning"] for row in found["warnings"]} == {"several-images", "platform-disagrees"}
    assert all(row["source"] and row["do"] for row in found["warnings"])
    shown = run(fleet, "inspect", "us/team/app:v1.0.0").stdout
    assert "who starts what" in shown and "several-images" in shown and "windows/amd64" in shown


def test_footers_are_read_when_they_are_asked_for(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    made = entry(place, "one", layer_notes={TOC_ANNOTATION: "sha256:" + "1" * 64})
    stored = place.registry.get_manifest(place.repository, made.digest)
    place.registry.put_manifest(place.repository, stored, tag="v1")
    assert not answer(fleet, "inspect", "us/team/app:v1")["warnings"]
    [warning] = answer(fleet, "inspect", "us/team/app:v1", "--footers")["warnings"]
    assert warning["warning"] == "estargz-no-footer"


def test_several_images_of_one_platform_have_documents_of_their_own(fleet: Fleet, tmp_path: Path) -> None:
    place = fleet.chain.place("app")
    index(place, entry(place, "one"), entry(place, "two"), entry(place, "three", platform=V2), tag="v1.0.0")
    for target in ("us/team/app:v1.0.0", "app:v1.0.0"):
        folder = tmp_path / target.partition("/")[0].partition(":")[0]
        rows = answer(fleet, "sbom", target, "--output", str(folder))
        assert len({row["image"] for row in rows["rows"]}) == 3
        documents = [json.loads(each.read_bytes()) for each in folder.iterdir()]
        assert {item["name"] for each in documents for item in each["components"]} == {"one", "two", "three"}
        assert len(documents) == 3


def test_a_policy_denies_warnings_it_names_and_the_verdict_notes_the_others(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    several = release(place, entry(place, "goodwheel", platform=V2), entry(place, "goodwheel2", platform=AMD64))
    made = fleet.chain.sbom(several)
    assert made.facts["warnings"] == 1 and [row["warning"] for row in made.tables["warnings"]] == ["several-images"]
    for stage in (fleet.chain.vulnerabilities, fleet.chain.sign):
        stage(several)
    allowed = fleet.chain.judge(several)
    assert allowed.ok and [text[:24] for text in allowed.notes] == ["warning several-images: "]
    stricter = fleet.reload(("signing:", "policies: {default: {deny_warnings: [several-images]}}\nsigning:"))
    denied = stricter.judge(several)
    assert not denied.ok
    assert [reason[:24] for reason in denied.reasons] == ["warning several-images: "]


def test_a_policy_that_names_no_warning_is_refused(fleet: Fleet) -> None:
    with pytest.raises(Exception, match="sha512-layer"):
        fleet.reload(("signing:", "policies: {default: {deny_warnings: [sha-layer]}}\nsigning:"))


def test_a_copy_of_the_same_files_compressed_otherwise_is_told_from_another_image(fleet: Fleet) -> None:
    """As another builder's Go compresses, or as Docker pushes what it pulled."""
    source, target = (Place(fleet.chain.registry(name), "some/app") for name in ("us", "eu"))
    files = make_tar(dist_info("goodwheel", "1.0"))
    for place, tag, content, level in (
        (source, "again", files, 1),
        (target, "again", files, 9),
        (source, "other", files, 1),
        (target, "other", make_tar(dist_info("badwheel", "1.0")), 1),
    ):
        layer = push_blob(place, gzip.compress(content, level, mtime=0), media_type=media_types.OCI_LAYER_GZIP)
        shape = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [str(Digest.of(content))]}}
        config = push_blob(place, json.dumps(shape).encode(), media_type=media_types.OCI_CONFIG)
        made = Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=(layer,))
        place.registry.put_manifest(place.repository, manifest_bytes(made), tag=tag)
    for tag, same in (("again", ["again"]), ("other", [])):
        where = (f"us/some/app:{tag}", f"eu/some/app:{tag}")
        found = CliRunner().invoke(main, ["verify-copy", *where, "--config", str(fleet.path), "--json"])
        assert found.exit_code == 6 and answered(found.stdout)["same_files"] == same


def test_the_page_lists_every_warning_and_client() -> None:
    page = (ROOT / "docs/variants.md").read_text()
    for name, kind in KINDS.items():
        assert f"| `{name}` | {kind.text} | {kind.do} |" in page
    for client in CLIENTS:
        assert f"| {client.name} |" in page and client.source in page
