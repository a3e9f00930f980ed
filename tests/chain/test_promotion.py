"""Who lets a release go: a person by name, or nobody where the image says so; and never back by itself."""

from __future__ import annotations

import getpass
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.chain import Chain
from registry_pipelines.chain.keys import trusted_keys
from registry_pipelines.chain.outcome import outcomes
from registry_pipelines.cli import main
from registry_pipelines.cli.demonstration import find_problems
from registry_pipelines.errors import InputError, NotFound, PromotionDenied
from registry_pipelines.promote.person import MAX_NAME_CHARACTERS, Person, account
from registry_pipelines.promote.standing import records
from registry_pipelines.release import Release
from tests.answers import answered
from tests.chain.fleet import Fleet

JANE = Person("jane@example.com", "proxy")
JOHN = Person("John Doe", "claimed")
AUTO = ("repository: team/app,", "repository: team/app, promote: auto,")


def channel(chain: Chain) -> str:
    place = chain.place("app")
    try:
        return place.registry.resolve(place.repository, "prod").digest
    except NotFound:
        return ""


def names(chain: Chain, release: Release) -> list[tuple[str, str]]:
    """Who promoted a release, by its signed records."""
    found = records(chain.place(release.image), release.digest, trusted_keys(chain.config))
    return [(record.promoted_by, record.identity) for record, _ in found]


def test_an_allowed_release_waits_for_a_person_and_is_told_as_held(fleet: Fleet) -> None:
    keep = "import sys; open('told', 'a').write(sys.stdin.read())"
    command = json.dumps([sys.executable, "-c", keep])
    chain = fleet.reload(("signing:", f"notify: {{command: {command}}}\nsigning:"))
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    waits = chain.promote_automatically(release)
    assert (waits.ok, waits.changed, waits.action) == (True, False, "allowed, waits for a person")
    assert waits.facts["waits"] is True and "promote: manual" in waits.notes[0]
    assert (channel(chain), names(chain, release)) == ("", [])
    told = json.loads((fleet.folder / "told").read_text())
    assert (told["event"], told["what"]) == ("held", "allowed, waits for a person")
    assert waits.next_steps and told["reasons"] == [*waits.notes, *waits.next_steps]
    page = chain.page(release)
    assert "promote app:v1.0.0" in page.next_steps[0] and list(page.next_steps) == list(waits.next_steps)
    with pytest.raises(PromotionDenied):
        chain.replicate(release, "eu")
    shown = outcomes(chain, release)
    assert shown.waits and not shown.problems
    assert shown.sentence().startswith("app:v1.0.0 is allowed, waits for a person; it is not at eu, gcp")
    assert find_problems([], [shown], 0) == []


def test_a_denied_release_does_not_wait(fleet: Fleet) -> None:
    bad = fleet.release("v1.0.0", package="badwheel")
    assert not fleet.judged(bad)
    with pytest.raises(PromotionDenied):
        fleet.chain.promote_automatically(bad)
    assert outcomes(fleet.chain, bad).sentence().startswith("app:v1.0.0 is denied")


def test_what_a_person_promoted_meanwhile_is_told_as_promoted(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    assert fleet.chain.promote_automatically(release).facts["waits"]
    assert fleet.chain.promote(release, JANE).changed
    after = fleet.chain.promote_automatically(release)
    assert (after.changed, after.facts["promoted_by"], after.facts["identity"]) == (False, JANE.name, "proxy")
    assert "waits" not in after.facts
    assert names(fleet.chain, release) == [(JANE.name, "proxy")]


def test_two_people_who_launch_one_release_promote_it_once(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda person: fleet.chain.promote(release, person), (JANE, JOHN)))
    assert sorted(each.changed for each in done) == [False, True]
    [second] = [each for each in done if not each.changed]
    [record] = names(fleet.chain, release)
    assert second.facts["promoted_by"] == record[0]
    assert second.notes[0].startswith(f"{record[0]} promoted it before")
    again = fleet.chain.promote(release, Person(*record))  # type: ignore[arg-type]
    assert (again.changed, again.notes) == (False, [])


def test_an_image_that_says_so_is_promoted_by_nobody(fleet: Fleet) -> None:
    chain = fleet.reload(AUTO)
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    done = chain.promote_automatically(release)
    assert done.changed and channel(chain) == release.digest
    assert names(chain, release) == [(str(done.facts["promoted_by"]), "")]
    assert str(done.facts["promoted_by"]).startswith("sha256:")


@pytest.mark.parametrize(
    ("old", "new", "goes_back"),
    [("v1.9.0", "v1.10.0", False), ("main-9", "main-10", True)],
)
def test_a_run_that_comes_late_takes_no_channel_back(fleet: Fleet, old: str, new: str, goes_back: bool) -> None:
    """The older one waited in a queue while a person promoted the newer. Words have no order that would say so."""
    chain = fleet.reload(AUTO)
    older, newer = fleet.release(old), fleet.release(new, package="other")
    assert fleet.judged(older) and fleet.judged(newer)
    assert chain.promote(newer, JOHN).changed
    late = chain.promote_automatically(older)
    assert ("waits" not in late.facts) is goes_back
    assert channel(chain) == (older if goes_back else newer).digest
    if not goes_back:
        assert f"prod names {new}" in late.notes[0]
        assert chain.promote(older, JOHN).changed, "a rollback that a person asks for"
        assert chain.promote_automatically(newer).changed


def test_the_command_line_records_the_account_that_ran_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "olga")
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    done = CliRunner().invoke(main, ["promote", "app:v1.0.0", "--json", "--config", str(fleet.path)])
    facts = answered(done.stdout)["facts"]
    assert (facts["promoted_by"], facts["identity"]) == ("olga", "claimed")
    assert names(fleet.chain, release) == [("olga", "claimed")]


def test_an_account_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that runs as a user its image does not know."""

    def missing() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", missing)
    assert account() == Person(f"uid {os.getuid()}", "claimed")


@given(st.text(max_size=300))
def test_a_name_is_read_as_it_is_seen_or_refused(text: str) -> None:
    seen = text.strip()
    good = bool(seen) and len(seen) <= MAX_NAME_CHARACTERS and seen.isprintable()
    try:
        assert Person.named(text, "claimed").name == seen and good
    except InputError as error:
        assert not good and "\n" not in str(error.what)


def test_a_rollback_says_which_replicas_still_have_the_other_release(fleet: Fleet) -> None:
    """Also when it is asked for a second time, until they have it; one that cannot be read is no silence."""
    old, new = (fleet.release(tag) for tag in ("v1.0.0", "v2.0.0"))
    for release in (old, new):
        assert fleet.judged(release)
        assert not fleet.chain.promote(release).notes, "going forward, the copies come next"
        fleet.chain.replicate(release, "eu")
        fleet.chain.mirror_release(release, "airgap")
    fleet.chain.keys_of([old, new])
    back = CliRunner().invoke(main, ["promote", "app:v1.0.0", "--config", str(fleet.path)])
    assert "eu still has v2.0.0 as prod; run: registry-pipelines replicate app:v1.0.0 --config" in back.stdout
    assert "airgap still has v2.0.0 as prod; run: registry-pipelines mirror airgap --release app:v1.0.0" in back.stdout
    assert "gcp" not in back.stdout
    fleet.chain.replicate(old, "eu")
    [airgap] = fleet.chain.promote(old).notes
    assert airgap.startswith("airgap still has")
    damaged = fleet.folder / "damaged" / "replicas" / "team" / "app"
    damaged.mkdir(parents=True)
    (damaged / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (damaged / "index.json").write_text("{")
    disk = "registries:\n  disk: {kind: layout, root: damaged}\n"
    chain = fleet.reload(("gcp: {registry: gcp, prefix", "gcp: {registry: disk, prefix"), ("registries:\n", disk))
    assert chain.promote(old).notes[0].startswith("gcp cannot be asked which release prod names there")
