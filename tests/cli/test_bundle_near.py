"""Both sides of an air gap on the command line: bundles are made, loaded, confirmed, and the next one is small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.mirror.bundle.format import read_bundle
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.evidence.conftest import make_key
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import SHARED, publish, whole
from tests.scan.images import push_image

__all__ = ["make_key"]

MakeKey = Callable[[str], Key]
NEAR = """
state: {here}/near-state
registries:
  internet: {{kind: layout, root: {here}/internet}}
  dmz: {{kind: layout, root: {here}/dmz}}
  private: {{kind: layout, root: {here}/unreachable}}
mirrors:
  upstreams:
    via: dmz
    to: private
    prefix: mirrored
    across: bundle
    upstreams:
      - {{image: internet/library/app, tags: [latest]}}
      - {{image: internet/library/tool}}
      - {{image: internet/library/many}}
    artifacts: ["dmz/data/advisories:latest"]
    bundle: {{receipts: [{far.public}], part_size: 64KiB, tool_wheels: {here}/wheels}}
signing: {{promoter: {{key: {near.path}}}}}
"""
FAR = """
state: {here}/far-state
registries:
  private: {{kind: layout, root: {here}/private}}
mirrors:
  upstreams: {{to: private, across: bundle, prefix: mirrored, bundle: {{signers: [{near.public}]}}}}
signing: {{promoter: {{key: {far.path}}}}}
"""


class Gap:
    """Both sides, and what is carried between them."""

    def __init__(self, here: Path, make_key: MakeKey) -> None:
        self.here = here
        self.internet, self.dmz, self.private = (LayoutRegistry(here / name) for name in ("internet", "dmz", "private"))
        keys = {"near": make_key("near"), "far": make_key("far")}
        for name, text in (("near", NEAR), ("far", FAR)):
            (here / f"{name}.yaml").write_text(text.format(here=here, **keys))
        publish(self.internet, 1)
        data = Place(self.dmz, "data/advisories")
        push_image(data, [{"advisories.json": "of today"}], tag="latest")
        self.near("mirror", "upstreams")

    def run(self, side: str, *words: object, code: int = 0) -> Result:
        words = (*words, "--config", self.here / f"{side}.yaml")
        found = CliRunner().invoke(main, [str(each) for each in words], env={"COLUMNS": "250"})
        assert found.exit_code == code, found.output
        return found

    def near(self, *words: object, code: int = 0) -> Any:
        return answered(self.run("near", *words, "--json", code=code).stdout)

    def far(self, *words: object, code: int = 0) -> Any:
        return answered(self.run("far", *words, "--json", code=code).stdout)


@pytest.fixture
def gap(tmp_path: Path, make_key: MakeKey) -> Gap:
    return Gap(tmp_path, make_key)


def test_a_bundle_crosses_and_the_next_one_brings_what_is_new_alone(gap: Gap) -> None:
    disk = gap.here / "disk"
    made = gap.near("bundle", "create", "upstreams", "--to", disk)
    assert made["facts"]["full"] and made["facts"]["images"] == 4 and made["ok"]
    assert not (gap.here / "unreachable").exists()  # the private registry is behind the gap
    assert gap.near("bundle", "show", disk)["facts"]["signature"] == "believed"  # by its own key, too
    shown = gap.far("bundle", "show", disk)
    assert {row["repository"] for row in shown["rows"]} == {
        "mirrored/library/app", "mirrored/library/tool", "mirrored/library/many", "mirrored/data/advisories"
    }  # fmt: skip
    assert shown["facts"]["signature"] == "believed" and all(row["there"] for row in shown["tables"]["parts"])
    gap.far("bundle", "load", "upstreams", disk, "--receipt", gap.here / "back.json")
    there = whole(gap.private)
    assert there.pop("mirrored/data/advisories")
    assert there == whole(gap.dmz, list(there))
    listed = gap.near("bundle", "list", "upstreams", "--receipt", gap.here / "back.json")
    assert [row["confirmed_by"] != "" for row in listed["rows"]] == [True]

    tool = Place(gap.internet, "library/tool")
    push_image(tool, [SHARED, {"tool/main": "one line more"}], tag="2")
    gap.near("mirror", "upstreams")
    second = gap.near("bundle", "create", "upstreams", "--to", gap.here / "second")
    assert not second["facts"]["full"] and second["facts"]["images"] == 5
    document = read_bundle((gap.here / "second/upstreams-0002.bundle.json").read_bytes()).bundle
    assert sum(not blob.media_type for blob in document.blobs) == 2  # the changed layer, and its config
    assert {need.number for need in document.needs} == {1}
    assert f"confirms {len(document.needs)} blobs" in second["notes"][0]
    gap.far("bundle", "load", "upstreams", gap.here / "second", "--receipt", gap.here / "back.json")
    there = whole(gap.private)
    assert there.pop("mirrored/data/advisories")
    assert there == whole(gap.dmz, list(there)) and "2" in there["mirrored/library/tool"][0]


def test_what_the_dmz_lost_is_left_out_and_said(gap: Gap) -> None:
    digest = gap.dmz.resolve("mirrored/library/tool", "1").digest
    for path in (gap.here / "dmz").rglob(digest.partition(":")[2]):
        path.unlink()
    made = gap.near("bundle", "create", "upstreams", "--to", gap.here / "disk", code=6)
    assert made["facts"]["images"] == 3 and made["facts"]["problems"] == 1
    assert "library/tool" in made["reasons"][0] and not made["ok"]
    document = read_bundle((gap.here / "disk/upstreams-0001.bundle.json").read_bytes()).bundle
    assert [(each.kind, "library/tool" in each.image) for each in document.left_out] == [("failed", True)]


def test_parts_are_made_again_by_number_and_by_request(gap: Gap) -> None:
    big = Place(gap.dmz, "mirrored/library/tool")
    push_image(big, [{"weights": bytes(range(256)) * 2000}], tag="big")
    disk, more = gap.here / "disk", gap.here / "more"
    made = gap.near("bundle", "create", "upstreams", "--to", disk)
    first = disk / made["tables"]["parts"][0]["part"]
    content = first.read_bytes()
    first.write_bytes(b"x" + content[1:])
    gap.far("bundle", "verify", disk, "--request", gap.here / "again.json", code=6)
    again = gap.near("bundle", "create", "upstreams", "--request", gap.here / "again.json", "--to", more)
    assert [row["part"] for row in again["rows"]] == [first.name] and (more / first.name).read_bytes() == content
    gap.near("bundle", "create", "upstreams", "--again", 1, "--parts", "1-1", "--to", gap.here / "third")
    assert (gap.here / "third" / first.name).read_bytes() == content
    gap.far("bundle", "load", "upstreams", disk, more)
    for words, said in (
        (("--again", 1, "--parts", "x"), "names no parts"),
        (("--again", 1, "--parts", "7-3"), "names no parts"),
        (("--again", 1, "--parts", "1-99999999"), "names no parts"),
        (("--again", 1, "--parts", "99"), "no part 99"),
        (("--again", 1, "--parts", "90-150"), "no part 90, 91, 92, 93, 94 and others"),
        (("--parts", "1"), "--again NUMBER --parts 3,7"),
        (("--again", 1), "--again NUMBER --parts 3,7"),
        (("--again", 1, "--parts", "1", "--full"), "nothing that makes a new bundle"),
        (("--again", 5, "--parts", "1"), "no bundle 5 of upstreams is remembered here; known: 1"),
    ):
        refused = gap.run("near", "bundle", "create", "upstreams", *words, "--to", more, code=8)
        assert said in refused.output
    asked = json.loads((gap.here / "again.json").read_text())
    asked["bundles"][0]["line"] = "f" * 32
    (gap.here / "again.json").write_text(json.dumps(asked))
    words = ("bundle", "create", "upstreams", "--request", gap.here / "again.json", "--to", more)
    assert "another line" in gap.run("near", *words, code=8).output


def test_the_tool_comes_along(gap: Gap) -> None:
    words = ("bundle", "create", "upstreams", "--with-tool", "--to", gap.here / "disk")
    assert "no wheel of registry-pipelines" in gap.run("near", *words, code=8).output
    (gap.here / "wheels").mkdir()
    (gap.here / "wheels" / "registry_pipelines-1.0-py3-none-any.whl").write_bytes(b"a wheel")
    (gap.here / "disk").mkdir()
    (gap.here / "disk/tool").symlink_to(gap.here / "wheels")
    assert "is a link, and leads away" in gap.run("near", *words, code=8).output
    (gap.here / "disk/tool").unlink()
    gap.near(*words)
    assert (gap.here / "disk/tool/registry_pipelines-1.0-py3-none-any.whl").read_bytes() == b"a wheel"
    assert "registry_pipelines-1.0" in (gap.here / "disk/tool/SHA256SUMS").read_text()
    assert gap.far("bundle", "show", gap.here / "disk")["tables"]["bundles"][0]["tool"] == 2
    assert gap.far("bundle", "verify", gap.here / "disk")["ok"]


def test_receipts_of_others_and_bundles_of_the_wrong_side(gap: Gap, make_key: MakeKey) -> None:
    disk = gap.here / "disk"
    gap.near("bundle", "create", "upstreams", "--to", disk)
    gap.far("bundle", "load", "upstreams", disk, "--receipt", gap.here / "back.json")
    near = (gap.here / "near.yaml").read_text().replace(str(make_key("far").public), str(make_key("other").public))
    (gap.here / "near.yaml").write_text(near)
    words = ("bundle", "create", "upstreams", "--to", gap.here / "second", "--receipt", gap.here / "back.json")
    assert "trusted key" in gap.run("near", *words, code=3).output
    assert not (gap.here / "second").exists()
    refused = gap.run("far", "bundle", "create", "upstreams", "--to", disk, code=8)
    assert "this is the far side's configuration" in refused.output


def test_show_needs_no_key_and_says_so(gap: Gap, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(gap.here)  # where there is no configuration
    disk = gap.here / "disk"
    gap.near("bundle", "create", "upstreams", "--to", disk)
    for keys, word in ((), "not asked"), (("--key", make_key("near").public), "believed"), (
        ("--key", make_key("far").public), "not believed"
    ):  # fmt: skip
        words = [str(each) for each in ("bundle", "show", disk, *keys, "--json")]
        found = CliRunner().invoke(main, words)
        assert found.exit_code == 0 and answered(found.stdout)["facts"]["signature"] == word


def test_evidence_that_came_later_is_in_the_next_bundle(gap: Gap) -> None:
    gap.near("bundle", "create", "upstreams", "--to", gap.here / "disk")
    gap.far("bundle", "load", "upstreams", gap.here / "disk", "--receipt", gap.here / "back.json")
    many = Place(gap.internet, "library/many")
    subject = many.registry.resolve(many.repository, "1")
    late = attach(many, subject=subject, artifact_type="text/late", content=b"late", media_type="text/plain")
    gap.near("mirror", "upstreams")
    gap.near("bundle", "create", "upstreams", "--to", gap.here / "second", "--receipt", gap.here / "back.json")
    gap.far("bundle", "load", "upstreams", gap.here / "second")
    found = gap.private.referrers("mirrored/library/many", subject.digest)
    assert late.digest in {each.digest for each in found}
