"""A release that waits for a person: what its run says, who lets it go, and what a name has to be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from dagster_project.people import PERSON_TAG, NamedByProxy, config_to_ask, name_in
from dagster_project.report import OUTCOME_TAG
from registry_pipelines.chain.keys import trusted_keys
from registry_pipelines.config import load
from registry_pipelines.promote.person import Person
from registry_pipelines.promote.standing import records

if TYPE_CHECKING:
    from conftest import World

GOOD = {"calm": "1.0"}
EVIL = {"calm": "1.0", "leaky": "1.0"}
AFTER = ("replica/eu-west-1", "replica/gcp", "mirror/inside")
HEADER = "X-Forwarded-User"


@pytest.fixture
def by_hand(world: World, settings: Path) -> World:
    """``app`` waits for people."""
    settings.write_text(settings.read_text().replace("team/app, promote: auto", "team/app, promote: manual"))
    world.use(load(settings))
    return world


@pytest.fixture
def proxied(by_hand: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same, with the queue that takes names from a proxy; test_live.py has it from ``dagster.yaml``."""
    queue = NamedByProxy(user_header=HEADER)
    queue.register_instance(by_hand.instance)
    monkeypatch.setattr(by_hand.instance, "_run_coordinator", queue)
    assert by_hand.instance.run_coordinator is queue
    return by_hand


def ask(
    world: World, key: str, name: str = "", *assets: str, job: str = "promote", **tags: str
) -> dg.ExecuteInProcessResult:
    """Launch a job for a release as a person would, with a name typed or none."""
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return world.defs.resolve_job_def(job).execute_in_process(
        instance=world.instance,
        partition_key=key,
        asset_selection=[dg.AssetKey.from_user_string(asset) for asset in assets] or None,
        raise_on_error=False,
        run_config={**quiet, **config_to_ask(name)},
        tags=tags,
    )


def said(result: dg.ExecuteInProcessResult) -> str:
    """What the failed step of a run said."""
    [event] = result.get_step_failure_events()
    return str(event.step_failure_data.error_display_string)


def names(world: World, key: str) -> list[tuple[str, str]]:
    """Who promoted a release, by its signed records."""
    release = world.release(key)
    found = records(world.chain.place(release.image), release.digest, trusted_keys(world.config))
    return [(record.promoted_by, record.identity) for record, _ in found]


def tag(world: World, result: dg.ExecuteInProcessResult, name: str) -> str | None:
    run = world.instance.get_run_by_id(result.run_id)
    return run.tags.get(name) if run else None


def judged(world: World, tag: str, packages: dict[str, str]) -> str:
    """A release with its verdict, made without Dagster."""
    key = world.known("app", tag, packages)
    release = world.release(key)
    for stage in (world.chain.sbom, world.chain.vulnerabilities, world.chain.sign, world.chain.judge):
        stage(release)
    return key


def test_a_release_waits_until_a_person_who_is_named_lets_it_go(by_hand: World) -> None:
    key = by_hand.known("app", "v1", GOOD)
    result = by_hand.run(key)
    assert result.success
    assert tag(by_hand, result, OUTCOME_TAG) == "held"
    assert by_hand.steps(result)["verdict"] == "ok"
    assert not {"replica__eu_west_1", "replica__gcp", "mirror__inside"} & set(by_hand.steps(result))
    assert not result.asset_materializations_for_node("promotion")
    [seen] = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
    observation: Any = seen.event_specific_data
    assert observation.asset_observation.description == "allowed, waits for a person"
    assert not by_hand.run(key, *AFTER).success, "the gate of the library, whatever Dagster runs"
    assert "nobody is named" in said(ask(by_hand, key))
    assert (by_hand.channel("app"), by_hand.reached(key)) == (None, set())
    first = ask(by_hand, key, " Jane Roe ")
    assert first.success
    assert tag(by_hand, first, OUTCOME_TAG) == "promoted"
    assert by_hand.channel("app") == by_hand.release(key).digest
    assert by_hand.reached(key) == {"eu-west-1", "gcp", "dmz", "airgap"}
    second = ask(by_hand, key, "John Doe", "promotion")
    [told] = second.asset_materializations_for_node("promotion")
    assert told.metadata["promoted_by"].value == "Jane Roe"
    assert "Jane Roe promoted it before" in str(told.metadata["notes"].value)
    assert names(by_hand, key) == [("Jane Roe", "claimed")]


def test_a_name_frees_nothing_that_is_denied(by_hand: World) -> None:
    evil = judged(by_hand, "v1", EVIL)
    assert "leaky" in said(ask(by_hand, evil, "Jane Roe"))
    assert "is no name of a person" in said(ask(by_hand, evil, "Jane\x00"))
    assert (by_hand.channel("app"), by_hand.reached(evil)) == (None, set())


def test_a_release_that_was_promoted_by_hand_meanwhile_goes_on(by_hand: World) -> None:
    """On the command line, while the UI still shows that it waits."""
    key = judged(by_hand, "v1", GOOD)
    assert not by_hand.run(key, "promotion").asset_materializations_for_node("promotion")
    assert by_hand.chain.promote(by_hand.release(key), Person("olga", "claimed")).changed
    again = by_hand.run(key, "promotion", "replica/gcp")
    assert again.success and by_hand.reached(key) == {"gcp"}
    [told] = again.asset_materializations_for_node("promotion")
    assert (told.metadata["promoted_by"].value, told.metadata["changed"].value) == ("olga", False)


def test_what_waits_is_not_judged_again_and_what_a_person_let_go_elsewhere_is_copied(by_hand: World) -> None:
    key, denied = judged(by_hand, "v1", GOOD), judged(by_hand, "v2", EVIL)
    for each in (key, denied):
        by_hand.run(each, "verdict", "promotion")
    found = by_hand.tick("promotion", None)
    assert found.run_requests == []
    assert "that may not go: 1, that wait for a person: 1" in str(found.skip_reason)
    assert by_hand.chain.promote(by_hand.release(key), Person("olga", "claimed")).changed
    found = by_hand.tick("promotion", found.cursor)
    assert [request.partition_key for request in found.run_requests or []] == [key]
    assert by_hand.run(key, "promotion", "replica/gcp").success
    assert by_hand.reached(key) == {"gcp"}
    assert by_hand.tick("promotion", found.cursor).run_requests == []


def test_behind_a_proxy_the_name_is_the_proxys(proxied: World) -> None:
    key = judged(proxied, "v1", GOOD)
    assert f"the proxy sent no name with this launch ({HEADER})" in said(ask(proxied, key, "", "promotion"))
    assert "sent no name" in said(ask(proxied, key, "Jane Roe", "promotion"))
    jane = {PERSON_TAG: "jane@example.com"}
    assert "the proxy 'jane@example.com'" in said(ask(proxied, key, "John Doe", "promotion", **jane))
    assert ask(proxied, key, "", "promotion", job="release", **jane).success
    assert proxied.channel("app") is None, "to look at a release again lets nothing go"
    assert ask(proxied, key, "", "promotion", **jane).success
    assert names(proxied, key) == [("jane@example.com", "proxy")]


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (["jane@example.com"], "jane@example.com"),
        (["Jürgen".encode().decode("latin-1")], "Jürgen"),
        (["Jürgen"], "Jürgen"),
        ([], ""),
        ([" "], ""),
        (["jane", "john"], ""),
        (["a\x7fb"], ""),
        (["x" * 1000], ""),
    ],
    ids=str,
)
def test_a_name_is_read_from_one_header_alone(sent: list[str], name: str) -> None:
    assert name_in(sent) == name


def decide(world: World, job: str, step: str, **told: str) -> dg.ExecuteInProcessResult:
    """Launch what a person decides; ``person`` is the user that the proxy named."""
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    tags = {PERSON_TAG: told.pop("person")} if "person" in told else {}
    return world.defs.resolve_job_def(job).execute_in_process(
        instance=world.instance,
        raise_on_error=False,
        run_config={**quiet, "ops": {step: {"config": told}}},
        tags=tags,
    )


def test_a_person_revokes_a_release_in_the_ui(by_hand: World) -> None:
    key = judged(by_hand, "v1", GOOD)
    by_hand.chain.promote(by_hand.release(key), Person("olga", "claimed"))
    told = {"release": "app:v1", "reason": "it loses orders"}
    assert "nobody is named who revokes the release" in said(decide(by_hand, "revoke", "revoked", **told))
    assert by_hand.chain.revocations().facts["open"] == 0
    left = said(decide(by_hand, "revoke", "revoked", **told, by="Jane Roe"))
    assert "no earlier release may come back" in left, "it is revoked, and its channel has nothing to go back to"
    [row] = by_hand.chain.revocations().rows
    assert (row["release"], row["by"], row["reason"]) == ("app:v1", "Jane Roe", "it loses orders")


def test_a_glass_is_broken_in_the_ui_by_whom_a_proxy_names_alone(by_hand: World) -> None:
    """Whoever may launch runs may write any name, and what it lets go the policy refuses."""
    judged(by_hand, "v1", EVIL)
    told = {"release": "app:v1", "reason": "checkout is down", "lasts": "4h"}
    refused = said(decide(by_hand, "break_glass", "glass_broken", **told, by="Jane Roe"))
    assert "only by somebody whom a proxy names" in refused
    assert "whom a proxy names" in said(decide(by_hand, "break_glass", "glass_broken", **told, person="jane"))
    assert by_hand.chain.break_glasses().facts["open"] == 0


def test_behind_a_proxy_a_glass_is_broken_by_its_user(proxied: World) -> None:
    key = judged(proxied, "v1", EVIL)
    told = {"release": "app:v1", "reason": "checkout is down"}
    nobody = said(decide(proxied, "break_glass", "glass_broken", **told, lasts="4h", by="Jane"))
    assert "the proxy sent no name" in nobody
    assert "at most 7 days" in said(decide(proxied, "break_glass", "glass_broken", **told, lasts="8d", person="jane"))
    assert decide(proxied, "break_glass", "glass_broken", **told, lasts="4h", person="jane").success
    [row] = proxied.chain.break_glasses().rows
    assert (row["release"], row["by"]) == ("app:v1", "jane")
    assert ask(proxied, key, "", "promotion", **{PERSON_TAG: "jane"}).success
    assert proxied.channel("app") == proxied.release(key).digest
