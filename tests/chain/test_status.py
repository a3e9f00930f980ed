"""``status`` and ``releases``: what is told about images, releases and places, and that nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.errors import InputError
from registry_pipelines.release import Release
from tests.answers import answered
from tests.chain.fleet import Fleet, attach_provenance, push, start
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status as Answer


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose app is everywhere in version v1.0.0; tests leave it so."""
    with ExitStack() as stack:
        fleet = start(tmp_path_factory.mktemp("fleet"), stack)
        fleet.release("v1.0.0")
        assert not fleet.chain.ship("app").exit_code
        yield fleet


def asked(fleet: Fleet, *arguments: str, code: int = 0) -> Any:
    found = CliRunner().invoke(main, [*arguments, "--json", "--config", str(fleet.path)])
    assert found.exit_code == code, found.output
    return answered(found.stdout)


def shown(fleet: Fleet, *arguments: str) -> str:
    return CliRunner().invoke(main, [*arguments, "--config", str(fleet.path)]).stdout


def ports(fleet: Fleet, name: str) -> str:
    port = fleet.chain.registry(name).name.rpartition(":")[2]
    return f"{name}: {{kind: embedded, port: {port}}}"


def test_what_ships_and_is_everywhere_ends_with_zero_and_nothing_is_written(shipped: Fleet) -> None:
    with ExitStack() as stack:
        proxies = {name: stack.enter_context(FaultRegistry(shipped.chain.registry(name).name)) for name in ("us", "eu")}
        changes = [(ports(shipped, n), f"{n}: {{kind: distribution, host: '{p.address}'}}") for n, p in proxies.items()]
        shipped.reload(*changes)
        try:
            answer = asked(shipped, "status", "app")
            text = shown(shipped, "status", "app")
        finally:
            shipped.reload(*((new, old) for old, new in changes))
        requests = [each.method for proxy in proxies.values() for each in proxy.seen]
    assert requests and set(requests) <= {"GET", "HEAD"}
    [image] = answer["images"]
    assert (answer["ok"], image["verdict"], image["tag"], image["newer"]) == (True, "allow", "v1.0.0", [])
    assert image["places"] == {"eu": "same", "gcp": "same", "airgap": "same"}
    assert image["created"] == "2026-11-23T10:00:00Z" and image["promoted"] and image["size_bytes"] > 500
    for word in ("v1.0.0", "allow", "same: eu, gcp, airgap", "size"):
        assert word in text
    assert "newer" not in text and "reason" not in text


def test_an_image_without_a_release_and_one_that_is_unknown(shipped: Fleet) -> None:
    [tool] = asked(shipped, "status", "tool", code=3)["images"]
    assert (tool["verdict"], tool["release"], tool["reasons"]) == ("none", "", ["stable names nothing"])
    assert [each["image"] for each in asked(shipped, "status", code=3)["images"]] == ["app", "tool"]
    with pytest.raises(InputError, match="did you mean `tool`"):
        shipped.chain.statuses(["tol"])


def test_newer_releases_that_are_not_promoted_and_why(shipped: Fleet) -> None:
    bad = shipped.release("v1.1.0", package="badwheel")
    good, unseen = shipped.release("v1.2.0"), shipped.release("v1.10.0")
    assert not shipped.judged(bad) and shipped.judged(good)
    place = shipped.chain.place("app")
    try:
        [image] = asked(shipped, "status", "app", code=3)["images"]
        assert [(each["tag"], each["why"]) for each in image["newer"]] == [
            ("v1.10.0", "nobody judged it by policy default"),
            ("v1.2.0", "allowed, waits for a person"),
            ("v1.1.0", "CRITICAL 9.8: pkg:pypi/badwheel@1.0: TEST-2026-1; fixed in 2.0 (0 permitted)"),
        ]
        text = shown(shipped, "status", "app")
        assert "v1.1.0: CRITICAL 9.8" in text
        command = f"registry-pipelines promote app:v1.2.0 --config {shipped.path}"
        assert f"- v1.2.0 of app may go: `{command}`" in text.splitlines() and text.count(" may go: ") == 1
        assert [each["do"] for each in image["newer"]] == ["", command, ""]
        listed = {each["tag"]: each for each in asked(shipped, "releases", "app")}
        assert list(listed) == ["v1.10.0", "v1.2.0", "v1.1.0", "v1.0.0"]
        assert [each["verdict"] for each in listed.values()] == ["none", "allow", "deny", "allow"]
        assert [each["channel"] for each in listed.values()] == ["", "", "", "prod"]
        assert listed["v1.1.0"]["places"] == dict.fromkeys(("eu", "gcp", "airgap"), "missing")
        assert listed["v1.2.0"]["release"] == good.key and not listed["v1.2.0"]["promoted"]
    finally:
        for release in (bad, good, unseen):
            place.registry.delete_manifest("team/app", release.digest)


def test_only_the_newest_are_looked_at_unless_told(shipped: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry_pipelines.cli.status.MOST_LOOKED_AT", 1)
    monkeypatch.setattr("registry_pipelines.chain.status.MOST_NEWER", 1)
    made = [shipped.release(f"v2.0.{number}") for number in range(2)]
    try:
        newest, *others = asked(shipped, "releases", "app")
        assert (
            newest["verdict"] == "none"
            and [set(each) for each in others] == [{"release", "image", "tag", "digest"}] * 2
        )
        assert "- 2 older releases only listed; --long looks at them, too" in shown(shipped, "releases")
        assert all("verdict" in each for each in asked(shipped, "releases", "--long"))
        [image] = asked(shipped, "status", "app", code=3)["images"]
        assert ([each["tag"] for each in image["newer"]], image["more_newer"]) == (["v2.0.1"], 1)
        assert "and 1 newer tag not looked at" in shown(shipped, "status", "app")
    finally:
        for release in made:
            shipped.chain.place("app").registry.delete_manifest("team/app", release.digest)


def test_a_place_that_has_another_or_none_and_one_that_does_not_answer(fleet: Fleet) -> None:
    fleet.release("v1.0.0")
    fleet.chain.ship("app", until="promote")
    eu = fleet.chain.target_place("app", "eu")
    push(eu, "prod", package="other", provenance=False)
    [image] = fleet.chain.statuses(["app"])
    assert image.places == {"eu": "other", "gcp": "missing", "airgap": "missing"} and image.exit_code == 6
    with FaultRegistry(fleet.chain.registry("gcp").name) as gcp:
        here = ports(fleet, "gcp")
        chain = fleet.reload((here, f"gcp: {{kind: distribution, host: '{gcp.address}'}}"))
        gcp.play("HEAD", r".*/manifests/prod", Answer(403))
        gcp.play("GET", r".*/manifests/prod", Answer(403))
        [image] = chain.statuses(["app"])
        assert image.places == {"eu": "other", "gcp": "unreachable", "airgap": "missing"} and image.exit_code == 7
        assert gcp.address in image.problems[0] and image.problems[0].startswith("gcp: ")


def test_a_missing_log_in_names_the_command(fleet: Fleet) -> None:
    fleet.release("v1.0.0")
    with FaultRegistry(fleet.chain.registry("us").name) as us:
        chain = fleet.reload((ports(fleet, "us"), f"us: {{kind: distribution, host: '{us.address}'}}"))
        for _ in range(8):
            us.play("HEAD", r".*/manifests/prod", Answer(401, {"WWW-Authenticate": "Basic"}))
            us.play("GET", r".*/manifests/prod", Answer(401, {"WWW-Authenticate": "Basic"}))
        [image] = chain.statuses(["app"])
    assert image.ruling == "unknown" and "registry-pipelines login" in image.problems[0]


def test_a_registry_that_does_not_serve_is_asked_once_and_the_others_are_told(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0", image="tool")
    fleet.chain.ship("tool")
    with FaultRegistry(fleet.chain.registry("us").name) as down:
        down.play("GET", ".*", Answer(429, {"Retry-After": "7200"}))
        down.play("HEAD", ".*", Answer(429, {"Retry-After": "7200"}))
        fleet.reload(
            ("registries:\n", f"registries:\n  down: {{kind: distribution, host: '{down.address}'}}\n"),
            ("app: {registry: us,", "app: {registry: down,"),
            ("  tool: {registry: us, ", "  tool: {registry: us, targets: [a, b], "),
            ("targets:\n", "targets:\n  a: {registry: down, prefix: a}\n  b: {registry: down, prefix: b}\n"),
        )
        app, tool = asked(fleet, "status", code=7)["images"]
        assert len(down.seen) <= 2  # two threads may have asked at the same time
    assert (app["verdict"], app["digest"]) == ("unknown", "") and down.address in app["problems"][0]
    assert (tool["verdict"], tool["digest"]) == ("allow", release.digest)
    assert tool["places"] == {"a": "unreachable", "b": "unreachable"}
    assert [each.partition(":")[0] for each in tool["problems"]] == ["a", "b"]


def test_what_was_allowed_once_is_outdated_and_what_nobody_promoted_too(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    fleet.chain.ship("app", until="promote")
    changed = fleet.reload(("signing:", "policies: {default: {undeclared: deny}}\nsigning:"))
    [image] = changed.statuses(["app"])
    assert (image.ruling, image.exit_code) == ("outdated", 3) and "was changed since" in image.reasons[0]
    fleet.reload(("policies: {default: {undeclared: deny}}\n", ""))
    other = fleet.release("v1.1.0")
    assert fleet.judged(other)
    place = fleet.chain.place("app")
    place.registry.put_manifest("team/app", place.registry.get_manifest("team/app", other.digest), tag="prod")
    [image] = fleet.chain.statuses(["app"])
    assert (image.ruling, image.tag) == ("outdated", "v1.1.0")
    assert image.reasons == ("promotion: no signed record puts prod on it",)
    fleet.chain.promote(other)
    fleet.chain.promote(release)
    [image] = fleet.chain.statuses(["app"])
    assert (image.tag, [each.rolled_back for each in image.newer], image.exit_code) == ("v1.0.0", [True], 6)


def test_a_look_makes_no_key(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    made = push(place, "v1.0.0", provenance=False)
    place.registry.put_manifest("team/app", place.registry.get_manifest("team/app", made.digest), tag="prod")
    attach_provenance(place, made)
    [image] = fleet.chain.statuses(["app"])
    assert (image.ruling, image.reasons) == ("none", ("no trusted key is here, so nothing is believed",))
    assert fleet.chain.release_statuses([Release("app", "v1.0.0", made.digest)])[0].channel == "prod"
    assert not fleet.config.signing_key.exists()
