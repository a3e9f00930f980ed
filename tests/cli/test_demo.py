"""What ``demo`` expects, and where it is written. Its runs and what they print are in ``tests/test_readme.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.chain.outcome import Outcome
from registry_pipelines.cli import main
from registry_pipelines.cli.demo_bases import VERSIONS
from registry_pipelines.cli.demonstration import few_problems, find_problems
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release
from tests.answers import answered
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]


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
    assert names == {
        Path("registry-pipelines.yaml"),
        Path("prices.json"),
        Path("forecaster/forecast.py"),
        Path("recommender/recommend.py"),
    }
    assert all((written.parent / name).read_bytes() == (shipped / name).read_bytes() for name in names)
    written.write_text("version: 1  # changed by its user\n")
    assert find_demo_config(Options()) == written and written.read_text().endswith("its user\n")


def test_a_folder_that_takes_no_demonstration_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGISTRY_PIPELINES_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "registry-pipelines-demo").write_text("a file")
    done = CliRunner().invoke(main, ["demo"])
    assert done.exit_code == 9 and "registry-pipelines-demo" in done.stderr and "may write to" in done.stderr


def test_of_many_problems_the_first_stand_in_the_error() -> None:
    problems = [f"blob {number} is missing" for number in range(100)]
    assert few_problems(problems[:5]) == "; ".join(problems[:5])
    assert few_problems(problems).endswith("blob 4 is missing; and 95 more, which `--json` lists")


def test_the_base_images_come_without_the_rest_where_others_launch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [port] = free_ports(1)
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(
        f"registries: {{here: {{kind: embedded, port: {port}}}}}\n"
        "targets: {there: {registry: here, prefix: copies}}\n"
        "syncs: {bases: {source: here, repositories: [demo/base], targets: [there]}}\n"
    )
    monkeypatch.setenv("REGISTRY_PIPELINES_CONFIG", str(path))
    first, again = (CliRunner().invoke(main, ["demo", "--bases"]) for _ in range(2))
    assert first.exit_code == 0 and f":{port}/demo/base: 1.0.0, 1.1.0, 1.2.0-rc.1, 2.0.0\n" in first.stdout
    assert again.exit_code == 0 and again.stdout.strip().endswith("2.0.0, there before")
    [told] = answered(CliRunner().invoke(main, ["demo", "--bases", "--json"]).stdout)["bases"]
    assert told["address"].endswith(f":{port}/demo/base") and told["versions"] == list(VERSIONS)
    assert (told["sync"], told["registry"], told["changed"]) == ("bases", "here", False)
    path.write_text(path.read_text().replace("demo/base", "other/base"))
    assert answered(CliRunner().invoke(main, ["demo", "--bases", "--json"]).stdout)["bases"] == []
