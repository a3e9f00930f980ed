"""Python packages of ours as assets: made, published, and the index asked whether it has that very wheel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from tests.build.packages.test_publishing import project
from tests.doubles.package_index import PackageIndex

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
CONFIG = """\
registries:
  here: {{kind: layout, root: registry}}
packages:
  ours: {{kind: simple, url: "{url}", upload: "{upload}"}}
python_packages:
  tool: {{source: tool, to: ours}}
images:
  app: {{registry: here, repository: ml/app, build: {{version: v1, requirements: [acme-tool], index: [ours]}}}}
signing: {{generate: true}}
"""


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with PackageIndex() as index:
        yield index


def test_a_package_is_made_published_and_looked_for(index: PackageIndex, tmp_path: Path) -> None:
    (tmp_path / "registry-pipelines.yaml").write_text(CONFIG.format(url=index.url, upload=index.upload))
    project(tmp_path / "tool")
    chain = Chain(load(tmp_path / "registry-pipelines.yaml", {}))
    defs = build_definitions(chain.config, lambda: chain)
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    assert [dep.asset_key.path for dep in specs["image"].deps] == [["python_package", "tool"]]

    def run() -> dict[tuple[str, ...], tuple[bool, str]]:
        result = defs.resolve_job_def("python_packages").execute_in_process(run_config=QUIET, raise_on_error=False)
        checks = {tuple(each.asset_key.path): each.passed for each in result.get_asset_check_evaluations()}
        made = {
            tuple(key.path): str(materialized.tags.get("dagster/data_version", ""))
            for event in result.get_asset_materialization_events()
            if (materialized := event.step_materialization_data.materialization) and (key := materialized.asset_key)
        }
        return {key: (checks[key], made[key]) for key in made}

    first = run()
    [offered] = index.projects["acme-tool"].values()
    tool = ("python_package", "tool")
    assert first[tool] == (True, f"sha256:{offered.hashes['sha256']}")
    index.status_for["/simple/acme-tool/"] = 404  # it takes uploads and lists nothing
    assert run()[tool] == (False, first[tool][1])
