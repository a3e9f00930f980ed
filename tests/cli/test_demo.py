"""``demo`` on a configuration of its own: bases, wheels and advisories made here, the real Dagster job in its child."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.chain.outcome import Outcome
from registry_pipelines.cli import main
from registry_pipelines.cli.demo_bases import VERSIONS
from registry_pipelines.cli.demonstration import find_problems
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release
from tests.build.wheels import make_wheel
from tests.chain.fleet import Fleet, push, start
from tests.needs import needed_module

BUILD = (
    "build: {{version: v1.0.0, base: 'us/team/tool:base', python: '3.11', libc: none, platforms: [linux/amd64],"
    " wheels: wheels, requirements: [{0}], application: application}}"
)
SYNC = "syncs:\n  bases: {source: us, repositories: [demo/base], semver: '>=1,<2', targets: [eu, gcp]}\n"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        push(fleet.chain.place("tool"), "base", package="base", provenance=False)
        for name in ("goodwheel", "badwheel"):
            make_wheel(tmp_path / "wheels", name)
        (tmp_path / "application").mkdir()
        (tmp_path / "application" / "app.py").write_text("print('hello')\n")
        images = "".join(
            f"  {name}: {{registry: us, repository: ml/{name}, targets: [eu, gcp], {BUILD.format(wheel)}}}\n"
            for name, wheel in (("forecaster", "goodwheel"), ("recommender", "badwheel"))
        )
        fleet.reload(("targets:\n", f"{images}targets:\n"), ("images: [app]", "images: [forecaster, recommender]"))
        text = fleet.path.read_text()
        fleet.path.write_text(text[: text.index("    upstreams:")] + SYNC)
        yield fleet


def demo(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, *options: str) -> Any:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return CliRunner().invoke(main, ["demo", "--config", str(fleet.path), *options])


def verify(source: str, copied: str, fleet: Fleet) -> Any:
    return CliRunner().invoke(main, ["verify-copy", source, copied, "--config", str(fleet.path)])


def test_the_first_ships_the_second_is_denied_and_again_nothing_moves(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed_module("dagster", "dagster")
    first = demo(fleet, monkeypatch, "--json")
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert {each["release"].partition(":")[0]: each["ships"] for each in told["outcomes"]} == {
        "forecaster": True,
        "recommender": False,
    }
    statuses = {(each["release"].partition(":")[0], each["stage"]): each["status"] for each in told["events"]}
    assert statuses["forecaster", "replicate:gcp"] == statuses["forecaster", "mirror:airgap"] == "ok"
    assert statuses["recommender", "judge"] == "denied"
    assert statuses["", "sync:bases"] == "ok"
    versions = {name: set(fleet.chain.registry(name).tags("demo/base")) for name in ("us", "eu")}
    assert versions == {"us": set(VERSIONS), "eu": {"1.0.0", "1.1.0"}}
    assert verify("us/demo/base:1.1.0", "gcp/replicas/demo/base", fleet).exit_code == 0
    assert "ok" not in {statuses.get(("recommender", stage)) for stage in ("promote", "replicate:eu", "mirror:airgap")}

    second = demo(fleet, monkeypatch)
    assert second.exit_code == 0, second.output
    assert "forecaster:v1.0.0 ships; it is at eu, gcp, airgap" in second.stdout
    assert "recommender:v1.0.0 is denied; it is not at eu, gcp, airgap" in second.stdout
    lines = [line for line in second.stdout.splitlines() if " v1.0.0 " in line or ":v1.0.0 " in line]
    stages = [line for line in lines if "ships" not in line and "denied;" not in line]
    assert len(stages) > 15 and all("unchanged" in line or "skipped" in line for line in stages)
    assert "0 B moved in" in second.stdout
    assert "CRITICAL 9.8: pkg:pypi/badwheel@1.0" in second.stdout


def test_another_outcome_than_the_expected_is_a_problem() -> None:
    def outcome(image: str, *, ships: bool, problems: tuple[str, ...] = ()) -> Outcome:
        return Outcome(Release(image, "v1", Digest.of(image.encode())), ships, (), (), (), problems)

    good, bad = outcome("forecaster", ships=True), outcome("recommender", ships=False)
    assert find_problems([], [good, bad], 0) == []
    assert find_problems([], [good, outcome("recommender", ships=True)], 0) == ["recommender ships"]
    assert find_problems([], [outcome("forecaster", ships=False), bad], 0) == [
        "forecaster was denied",
        "no release ships",
    ]
    assert find_problems([], [], 0) == ["no release ships"]
    assert find_problems([], [good, outcome("other", ships=False, problems=("other:v1 is at eu",))], 0) == [
        "other:v1 is at eu"
    ]
    failed = {"status": "failed", "release": "", "subject": "forecaster", "stage": "build", "action": "broke"}
    assert find_problems([failed], [good], 1) == ["forecaster build: broke"]
    assert find_problems([], [good], 7) == ["exit code 7"]


def test_the_shipped_configuration_runs_in_place_in_a_checkout_and_is_written_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry_pipelines.cli.context import Options
    from registry_pipelines.cli.demonstration import find_demo_config

    monkeypatch.delenv("REGISTRY_PIPELINES_CONFIG", raising=False)
    shipped = ROOT / "deploy" / "demo"
    monkeypatch.chdir(ROOT)
    assert find_demo_config(Options()).absolute() == shipped / "registry-pipelines.yaml"
    monkeypatch.chdir(tmp_path)
    written = find_demo_config(Options())
    assert written == Path("registry-pipelines-demo", "registry-pipelines.yaml")
    names = {path.relative_to(written.parent) for path in written.parent.rglob("*") if path.is_file()}
    assert names == {Path("registry-pipelines.yaml"), Path("forecaster/forecast.py"), Path("recommender/recommend.py")}
    assert all((written.parent / name).read_bytes() == (shipped / name).read_bytes() for name in names)
    written.write_text("version: 1  # changed by its user\n")
    assert find_demo_config(Options()) == written and written.read_text().endswith("its user\n")


def test_a_folder_that_takes_no_demonstration_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGISTRY_PIPELINES_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry-pipelines-demo").write_text("a file")
    done = CliRunner().invoke(main, ["demo"])
    assert done.exit_code == 9 and "registry-pipelines-demo" in done.stderr and "may write to" in done.stderr
