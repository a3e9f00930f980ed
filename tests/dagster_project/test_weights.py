"""New weights in Dagster: seen, brought to their targets, attached to the release, checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

import dagster as dg
import pytest

from dagster_project import sensors
from dagster_project.definitions import build_definitions
from dagster_project.sensors import LOOKS_PER_RECONCILE, MAX_ATTEMPTS
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, SignatureInvalid
from tests.chain.fleet import Fleet, start
from tests.dagster_project.conftest import QUIET
from tests.weights.conftest import done, files_of, model

__all__ = ["model"]

KEPT = """
weights:
  llama:
    source: {here}/training
    to: ['eu/models/llama:1', '{here}/serving']
    image: app:v1.0.0
"""


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        fleet.path.write_text(fleet.path.read_text() + KEPT.format(here=tmp_path))
        fleet.release("v1.0.0")
        yield fleet


class Location:
    """The code location over a fleet."""

    def __init__(self, path: Path) -> None:
        self.chain = Chain(load(path))
        self.defs = build_definitions(self.chain.config, lambda: self.chain)
        self.cursor: str | None = None

    def look(self, instance: dg.DagsterInstance | None = None) -> list[dg.RunRequest]:
        with nullcontext(instance) if instance else dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(
                instance=instance, definitions=self.defs, cursor=self.cursor, resources={"chain": self.chain}
            )
            found = self.defs.resolve_sensor_def("new_weights").evaluate_tick(context)
        self.cursor = found.cursor
        return list(found.run_requests or ())

    def run(
        self, instance: dg.DagsterInstance | None = None, request: dg.RunRequest | None = None
    ) -> dg.ExecuteInProcessResult:
        tags = {"dagster/run_key": str(request.run_key)} if request else {}
        with nullcontext(instance) if instance else dg.DagsterInstance.ephemeral() as instance:
            job = self.defs.resolve_job_def("weights")
            return job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False, tags=tags)


def checked(run: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    [found] = run.get_asset_check_evaluations()
    return found


def test_a_new_set_is_seen_brought_and_attached(fleet: Fleet, model: Callable[..., Path], tmp_path: Path) -> None:
    location, config = Location(fleet.path), ("--config", str(fleet.path))
    assert location.defs.resolve_sensor_def("new_weights").default_status == dg.DefaultSensorStatus.STOPPED
    assert location.look() == []  # nothing is there yet
    folder = model("m")
    pushed = done("push", folder, tmp_path / "training")
    [request] = location.look()
    assert request.asset_selection == [dg.AssetKey(["weights", "llama"])]
    assert location.look() == []

    run = location.run()
    assert run.success
    assert checked(run).passed
    assert files_of(tmp_path / "serving") == files_of(folder)
    assert done("ls", "eu/models/llama:1", *config)["digest"] == pushed["digest"]
    assert len(done("ls", "app:v1.0.0", *config)["rows"]) == 6

    (folder / "config.json").write_text("{}")
    (tmp_path / "training" / "weights.json").rename(tmp_path / "aside")  # half a set, as a push leaves it
    assert location.look() == []
    (tmp_path / "aside").rename(tmp_path / "training" / "weights.json")
    done("push", folder, tmp_path / "training")
    assert len(location.look()) == 1


def test_a_set_that_comes_back_is_asked_for_again(fleet: Fleet, model: Callable[..., Path], tmp_path: Path) -> None:
    """Dagster serves a run key once for ever: a source that was put back would not be."""
    location, keys = Location(fleet.path), []
    for folder in (model("m", 1), model("n", 1, seed=2), tmp_path / "m", tmp_path / "n"):
        done("push", folder, tmp_path / "training")
        keys += [each.run_key for each in location.look()]
    assert len(set(keys)) == 4


def test_a_set_that_did_not_come_everywhere_is_asked_for_again(
    fleet: Fleet, model: Callable[..., Path], tmp_path: Path
) -> None:
    """A target is away while the run is: nobody would bring the set before its source changes."""
    location = Location(fleet.path)
    done("push", model("m", 1), tmp_path / "training")
    (tmp_path / "serving").write_text("in the way")
    with dg.DagsterInstance.ephemeral() as instance:
        [request] = location.look(instance)
        assert not checked(location.run(instance, request)).passed
        looks = [location.look(instance) for _ in range(LOOKS_PER_RECONCILE)]
        [[request]] = [each for each in looks if each]
        (tmp_path / "serving").unlink()
        assert checked(location.run(instance, request)).passed
        assert not any(location.look(instance) for _ in range(2 * LOOKS_PER_RECONCILE))


def test_a_set_that_comes_nowhere_is_asked_for_three_times(
    fleet: Fleet, model: Callable[..., Path], tmp_path: Path
) -> None:
    location = Location(fleet.path)
    done("push", model("m", 1), tmp_path / "training")
    (tmp_path / "serving").write_text("in the way")
    with dg.DagsterInstance.ephemeral() as instance:
        asked = 0
        for _ in range(4 * LOOKS_PER_RECONCILE):
            for request in location.look(instance):
                asked += 1
                location.run(instance, request)
    assert asked == MAX_ATTEMPTS


def test_sources_that_answer_slowly_hide_no_others(
    fleet: Fleet, model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster ends a tick after a minute and forgets it; the next look goes on behind the one before."""
    more = "".join(f"  {name}: {{source: {tmp_path}/{name}, to: [{tmp_path}/of-{name}]}}\n" for name in ("a", "b", "c"))
    fleet.path.write_text(fleet.path.read_text() + more)
    monkeypatch.setattr(sensors, "LONGEST_LOOK_S", 0)  # every one takes too long
    done("push", model("m", 1), tmp_path / "c")
    location = Location(fleet.path)
    assert [len(location.look()) for _ in range(8)] == [0, 0, 0, 1, 0, 0, 0, 0]


def test_many_new_sets_are_asked_for_once_each_and_some_at_a_time(
    fleet: Fleet, model: Callable[..., Path], tmp_path: Path
) -> None:
    names = [f"m{number}" for number in range(7)]
    more = "".join(f"  {name}: {{source: {tmp_path}/training, to: [{tmp_path}/of-{name}]}}\n" for name in names)
    fleet.path.write_text(fleet.path.read_text() + more + "sensors: {max_requests: 3}\n")
    done("push", model("m", 1), tmp_path / "training")
    location = Location(fleet.path)
    looks = [[each.run_key for each in location.look()] for _ in range(4)]
    assert [len(keys) for keys in looks] == [3, 3, 2, 0]
    assert len({key for keys in looks for key in keys}) == 8


def test_the_same_content_under_other_names_is_another_set(
    fleet: Fleet, model: Callable[..., Path], tmp_path: Path
) -> None:
    location, folder = Location(fleet.path), model("m", 1)
    done("push", folder, tmp_path / "training")
    done("attach", "app:v1.0.0", tmp_path / "training", "--config", str(fleet.path))
    assert not [each for each in location.chain.check_weights("llama").reasons if "attached" in each]
    (folder / "config.json").rename(folder / "generation.json")
    done("push", folder, tmp_path / "training")
    assert "app:v1.0.0 has no such weights attached" in location.chain.check_weights("llama").reasons


def test_a_target_that_lost_a_file_or_cannot_be_had_fails_the_check(
    fleet: Fleet, model: Callable[..., Path], tmp_path: Path
) -> None:
    location = Location(fleet.path)
    done("push", model("m"), tmp_path / "training")
    assert checked(location.run()).passed
    (tmp_path / "serving" / "config.json").unlink()
    result = location.chain.check_weights("llama")
    assert result.reasons == [f"{tmp_path}/serving: config.json is not there, or of another size"]

    for path in (tmp_path / "serving").rglob("*"):
        if path.is_file():
            path.unlink()
    (tmp_path / "serving" / "theirs.txt").write_text("x")
    run = location.run()
    assert not checked(run).passed
    assert "something else lies there" in (checked(run).description or "")


def test_weights_that_must_be_signed_go_nowhere_without(
    fleet: Fleet, model: Callable[..., Path], tmp_path: Path
) -> None:
    fleet.path.write_text(fleet.path.read_text() + "    signed: true\n")
    location, config = Location(fleet.path), ("--config", str(fleet.path))
    folder = model("m")
    done("push", folder, tmp_path / "training")
    assert len(location.look()) == 1
    run = location.run()
    assert not run.success
    assert not (tmp_path / "serving" / "weights.json").exists()
    assert location.look() == []
    done("sign", folder, *config)
    done("push", folder, tmp_path / "training")
    assert len(location.look()) == 1  # the same set, which may be brought now
    run = location.run()
    assert checked(run).passed, checked(run).description
    assert done("verify", "app:v1.0.0", "--signed", *config)["facts"]["whole"] == 6


def test_a_file_beside_those_that_were_signed_goes_nowhere(
    fleet: Fleet, model: Callable[..., Path], tmp_path: Path
) -> None:
    """Our signatures leave `.cache` out; who may write at the source puts a file there and into the list."""
    fleet.path.write_text(fleet.path.read_text() + "    signed: true\n")
    location, folder, training = Location(fleet.path), model("m", 1), tmp_path / "training"
    done("sign", folder, "--config", str(fleet.path))
    done("push", folder, training)
    (training / ".cache").mkdir()
    (training / ".cache" / "x.py").write_bytes(b"import os\n")
    listed = json.loads((training / "weights.json").read_text())
    digest = hashlib.sha256(b"import os\n").hexdigest()
    listed["files"].append({"path": ".cache/x.py", "sha256": digest, "size": 10})
    (training / "weights.json").write_text(json.dumps(listed))
    (training / ".registry-pipelines" / "manifest.json").unlink()
    with pytest.raises(SignatureInvalid, match=r"its signature leaves out \.cache/x\.py"):
        location.chain.bring_weights("llama")
    pulled = done("pull", training, "--to", tmp_path / "x", "--signed", "--config", str(fleet.path))
    assert pulled["notes"] == ["1 file is there and left out by the signature: .cache/x.py"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{source: 'eu/x', to: [/a]}", "has no tag"),
        ("{source: /a}", "has no place where the weights are to be"),
        ("{source: /a, to: [/a]}", "is where they come from"),
        ("{source: ./a, to: [/a]}", "depends on where a run starts"),
        ("{source: /a, image: ap}", "ap"),
    ],
)
def test_what_cannot_be_meant_is_refused(fleet: Fleet, text: str, problem: str) -> None:
    fleet.path.write_text(fleet.path.read_text() + f"  odd: {text}\n")
    with pytest.raises(ConfigInvalid, match=problem):
        load(fleet.path)
