"""The far side of an air gap on the command line: verify, load, receipt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from registry_pipelines.mirror.bundle.receipt import read_receipt_file
from registry_pipelines.registry.layout import LayoutRegistry
from tests.answers import answered
from tests.evidence.conftest import make_key
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import publish, whole
from tests.mirror.bundle.written import Line

__all__ = ["make_key"]

MakeKey = Callable[[str], Key]
CONFIG = """
state: {here}/state
registries:
  private: {{kind: layout, root: {here}/private}}
mirrors:
  upstreams: {{to: private, across: bundle, bundle: {{signers: [{near}]}}}}
signing: {{promoter: {{key: {far}}}}}
"""


class Side:
    """A far side's configuration and what is on its desk."""

    def __init__(self, here: Path, make_key: MakeKey) -> None:
        self.here, self.near, self.far = here, make_key("near"), make_key("far")
        self.upstreams = LayoutRegistry(here / "near")
        self.private = LayoutRegistry(here / "private")
        self.disk = here / "disk"
        text = CONFIG.format(here=here, near=self.near.public, far=self.far.path)
        (here / "far.yaml").write_text(text)

    def run(self, *words: object, code: int = 0) -> Result:
        words = ("bundle", *words, "--config", self.here / "far.yaml")
        found = CliRunner().invoke(main, [str(each) for each in words], env={"COLUMNS": "220"})
        assert found.exit_code == code, found.output
        return found

    def answer(self, *words: object, code: int = 0) -> Any:
        return answered(self.run(*words, "--json", code=code).stdout)


@pytest.fixture
def side(tmp_path: Path, make_key: MakeKey) -> Side:
    return Side(tmp_path, make_key)


def test_verify_load_and_receipt(side: Side) -> None:
    Line(side.near.signer).write(side.disk, publish(side.upstreams, 1))
    seen = side.answer("verify", side.disk)
    assert [(row["state"], row["loaded"], row["lacking"]) for row in seen["rows"]] == [("whole", "no", 0)]
    assert seen["rows"][0]["signed_by"] == side.near.signer.key_id
    done = side.answer("load", "upstreams", side.disk, "--receipt", side.here)
    assert done["changed"] and whole(side.private) == whole(side.upstreams)
    assert {row["state"] for row in done["rows"]} == {"copied"}
    receipt = read_receipt_file(side.here / "upstreams-receipt-0001.json", verifier=side.far.verifier)
    assert receipt.receipt.loaded[0].number == 1
    again = side.answer("load", "upstreams", side.disk)
    assert not again["changed"] and "all was there" in again["action"]
    assert side.answer("verify", side.disk)["rows"][0]["loaded"] == "yes"
    told = side.answer("receipt", "upstreams", "--to", side.here / "back.json")
    assert told["facts"]["sequence"] == 2 and (side.here / "back.json").exists()
    side.run("receipt", "upstreams", "--to", side.here / "media" / "back")  # a folder that is not there yet
    assert (side.here / "media" / "back" / "upstreams-receipt-0003.json").exists()
    assert "whole" in side.run("verify", side.disk).stdout and "copied" not in side.run("verify", side.disk).stdout


def test_what_is_damaged_is_asked_for_again_and_nothing_is_loaded(side: Side) -> None:
    bundle = Line(side.near.signer).write(side.disk, publish(side.upstreams, 1), part_size=5_000)
    (side.disk / bundle.parts[2].name).unlink()
    seen = side.answer("verify", side.disk, "--request", side.here / "again.json", code=6)
    assert f"{bundle.parts[2].name} (missing)" in seen["reasons"][0]
    assert "bundle create upstreams --again 1 --parts 3 --to DIR" in seen["next_steps"][1]
    [wanted] = json.loads((side.here / "again.json").read_text())["bundles"]
    assert wanted == {"mirror": "upstreams", "line": bundle.line, "number": 1, "parts": [3], "tool": []}
    refused = side.run("load", "upstreams", side.disk, code=6)
    assert bundle.parts[2].name in refused.output and "nothing was written" in refused.output
    assert not (side.here / "private").exists()


def test_a_bundle_by_another_signer_is_refused(side: Side, make_key: MakeKey) -> None:
    Line(make_key("other").signer).write(side.disk, publish(side.upstreams, 1))
    assert side.answer("verify", side.disk, code=3)["rows"][0]["state"] == "not believed"
    assert "trusted key" in side.run("load", "upstreams", side.disk, code=3).output
    assert not (side.here / "private").exists()
    other = make_key("other").public
    assert side.answer("verify", side.disk, "--key", other)["ok"]


def test_one_of_several_bundles_is_chosen_by_number(side: Side) -> None:
    line = Line(side.near.signer)
    for version in (1, 2):
        bundle = line.write(side.disk, publish(side.upstreams, version))
    (side.disk / bundle.parts[0].name).unlink()
    assert "--number" in side.run("load", "upstreams", side.disk, code=6).output
    assert side.answer("load", "upstreams", side.disk, "--number", "1")["facts"]["bundles"] == 1
    assert "there are: upstreams-0001" in side.run("load", "upstreams", side.disk, "--number", "7", code=8).output


def test_a_folder_without_a_bundle_and_one_that_is_not_there(side: Side) -> None:
    side.disk.mkdir()
    assert "there is no bundle" in side.run("verify", side.disk, code=8).output
    assert "cannot be read" in side.run("load", "upstreams", side.here / "none", code=8).output
    (side.disk / "upstreams-0001.bundle.json").write_bytes(b"{}")
    side.run("verify", side.disk, code=3)


def test_without_a_configuration_keys_are_given(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    Line(side.near.signer).write(side.disk, publish(side.upstreams, 1))
    words = ["bundle", "verify", str(side.disk), "--json"]
    monkeypatch.chdir(side.disk)
    nobody = CliRunner().invoke(main, words)
    assert nobody.exit_code == 8 and "nobody is believed" in nobody.output
    assert CliRunner().invoke(main, [*words, "--key", str(side.near.public)]).exit_code == 0


def test_a_bundle_writes_below_the_prefix_of_this_side_alone(side: Side) -> None:
    config = side.here / "far.yaml"
    config.write_text(config.read_text().replace("to: private,", "to: private, prefix: mirrored,"))
    line = Line(side.near.signer)
    line.write(side.disk, publish(side.upstreams, 1))
    refused = side.run("load", "upstreams", side.disk, code=8).output
    assert "upstreams-0001: library/app" in refused and "nothing was written" in refused
    assert not (side.here / "private").exists()
    line.write(side.here / "second", publish(side.upstreams, 1), prefix="mirrored")
    assert side.answer("load", "upstreams", side.here / "second")["changed"]
    assert list(side.private.repositories()) == [
        "mirrored/library/app",
        "mirrored/library/many",
        "mirrored/library/tool",
    ]
    line.write(side.here / "third", publish(side.upstreams, 1), prefix="mirrored/rp-quarantine")
    assert "rp-quarantine" in side.run("load", "upstreams", side.here / "third", code=8).output
