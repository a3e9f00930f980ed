"""A release that lacks only its hot pack: held, not denied, in every answer of the chain, until the pack is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry_pipelines.chain.keys import Keyring
from registry_pipelines.chain.outcome import outcomes
from registry_pipelines.errors import PromotionHeld
from tests.chain.fleet import Fleet, push
from tests.cli.on_fleet import answer, run
from tests.packs import attach_pack

POLICY = "policies: {default: {required: [sbom, vulnerabilities, signature, hot-pack]}}\nsigning:"
TOLD = "notify: {command: [tee, told.json]}\nsigning:"


def test_what_lacks_its_pack_is_held_everywhere_it_is_told_of_and_goes_when_the_pack_is_there(
    fleet: Fleet, tmp_path: Path
) -> None:
    chain = fleet.reload(("signing:", POLICY), ("signing:", TOLD))
    made = push(chain.place("app"), "v1.0.0")
    shipment = chain.ship("app")
    release = shipment.release
    assert release is not None
    statuses = {step.result.stage: step.status for step in shipment.steps}
    assert (statuses["judge"], statuses["promote"], statuses["replicate:eu"]) == ("ok", "held", "skipped")
    assert shipment.held == "held: recording" and shipment.exit_code == 3 and not shipment.denied_at
    assert "is allowed, and held: recording: nothing was promoted" in shipment.sentence
    assert any("stream record app:v1.0.0" in step for step in shipment.next_steps)
    told = json.loads((fleet.path.parent / "told.json").read_text())
    assert (told["event"], told["stage"], told["what"]) == ("held", "promote", "held: recording")

    said = run(fleet, "ship", "app", code=3).stdout
    assert "is allowed, and held: recording" in said and "stream record app:v1.0.0" in said
    assert answer(fleet, "ship", "app", code=3)["held"] == "held: recording"
    shown = run(fleet, "status", "app", code=3)
    assert "held: recording" in shown.stdout.replace("\n", " ")
    [image] = answer(fleet, "status", "app", code=3)["images"]
    [newer] = image["newer"]
    assert (newer["why"], newer["do"]) == ("held: recording", "")
    [listed] = answer(fleet, "releases", "app")
    assert (listed["verdict"], listed["held"]) == ("allow", "recording")
    assert "has none that a trusted key signed" in listed["reasons"][0]

    page = chain.page(release)
    assert (page.action, page.ok) == ("allowed, held: recording", False)
    assert any("stream record app:v1.0.0" in step for step in page.next_steps)
    found = outcomes(chain, release)
    assert (found.ships, found.waits, found.held, found.problems) == (False, False, "recording", ())
    assert "is allowed, held: recording" in found.sentence()
    with pytest.raises(PromotionHeld):
        chain.promote(release)
    with pytest.raises(PromotionHeld):
        chain.promote_automatically(release)
    assert chain.start_problems(release)

    attach_pack(chain.place("app"), made, Keyring(chain.config).signer("indexer"), tmp_path)
    assert chain.start_problems(release) == []
    assert chain.promote(release).ok
    assert answer(fleet, "releases", "app")[0]["held"] == ""


def test_a_pack_over_the_budget_denies_and_the_page_says_what_to_do(fleet: Fleet, tmp_path: Path) -> None:
    tight = POLICY.replace("hot-pack]", "hot-pack], max_pack_size: 0KiB")
    chain = fleet.reload(("signing:", tight))
    made = push(chain.place("app"), "v1.0.0")
    attach_pack(chain.place("app"), made, Keyring(chain.config).signer("indexer"), tmp_path)
    shipment = chain.ship("app")
    assert shipment.denied_at == "promote" and not shipment.held
    assert any("raise `max_pack_size`" in step for step in shipment.next_steps)
    assert shipment.release is not None
    page = chain.page(shipment.release)
    assert page.action == "denied" and any("raise `max_pack_size`" in step for step in page.next_steps)
