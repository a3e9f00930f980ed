"""Stored plans: what an approval may name, and what is refused. Through the command line, on the embedded registry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.evidence.keys import generate_key
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.answers import document
from tests.collect.test_retention import push

RULE = "{registry: here, keep_newest: 1, keep_days: 0}"


@dataclass(frozen=True)
class Shop:
    """A registry with three images of which one stays, and a configuration beside it."""

    folder: Path
    place: Place

    def configure(self, rules: str = f"[{RULE}]", more: str = "signing: {generate: true}\n", name: str = "rp") -> Path:
        path = self.folder / f"{name}.yaml"
        here = f'{{kind: distribution, host: "{self.place.registry.name}", plain_http: true}}'
        path.write_text(f"registries:\n  here: {here}\nretention: {rules}\n{more}")
        return path

    def collect(self, *words: str, code: int = 0, config: str = "rp") -> Any:
        path = self.folder / f"{config}.yaml"
        done = CliRunner().invoke(main, ["collect", *words, "--json", "--config", str(path)])
        assert done.exit_code == code, done.output
        found = document(done.stdout)
        return found["error"] if found["error"] else found["result"]["results"]

    @property
    def tags(self) -> list[str]:
        return sorted(self.place.registry.tags(self.place.repository))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with EmbeddedServer(tmp_path / "content") as server:
        place = Place(DistributionRegistry(server.address), "team/app")
        for number in range(3):
            push(place, f"v{number}", days_ago=100 - number)
        made = Shop(tmp_path, place)
        made.configure()
        yield made


def test_a_plan_is_kept_and_applied_by_its_digest_once(shop: Shop) -> None:
    [made] = shop.collect("plan", "here")
    [applied] = shop.collect("apply", "here", made["digest"])
    assert (applied["facts"]["deleted"], shop.tags) == (2, ["v2"])
    push(shop.place, "v0", days_ago=100)
    [again] = shop.collect("apply", "here", made["digest"])
    assert (again["action"], again["changed"], again["facts"]["deleted_before"]) == ("unchanged", False, 2)
    assert "was applied at" in again["notes"][0] and shop.tags == ["v0", "v2"], "what was pushed since is nobody's plan"


def test_a_saved_plan_is_refused_without_its_signature(shop: Shop) -> None:
    plan = shop.folder / "plan.json"
    shop.collect("plan", "here", "--save", str(plan))
    signature = plan.with_name("plan.json.sig")
    kept = signature.read_bytes()
    signature.unlink()
    assert shop.collect("apply", "here", str(plan), code=3)["what"] == "the plan is not signed"
    signature.write_bytes(b"{}")
    assert shop.collect("apply", "here", str(plan), code=3)["error"] == "SignatureInvalid"
    signature.write_bytes(kept)
    text = plan.read_text()
    assert '"reasons":["number 1 of the newest 1"]' in text
    plan.write_text(text.replace('"reasons":["number 1 of the newest 1"]', '"reasons":[]'))
    assert shop.collect("apply", "here", str(plan), code=3)["what"] == "the signature is another plan's"
    assert len(shop.tags) == 3


def test_a_plan_that_another_key_signed_is_refused(shop: Shop) -> None:
    plan = shop.folder / "plan.json"
    shop.configure(more="signing: {generate: true}\nstate: elsewhere\n", name="other")
    shop.collect("plan", "here", "--save", str(plan), config="other")
    assert "made by a trusted key" in shop.collect("apply", "here", str(plan), code=3)["what"]
    assert len(shop.tags) == 3


def test_a_plan_of_other_rules_or_another_registry_is_refused(shop: Shop) -> None:
    [made] = shop.collect("plan", "here")
    shop.configure(f"[{RULE.replace('keep_newest: 1', 'keep_newest: 2')}]")
    assert "rules of the configuration are not" in shop.collect("apply", "here", made["digest"], code=8)["what"]
    shop.configure(f"[{RULE}, {RULE.replace('registry: here', 'registry: there')}]")
    text = (shop.folder / "rp.yaml").read_text()
    there = text.splitlines()[1].replace("here:", "there:")
    (shop.folder / "rp.yaml").write_text(text.replace("registries:\n", f"registries:\n{there}\n"))
    assert shop.collect("apply", "there", made["digest"], code=8)["what"] == "the plan is for here"
    [applied] = shop.collect("apply", "here", made["digest"])
    assert applied["facts"]["deleted"] == 2, "the other registry's rules are none of its business"


def test_without_a_key_a_plan_is_made_and_not_applied_later(shop: Shop) -> None:
    for name in ("a", "absent"):
        generate_key(shop.folder / f"{name}.key")
    keys = "signing: {scanner: {key: a.key}, builder: {key: a.key}, person: {key: a.key}, indexer: {key: a.key}, "
    shop.configure(more=f"{keys}promoter: {{trusted: [absent.pub]}}}}\n")
    [made] = shop.collect("plan", "here")
    assert made["ok"] and "the plan is not signed" in made["notes"][-1]
    assert shop.collect("apply", "here", made["digest"], code=3)["what"] == "the plan is not signed"
    told = shop.collect("apply", "here", "--now", code=8)
    assert "no key of the promoter" in told["what"], "nobody could believe what is set aside"
    shop.configure(more=f"{keys}promoter: {{trusted: [absent.pub]}}}}\ncollect: {{quarantine: 0}}\n")
    _, applied = shop.collect("apply", "here", "--now")
    assert applied["facts"]["deleted"] == 2


def test_what_names_no_plan(shop: Shop) -> None:
    assert "no plan sha256:" in shop.collect("apply", "here", f"sha256:{'0' * 64}", code=8)["what"]
    assert "the plan cannot be read" in shop.collect("apply", "here", "nothing.json", code=8)["what"]
    assert "PLAN is the digest" in shop.collect("apply", "here", code=8)["what"]
    assert "PLAN is the digest" in shop.collect("apply", "here", "x", "--now", code=8)["what"]


def test_a_plan_that_was_stopped_by_a_change_goes_on_with_the_rest(shop: Shop) -> None:
    """It is no plan that was applied: another try asks again, and is refused again."""
    [made] = shop.collect("plan", "here")
    push(shop.place, "v9", days_ago=1)
    shop.place.registry.put_manifest("team/app", shop.place.registry.get_manifest("team/app", "v1"), tag="again")
    for _ in range(2):
        [refused] = shop.collect("apply", "here", made["digest"], code=3)
        assert "tag again is new" in refused["reasons"][0]
    assert shop.tags == ["again", "v1", "v2", "v9"], "a new image alone stops nothing"
