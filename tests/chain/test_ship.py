"""``ship``: one release through every stage, also when something is denied, down, killed, or done twice at once."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.chain.outcome import outcomes
from registry_pipelines.chain.ship import Shipment
from registry_pipelines.cli import main
from registry_pipelines.errors import InputError, NotFound
from registry_pipelines.evidence.keys import generate_key
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.progress import Silent
from tests.answers import answered
from tests.chain.fleet import Fleet, push
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import HoldAnswer, Status
from tests.patience import patient

ALL = ["provenance", "sbom", "vulnerabilities", "sign", "judge", "promote"]
COPIES = ["replicate:eu", "replicate:gcp", "mirror:airgap"]
KEEP = [sys.executable, "-c", "import sys; open('told', 'a').write(sys.stdin.read() + '\\n')"]
"""A command for `notify`."""
MAIN = "import sys; from registry_pipelines.cli import main; main(sys.argv[1:])"
COMMAND = [sys.executable, "-c", MAIN, "ship", "app", "--quiet", "--config"]


class After(Silent):
    """Does something as soon as a stage is done."""

    def __init__(self, stage: str, act: Callable[[], object]) -> None:
        self.stage, self.act = stage, act

    def end(self, task: str, *, note: str = "") -> None:
        if task == self.stage:
            self.act()


def statuses(shipment: Shipment) -> dict[str, str]:
    return {step.result.stage: step.status for step in shipment.steps}


def through(fleet: Fleet, name: str, faults: FaultRegistry) -> Chain:
    """The chain with a registry behind a proxy."""
    port = fleet.chain.registry(name).name.rpartition(":")[2]
    here = f"{name}: {{kind: embedded, port: {port}}}"
    return fleet.reload((here, f"{name}: {{kind: distribution, host: '{faults.address}'}}"))


def until_asked(faults: FaultRegistry, method: str, target: str) -> None:
    """Until such a request is there, which is held."""
    end = time.monotonic() + patient(60)
    while not faults.requests(method, target):
        assert time.monotonic() < end
        time.sleep(0.01)


def shipped(fleet: Fleet, *arguments: str, code: int = 0) -> Any:
    found = CliRunner().invoke(main, ["ship", *arguments, "--json", "--config", str(fleet.path)])
    assert found.exit_code == code, found.output
    return answered(found.stdout)


def test_a_release_goes_through_every_stage_once_and_the_second_time_nothing_moves(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    first = shipped(fleet, "app")
    assert (first["ok"], first["exit_code"], first["release"]) == (True, 0, release.key)
    assert [each["stage"] for each in first["stages"]] == [*ALL, *COPIES]
    assert [each["stage"] for each in first["stages"] if each["changed"]] == [*ALL[1:], *COPIES]
    found = outcomes(fleet.chain, release)
    assert (found.ships, found.problems, len(found.present_at)) == (True, (), 4)
    text = CliRunner().invoke(main, ["ship", "app:v1.0.0", "--config", str(fleet.path)])
    assert text.exit_code == 0
    assert text.stdout.count("ok, unchanged") == len(ALL + COPIES) - 1 and release.key in text.stdout
    [read] = [line for line in text.stdout.splitlines() if line.strip().startswith("provenance")]
    assert read.split()[-1] == "ok"  # it reads what the builder attached, at the first time too
    assert text.stdout.endswith("app:v1.0.0 ships: prod names it, and it is at eu, gcp, airgap\n")
    assert re.search(r"^sign: \d+\.\d s, unchanged$", text.stderr, re.MULTILINE)


def test_until_ends_after_that_stage(fleet: Fleet) -> None:
    fleet.release("v1.0.0")
    done = shipped(fleet, "app:v1.0.0", "--until", "sign")
    assert [each["stage"] for each in done["stages"]] == ALL[:4]
    shipment = fleet.chain.ship("app", until="promote")
    assert statuses(shipment) == dict.fromkeys(ALL, "ok")
    assert shipment.sentence == "app:v1.0.0 ships: prod names it"
    found = CliRunner().invoke(main, ["ship", "app", "--until", "sing", "--config", str(fleet.path)])
    assert found.exit_code == 2 and "'sing' is not one of" in found.stderr


def test_a_part_that_went_well_names_the_command_for_the_rest(fleet: Fleet) -> None:
    fleet.release("v1.0.0")
    command = f"registry-pipelines ship app:v1.0.0 --config {fleet.path}"
    for until in ("judge", "promote"):
        told = CliRunner().invoke(main, ["ship", "app", "--until", until, "--config", str(fleet.path)]).stdout
        assert told.endswith(f"Do this, in this order:\n  1. {command}\n")
    assert command not in CliRunner().invoke(main, ["ship", "app", "--config", str(fleet.path)]).stdout


def test_a_tag_that_is_no_release_is_shipped_by_name_and_told(fleet: Fleet) -> None:
    fleet.release("pr-17-wip")
    for command in ("ship", "promote"):
        told = CliRunner().invoke(main, [command, "app:pr-17-wip", "--config", str(fleet.path)])
        assert told.exit_code == 0 and "pr-17-wip is no release of app: `images.app.tags` is not there" in told.stdout
    fleet.reload(("repository: team/app,", "repository: team/app, tags: ['main-*'],"))
    told = CliRunner().invoke(main, ["promote", "app:pr-17-wip", "--config", str(fleet.path)])
    assert "`images.app.tags` takes main-*" in told.stdout
    fleet.reload(("main-*", "pr-*"))
    assert (
        "no release" not in CliRunner().invoke(main, ["promote", "app:pr-17-wip", "--config", str(fleet.path)]).stdout
    )


def test_what_is_denied_is_judged_and_goes_nowhere(fleet: Fleet) -> None:
    fleet.reload(("signing:", f"notify: {{command: {json.dumps(KEEP)}}}\nsigning:"))
    bad = fleet.release("v1.0.0", package="badwheel")
    assert shipped(fleet, "app", "--until", "sign", code=3)["denied_at"] == "vulnerabilities"
    done = shipped(fleet, "app", code=3)
    by = {each["stage"]: each for each in done["stages"]}
    assert {stage: each["status"] for stage, each in by.items()} == {
        **dict.fromkeys(["provenance", "sbom", "sign"], "ok"),
        **dict.fromkeys(["vulnerabilities", "judge"], "denied"),
        **dict.fromkeys(["promote", *COPIES], "skipped"),
    }
    assert done["denied_at"] == "judge" and any("badwheel" in reason for reason in by["judge"]["reasons"])
    assert by["replicate:eu"]["action"] == "not run: judge denied"
    assert not outcomes(fleet.chain, bad).problems
    text = CliRunner().invoke(main, ["ship", "app", "--config", str(fleet.path)])
    assert text.exit_code == 3
    end = text.stdout.partition("app:v1.0.0 is denied at judge: nothing was promoted or copied\n")[2]
    assert "badwheel" in end and "registry-pipelines ship app:NEW_VERSION --config" in end  # what to do next
    [told] = map(json.loads, (fleet.folder / "told").read_text().splitlines())  # not again for the same verdict
    assert (told["event"], told["stage"], told["release"]) == ("denied", "judge", bad.key)


def test_a_replica_that_is_down_holds_up_no_other_and_the_same_command_does_the_rest(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    with FaultRegistry(fleet.chain.registry("eu").name) as eu:
        chain = through(fleet, "eu", eu)
        eu.play("PUT", r".*/manifests/.*", Status(403))
        shipment = chain.ship("app")
        assert statuses(shipment) == {**dict.fromkeys([*ALL, *COPIES], "ok"), "replicate:eu": "failed"}
        assert shipment.exit_code == 6 and "replicate:eu failed" in shipment.sentence
        [failed] = [step.result for step in shipment.steps if step.status == "failed"]
        assert failed.exit_code == 5 and eu.address in failed.reasons[0]
        eu.clear()
        again = chain.ship("app")
    assert [step.result.stage for step in again.steps if step.result.changed] == ["replicate:eu"]
    assert not again.exit_code and not outcomes(fleet.chain, release).problems


def test_a_stage_that_fails_ends_it_with_its_code(fleet: Fleet) -> None:
    fleet.release("v1.0.0")
    (fleet.folder / "advisories" / "TEST-2026-1.json").unlink()
    fleet.reload(("signing:", f"notify: {{command: {json.dumps(KEEP)}}}\nsigning:"))
    done = shipped(fleet, "app", code=8)
    [told] = map(json.loads, (fleet.folder / "told").read_text().splitlines())
    assert (told["event"], told["stage"]) == ("failed", "vulnerabilities") and "advisories" in told["what"]
    by = {each["stage"]: each["status"] for each in done["stages"]}
    assert by["vulnerabilities"] == "failed" and by["sbom"] == "ok"
    assert {by[stage] for stage in ("sign", "judge", "promote", *COPIES)} == {"skipped"}


def test_killed_in_the_middle_the_same_command_does_the_rest(fleet: Fleet) -> None:
    """Killed before the tag moves, then in the middle of a copy."""
    release = fleet.release("v1.0.0")
    held = threading.Event()
    with FaultRegistry(fleet.chain.registry("us").name) as us, FaultRegistry(fleet.chain.registry("eu").name) as eu:
        through(fleet, "us", us)
        through(fleet, "eu", eu)
        for faults, method, target in (
            (us, "HEAD", r"/v2/team/app/manifests/prod"),
            (eu, "PUT", r".*/manifests/sha256.*"),
        ):
            faults.play(method, target, HoldAnswer(held))
            with subprocess.Popen([*COMMAND, str(fleet.path)], stdout=subprocess.DEVNULL) as process:
                until_asked(faults, method, target)
                process.send_signal(signal.SIGKILL)
            faults.clear()
            there = outcomes(fleet.chain, release)
            assert there.ships == bool(there.problems) == (faults is eu)
        held.set()
        assert not shipped(fleet, "app")["exit_code"]
    assert not outcomes(fleet.chain, release).problems


def test_two_at_once_both_end_well(fleet: Fleet) -> None:
    """The other signs between our verdict and our promotion, and has not judged yet: what we judged by is not all."""
    release = fleet.release("v1.0.0")
    held = threading.Event()
    ours = fleet.reload()
    with FaultRegistry(fleet.chain.registry("us").name) as us:
        other = through(fleet, "us", us)
        other.ship("app", until="scan")
        us.reset_counts()
        us.play("POST", r".*/blobs/uploads/.*", HoldAnswer(held))
        signing = threading.Thread(target=other.ship, args=["app"], kwargs={"until": "sign"})
        signing.start()
        until_asked(us, "POST", r".*/blobs/uploads/.*")

        def signed() -> None:
            held.set()
            signing.join()

        shipment = ours.with_progress(After("judge", signed)).ship("app")
        assert statuses(shipment) == dict.fromkeys([*ALL, *COPIES], "ok")
        assert not other.ship("app").exit_code
    assert not outcomes(fleet.chain, release).problems


def test_evidence_that_is_gone_after_the_verdict_denies_the_promotion(fleet: Fleet) -> None:
    """What the stages before have read does not count for the gate."""
    release = fleet.release("v1.0.0")
    place = fleet.chain.place("app")

    def lose_the_signed_provenance() -> None:
        for listed in place.registry.referrers(place.repository, release.digest):
            content = place.registry.get_manifest(place.repository, listed.digest).content()
            if isinstance(content, Manifest) and PROVENANCE_TYPE in (content.annotations or {}).values():
                place.registry.delete_blob(place.repository, content.layers[0].digest)

    shipment = fleet.chain.with_progress(After("judge", lose_the_signed_provenance)).ship("app")
    assert (shipment.exit_code, shipment.denied_at) == (3, "promote")
    assert statuses(shipment)["replicate:eu"] == "skipped"
    assert not outcomes(fleet.chain, release).problems


def test_what_is_not_there_is_built_first_where_it_is_the_configuration_s(fleet: Fleet) -> None:
    push(fleet.chain.place("tool"), "base", package="base", provenance=False)
    (fleet.folder / "source").mkdir()
    (fleet.folder / "source" / "app.py").write_text("print(1)\n")
    build = "version: v1, base: 'us/team/tool:base', python: '3.11', application: source, platforms: [linux/amd64]"
    chain = fleet.reload(("repository: team/tool,", f"repository: team/built, build: {{{build}}},"))
    first, second = (chain.ship("tool", until="sbom") for _ in range(2))
    assert statuses(first) == dict.fromkeys(["build", "provenance", "sbom"], "ok")
    assert statuses(second) == dict.fromkeys(["provenance", "sbom"], "ok") and second.release == first.release
    with pytest.raises(NotFound) as missing:
        chain.ship("tool:v2")
    assert "ship tool:v1, which the configuration builds" in missing.value.do
    (fleet.folder / "source" / "app.py").unlink()
    (fleet.folder / "source").rmdir()
    broken = fleet.reload(("version: v1", "version: v3")).ship("tool")
    assert statuses(broken) == {"build": "failed"} and broken.exit_code == 8
    assert broken.sentence.startswith("tool is not done: build failed")


def test_a_wrong_name_is_wrong_input(fleet: Fleet) -> None:
    with pytest.raises(InputError, match="unknown image `ap`; did you mean `app`"):
        fleet.chain.ship("ap")
    with pytest.raises(NotFound):
        fleet.chain.ship("app")


def test_keys_are_tried_before_the_build(fleet: Fleet) -> None:
    """Every key that a stage will want, whosever it is: nothing is pushed where one cannot be read or is not there."""
    generate_key(fleet.folder / "person.key", password="right")
    build = "version: v1, base: python, wheels: none-such, requirements: [numpy]"
    role = "signing: {generate: true, person: {key: person.key}}"
    chain = fleet.reload(
        ("repository: team/tool,", f"repository: team/built, build: {{{build}}},"), ("signing: {generate: true}", role)
    )
    with pytest.raises(InputError, match=r"person\.key: the private key is encrypted, and no password is given"):
        chain.ship("tool")
    (fleet.folder / "person.key").unlink()
    with pytest.raises(InputError, match=r"away\.key: the key file cannot be read"):
        fleet.reload((role, "signing: {key: away.key, trusted: [person.pub]}")).ship("tool")
    with pytest.raises(NotFound):
        next(iter(chain.registry("us").tags("team/built")))
    assert chain.ship("tool", until="provenance").steps[0].result.stage == "build"  # that is signed by none of these
