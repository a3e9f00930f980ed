"""Starts of releases: recorded after the verdict, taken over by the next release, measured; by the chain as people ask.

Programs are this machine's own, in images that are mounted and run here.
"""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import measure
from registry_pipelines.cli import main
from registry_pipelines.config import ENVIRONMENT_VARIABLE
from registry_pipelines.errors import PromotionDenied, StartFailed
from registry_pipelines.evidence.keys import KeySet
from registry_pipelines.release import Release
from registry_pipelines.settings import Duration
from registry_pipelines.stream.hot.packs import find_packs
from registry_pipelines.stream.hot.recordings import find_recordings
from registry_pipelines.stream.model import Record
from registry_pipelines.stream.start_report import read_reports
from tests.chain.fleet import Fleet
from tests.cli.on_fleet import answer
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image

POLICY = "policies: {default: {required: [hot-pack]}}\nsigning:"
RECORD = "gcp], stream: {min_layer_size: 1KiB, record: {until: exit}}}"


@pytest.fixture
def recorded(fleet: Fleet) -> Fleet:
    """Whose app is recorded, and moves only with a pack."""
    need_fuse()
    fleet.chain = fleet.reload(("signing:", POLICY), ("gcp]}", RECORD))
    return fleet


def pushed(fleet: Fleet, tag: str) -> Release:
    return Release("app", tag, image(fleet.chain.place("app"), tag=tag, more_mib=2).digest)


def trusted(fleet: Fleet) -> KeySet:
    return fleet.chain._session.verifier()


def test_a_release_is_recorded_packed_and_promoted_in_one_go_and_the_next_one_takes_it_over(recorded: Fleet) -> None:
    chain = recorded.chain
    first = pushed(recorded, "v1.0.0")
    shipment = chain.ship("app:v1.0.0")
    steps = {step.result.stage: step for step in shipment.steps}
    assert shipment.exit_code == 0, [(name, step.status, step.result.reasons) for name, step in steps.items()]
    assert list(steps).index("judge") < list(steps).index("record") < list(steps).index("promote")
    made = steps["record"].result
    assert made.facts["platforms_covered"] == 1 and made.facts["recorded"] == 1 and made.changed
    [row] = made.rows
    assert (row["how"], row["percent"]) == ("recorded", 100.0)
    place = chain.place("app")
    [pack] = find_packs(place, first.digest, trusted(recorded)).believed
    told = find_recordings(place, first.digest, trusted(recorded)).merged
    assert told is not None and {"bin/cat", "etc/motd"} <= {file.path for file in told.files}
    assert not any(file.path.startswith("data/") for file in told.files)
    assert all(file.sha256 for file in told.files), "so that the next release finds them"

    again = chain.ship("app:v1.0.0", until="record")
    assert again.steps[-1].result.action == "unchanged" and not again.steps[-1].result.changed
    assert [each.descriptor for each in find_packs(place, first.digest, trusted(recorded)).believed] == [
        pack.descriptor
    ]

    second = pushed(recorded, "v2.0.0")
    shipment = chain.ship("app:v2.0.0")
    made = {step.result.stage: step.result for step in shipment.steps}["record"]
    assert shipment.exit_code == 0 and made.facts["recorded"] == 0
    assert (made.rows[0]["how"], made.rows[0]["why"]) == ("taken over", "of v1.0.0")
    [pack] = find_packs(place, second.digest, trusted(recorded)).believed
    assert pack.note.recorded == first.digest and pack.note.pages_found >= 0.9 * pack.note.pages
    assert find_recordings(place, second.digest, trusted(recorded)).merged is None, "nothing was run"


@pytest.mark.long
def test_what_was_recorded_otherwise_than_the_configuration_says_now_is_not_taken_over(recorded: Fleet) -> None:
    first = pushed(recorded, "v1.0.0")
    recorded.chain.judge(first)
    assert recorded.chain.record(first).rows[0]["how"] == "recorded"
    chain = recorded.reload(("until: exit", "until: exit, command: [cat, /etc/passwd]"))
    second = pushed(recorded, "v2.0.0")
    chain.judge(second)
    assert chain.record(second).rows[0]["how"] == "recorded"
    third = pushed(recorded, "v3.0.0")
    chain.judge(third)
    assert chain.record(third).rows[0]["how"] == "taken over"


def test_what_is_not_allowed_is_not_run(recorded: Fleet) -> None:
    release = pushed(recorded, "v1.0.0")
    with pytest.raises(PromotionDenied) as caught:
        recorded.chain.record(release)
    assert "is run only when its verdict is allow" in caught.value.what
    with pytest.raises(PromotionDenied):
        recorded.chain.measure(release)
    assert find_recordings(recorded.chain.place("app"), release.digest, trusted(recorded)).merged is None


def test_a_program_that_does_not_start_fails_the_stage_and_the_release_is_held(recorded: Fleet) -> None:
    recorded.chain = recorded.reload(("until: exit", "until: exit, command: [sh, -c, 'echo oh; exit 3']"))
    pushed(recorded, "v1.0.0")
    shipment = recorded.chain.ship("app:v1.0.0")
    steps = {step.result.stage: step for step in shipment.steps}
    assert steps["record"].status == "failed" and "ended with 3" in steps["record"].result.reasons[0]
    assert "oh" in steps["record"].result.reasons[0]
    assert (steps["promote"].status, shipment.held) == ("held", "held: recording")


def test_a_start_is_measured_attached_once_and_held_against_the_policy(
    recorded: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "STARTS", 1)
    recorded.chain = chain = recorded.reload(("[hot-pack]", "[hot-pack], max_start_time: 10m"))
    release = pushed(recorded, "v1.0.0")
    shipment = chain.ship("app:v1.0.0")
    assert shipment.exit_code == 0, shipment.sentence
    place = chain.place("app")
    [signed], _ = read_reports(place, release.digest, trusted(recorded))
    assert signed.report.starts == 1 and signed.report.pack and signed.report.pack_bytes > 0
    assert 0 < (signed.report.started_s or 0) <= signed.report.result_s
    result = answer(recorded, "stream", "measure", "app:v1.0.0")
    assert result["facts"]["result_s"] > 0 and len(result["rows"]) == 1
    assert "machine" in result["facts"]
    tight = recorded.reload(("max_start_time: 10m", "max_start_time: 1ms"))
    assert "more than 1ms" in tight.start_problems(release)[0]


@pytest.mark.long
def test_a_person_records_a_release_anew_with_a_command_of_their_own(
    recorded: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(recorded.path))
    release = pushed(recorded, "v1.0.0")
    recorded.chain.judge(release)
    shown = CliRunner().invoke(main, ["stream", "record", "app:v1.0.0", "--", "cat", "/etc/passwd"])
    assert shown.exit_code == 0 and "recorded: " in shown.stdout, shown.output
    told = find_recordings(recorded.chain.place("app"), release.digest, trusted(recorded)).merged
    assert told is not None and "etc/passwd" in {file.path for file in told.files}
    again = answer(recorded, "stream", "record", "app:v1.0.0")
    assert (again["action"], again["changed"]) == ("unchanged", False)


def test_a_start_that_takes_too_long_is_ended(recorded: Fleet) -> None:
    release = pushed(recorded, "v1.0.0")
    recorded.chain.judge(release)
    result = recorded.chain.record(
        release, Record(command=("sleep", "600"), until="line x", timeout=Duration(seconds=2))
    )
    assert not result.ok and result.exit_code == StartFailed.exit_code
