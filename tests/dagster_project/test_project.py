"""What an expert of Dagster looks for: owners, links to code, how old things may be, pools, tags, components."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from dagster_project import components
from dagster_project.components import ImageLine
from dagster_project.definitions import build_definitions
from dagster_project.freshness import longest_gap
from dagster_project.schedules import run_tags
from registry_pipelines.chain.release_keys import ReleaseKeys
from registry_pipelines.config import Config, Image, load
from registry_pipelines.errors import ConfigInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release
from tests.patience import patient

ROOT = Path(__file__).parents[2]
SETTINGS = """\
registries:
  here: {kind: embedded, port: 5999}
  eu: {kind: embedded, port: 5998}
images:
  app: {registry: here, repository: vision/app, targets: [eu]}
  tool: {registry: here, repository: tools/tool, owners: [tool@example.com]}
targets: {eu: {registry: eu}}
backups:
  nightly: {registries: [here], to: eu}
retention: [{registry: here, keep_newest: 3}]
deploy:
  web: {kind: kubernetes, image: tool, registry: here, namespace: web, object: web}
report: {teams: {vision: ["vision/*"]}}
schedules: {retention: "0 3 * * 0"}
dagster:
  owners: {platform: ["team:ops"], security: [sec@example.com]}
  pools: {eu: 2}
"""


def configured(folder: Path, *more: str) -> Config:
    path = folder / "registry-pipelines.yaml"
    path.write_text(SETTINGS + "".join(more))
    return load(path, {})


def specs(config: Config) -> dict[str, dg.AssetSpec]:
    return {each.key.to_user_string(): each for each in build_definitions(config).resolve_all_asset_specs()}


def test_everything_has_the_owners_of_the_configuration(tmp_path: Path) -> None:
    config = configured(tmp_path)
    found = {name: list(each.owners) for name, each in specs(config).items()}
    assert (found["promotion"], found["verdict"]) == (["team:ops"], ["sec@example.com"])
    assert found["deployed/web"] == ["tool@example.com"]
    repository = build_definitions(config).get_repository_def()
    jobs = {each.name: each.owners for each in repository.get_all_jobs() if not each.name.startswith("__")}
    assert jobs["retention"] == ["team:ops"] and set(jobs["release"] or []) == {"team:ops", "sec@example.com"}
    assert [name for name, owners in jobs.items() if not owners] == []
    for each in (*repository.sensor_defs, *repository.schedule_defs):
        assert each.owners, each.name


def test_owners_that_name_nobody_are_refused(tmp_path: Path) -> None:
    for old, new, said in (
        ("platform: [", "plattform: [", "did you mean `platform`?"),
        ("sec@example.com", "sec", "write an e-mail address, or team: and a name"),
        ("pools: {eu: 2}", "pools: {eus: 2}", "did you mean `eu`?"),
        ("pools: {eu: 2}", "source: 'https://me:pw@host/x'", "without a password"),
    ):
        path = tmp_path / "registry-pipelines.yaml"
        path.write_text(SETTINGS.replace(old, new))
        with pytest.raises(ConfigInvalid, match="dagster") as refused:
            load(path, {})
        assert said in str(refused.value)


def code_of(spec: dg.AssetSpec) -> list[Any]:
    return list(spec.metadata["dagster/code_references"].code_references)


def test_assets_link_to_their_code_and_to_their_lines_of_the_configuration(tmp_path: Path) -> None:
    [code, entry] = code_of(specs(configured(tmp_path))["backup/nightly"])
    lines = Path(code.file_path).read_text().splitlines()
    assert code.file_path.endswith("dagster_project/assets/recover.py")
    assert any("def backed_up(" in each for each in lines[code.line_number - 1 : code.line_number + 25])
    assert (
        Path(entry.file_path).read_text().splitlines()[entry.line_number - 1]
        == "  nightly: {registries: [here], to: eu}"
    )
    at = "dagster: {source: https://git.example.com/o/r/src/commit/abc, configuration_source: https://x.io/c/raw/1,"
    text = SETTINGS.replace("dagster:\n", f"{at}\n")
    text = text.replace("\n  pools: {eu: 2}\n", ", pools: {eu: 2}}\n")
    (tmp_path / "registry-pipelines.yaml").write_text(text)
    [code, entry] = code_of(specs(load(tmp_path / "registry-pipelines.yaml", {}))["backup/nightly"])
    assert code.url.startswith("https://git.example.com/o/r/src/commit/abc/dagster_project/assets/recover.py#L")
    assert entry.url == "https://x.io/c/raw/1/registry-pipelines.yaml#L9"
    for name, spec in specs(configured(tmp_path)).items():
        assert code_of(spec), name


def test_what_a_schedule_makes_may_be_as_old_as_the_schedule_says(tmp_path: Path) -> None:
    found = specs(configured(tmp_path))
    policy = found["retention/here"].freshness_policy
    assert isinstance(policy, dg.FreshnessPolicy)
    assert policy == dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=14, hours=16, minutes=48), warn_window=timedelta(days=7, hours=16, minutes=48)
    )
    assert found["promotion"].freshness_policy is None and found["collected/here"].freshness_policy is None
    assert longest_gap("*/30 * * * *", "UTC") == timedelta(minutes=30)
    assert longest_gap("nonsense", "UTC") == timedelta(0)


def test_limits_of_pools_are_set_once_and_an_operators_stay(tmp_path: Path) -> None:
    defs = build_definitions(configured(tmp_path))
    graph = defs.resolve_asset_graph()
    assert graph.get(dg.AssetKey(["replica", "eu"])).pools == {"registry-eu"}
    assert graph.get(dg.AssetKey(["inventory", "here"])).pools == {"registry-here"}
    sensor = defs.get_repository_def().get_sensor_def("pool_limits")
    with dg.DagsterInstance.ephemeral() as instance:

        def set_limits() -> dict[str, int]:
            return {each.name: each.limit for each in instance.event_log_storage.get_pool_limits()}

        first = sensor.evaluate_tick(dg.build_sensor_context(instance=instance))
        assert set_limits() == {"registry-eu": 2, "registry-here": 4, "start": 1, "rescan": 1, "sweep": 1}
        instance.event_log_storage.set_concurrency_slots("registry-eu", 1)
        sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=first.cursor))
        assert set_limits()["registry-eu"] == 1
        (tmp_path / "registry-pipelines.yaml").write_text(SETTINGS.replace("{eu: 2}", "{eu: 7}"))
        changed = build_definitions(load(tmp_path / "registry-pipelines.yaml", {})).get_repository_def()
        again = changed.get_sensor_def("pool_limits")
        again.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=first.cursor))
        assert set_limits()["registry-eu"] == 7


def test_runs_have_image_registry_team_and_digest_as_tags(tmp_path: Path) -> None:
    config = configured(tmp_path)
    release = Release("app", "v1.0.0", Digest.parse("sha256:" + "5" * 64))
    [key] = ReleaseKeys(config.state).name([release]).values()
    assert run_tags(config, key) == {
        "registry-pipelines/image": "app",
        "registry-pipelines/digest": release.digest,
        "registry-pipelines/registry": "here",
        "registry-pipelines/team": "vision",
    }
    assert run_tags(config, "typed by hand") == {}


LINE = """\
type: dagster_project.components.ImageLine
attributes:
  name: lined
  registry: here
  repository: vision/lined
  targets: [eu]
"""


def lined(folder: Path, text: str) -> Config:
    line = folder / "lines" / "lined" / "defs.yaml"
    line.parent.mkdir(parents=True, exist_ok=True)
    line.write_text(text)
    return configured(folder, "image_lines: lines\n")


def test_an_image_line_is_an_image_of_the_configuration_with_an_asset(tmp_path: Path) -> None:
    config = lined(tmp_path, LINE)
    assert config.images["lined"].targets == ("eu",) and config.images["lined"].repository == "vision/lined"
    spec = specs(config)["line/lined"]
    assert list(spec.owners) == ["team:vision"] and spec.freshness_policy is not None
    [_, entry] = code_of(spec)
    assert (entry.file_path, entry.line_number) == (str(tmp_path / "lines" / "lined" / "defs.yaml"), 1)
    jobs = {each.name for each in build_definitions(config).get_repository_def().get_all_jobs()}
    assert "lines" in jobs


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("registry: here", "registri: here", r"defs\.yaml:4: attributes\.registri"),
        ("  name: lined\n", "", r"defs\.yaml:1: attributes: `name` is missing"),
        ("vision/lined", "'{{ env.REPO }}'", "templates of Dagster are not read here"),
        ("registry: here", "registry: nowhere", r"yaml:18: images\.lined\.registry: unknown"),
        ("name: lined", "name: app", "has the image app, which is there already"),
        ("type: dag", "type: [dag", r"defs\.yaml:\d+: is not valid YAML"),
    ],
)
def test_what_is_wrong_in_a_line_is_told_where_it_stands(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said):
        lined(tmp_path, LINE.replace(old, new))


def test_other_components_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    config = lined(tmp_path, "type: dagster.DefsFolderComponent\n---\n" + LINE)
    assert "lined" in config.images


def test_the_components_fields_are_those_of_an_image_with_the_same_defaults() -> None:
    component = ImageLine(name="a", registry="b", repository="c")
    image = Image(name="a", registry="b", repository="c")
    for name in ImageLine.model_fields:
        plain = getattr(component, name)
        assert (tuple(plain) if isinstance(plain, list) else plain) == getattr(image, name), name
    [own] = component.build_defs(None).assets or ()  # type: ignore[arg-type]
    assert isinstance(own, dg.AssetsDefinition) and own.key == dg.AssetKey(["line", "a"])
    assert components.__all__ == ["ImageLine"]


def dg_cli(folder: Path, *words: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command ``dg`` in a project. home: where it writes, and the configuration is; the project itself else."""
    home = home or folder
    environment = {
        **os.environ,
        "HOME": str(home),
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": f"{folder}:{ROOT}",
        "VIRTUAL_ENV": sys.prefix,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "REGISTRY_PIPELINES_CONFIG": str(home / "registry-pipelines.yaml"),
    }
    program = Path(sys.executable).with_name("dg")
    command = [str(program), *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=patient(120)
    )


PROJECT = """\
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "ours"
code_location_target_module = "dagster_project.definitions"
registry_modules = ["dagster_project.components"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of ``dg`` whose lines are images of a configuration."""
    (tmp_path / "ours" / "defs").mkdir(parents=True)
    (tmp_path / "ours" / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    configured(tmp_path, "image_lines: ours/defs\n")
    return tmp_path


def test_dg_checks_and_lists_what_there_is(project: Path) -> None:
    """Each command is two processes of seconds; what they do more is in the long one below."""
    (project / "ours" / "defs" / "lined").mkdir()
    (project / "ours" / "defs" / "lined" / "defs.yaml").write_text(LINE)
    checked = dg_cli(project, "check", "defs")
    assert checked.returncode == 0 and "All definitions loaded" in checked.stderr + checked.stdout, checked.stderr
    listed = dg_cli(project, "list", "defs", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "line/lined" in {each["asset_key"] for each in json.loads(listed.stdout)["assets"]}


@pytest.mark.long
def test_dg_scaffolds_a_line_and_refuses_what_is_none(project: Path) -> None:
    words = ["dagster_project.components.ImageLine", "lined", "--registry", "here", "--repository", "vision/lined"]
    made = dg_cli(project, "scaffold", "defs", *words)
    assert made.returncode == 0, made.stdout + made.stderr
    file = project / "ours" / "defs" / "lined" / "defs.yaml"
    assert yaml.safe_load(file.read_text())["attributes"] == {
        "name": "lined",
        "registry": "here",
        "repository": "vision/lined",
    }
    assert "lined" in load(project / "registry-pipelines.yaml", {}).images
    own = dg_cli(ROOT, "check", "defs", home=project)
    assert own.returncode == 0 and "All definitions loaded" in own.stderr + own.stdout, own.stdout + own.stderr
    file.write_text(file.read_text().replace("registry: here", "registri: here"))
    refused = dg_cli(project, "check", "yaml")
    assert refused.returncode == 1 and "registri" in refused.stdout + refused.stderr
