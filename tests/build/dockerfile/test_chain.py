"""An image from a Dockerfile goes the way of every release: built by command or by Dagster, then promoted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from dagster_project.definitions import build_definitions
from dagster_project.partitions import RELEASES
from registry_pipelines.chain import Chain
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.build.bases import push_base
from tests.build.dockerfile.kit import SECRET, Kit, contents, project
from tests.chain.fleet import write_advisory
from tests.dagster_project.conftest import QUIET
from tests.ports import free_ports

PASSWORD = "pa55-of-the-source"
SETTINGS = """\
version: 1
registries:
  source: {{kind: embedded, port: {port}, users: {{builder: "${{SOURCE_PASSWORD}}"}}}}
  eu: {{kind: embedded, port: {other}}}
images:
  app:
    registry: source
    repository: team/app
    targets: [eu]
    dockerfile:
      version: v1.0.0
      context: context
      args: {{BASE: "127.0.0.1:{port}/bases/shell:1", GREETING: hi}}
      secrets: {{token: {{env: TOKEN}}}}
      network: host
      cache: team/app-cache
targets:
  eu: {{registry: eu}}
syncs:
  all: {{source: source, targets: [eu]}}
signing: {{generate: true}}
advisories: {{source: advisories}}
"""


@pytest.fixture
def settings(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A configuration whose source registry wants a password, which an engine needs for its base and its cache."""
    monkeypatch.setenv("SOURCE_PASSWORD", PASSWORD)
    port, other = free_ports(2)
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(SETTINGS.format(port=port, other=other))
    project(tmp_path / "context")
    write_advisory(tmp_path / "advisories")
    with ensure_registries(load(path)):
        source = DistributionRegistry(f"127.0.0.1:{port}", username="builder", password=PASSWORD, plain_http=True)
        push_base(Place(source, "bases/shell"), "1", kit.store.parent / "root", made_by="shell")
        yield path


def run(settings: Path, *arguments: str, code: int = 0) -> Any:
    found = CliRunner().invoke(main, [*arguments, "--json", "--config", str(settings)])
    assert found.exit_code == code, found.output
    assert SECRET not in found.output and PASSWORD not in found.output
    return answered(found.stdout)


def test_the_whole_way_of_an_image_from_a_dockerfile(settings: Path) -> None:
    shipped = run(settings, "ship", "app")
    names = ["build", "provenance", "sbom", "vulnerabilities", "sign", "judge", "promote", "replicate:eu"]
    assert [each["stage"] for each in shipped["stages"]] == names
    assert {each["status"] for each in shipped["stages"]} == {"ok"}
    built = shipped["stages"][0]
    assert built["facts"]["cache"].endswith("/team/app-cache:app")
    [again] = run(settings, "build", "app")
    assert (again["action"], again["digest"]) == ("unchanged", built["digest"])

    # BuildKit wrote its cache, with the log-in that it was lent; nobody copies it and nobody takes it for a release.
    chain = Chain(load(settings))
    assert chain.registry("source").resolve("team/app-cache", "app")
    [row] = [row for row in chain.retention_plan("source").rows if row["repository"] == "team/app-cache"]
    assert (row["tags"], row["action"], row["why"]) == ("app", "keep", "younger than 14 days")
    run(settings, "sync", "all")
    copied = set(DistributionRegistry(_address(settings, "eu"), plain_http=True).repositories())
    assert copied == {"team/app", "bases/shell"}
    for where, content in contents(settings.parent):
        assert SECRET.encode() not in content and PASSWORD.encode() not in content, where


def _address(settings: Path, name: str) -> str:
    return str(load(settings).registries[name].client_address)


def test_dagster_builds_it_and_the_release_appears(settings: Path) -> None:
    chain = Chain(load(settings))
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(chain.config, lambda: chain).resolve_job_def("build")
        assert job.execute_in_process(partition_key="app", instance=instance, run_config=QUIET).success
        [made] = instance.fetch_materializations(dg.AssetKey("image"), limit=1).records
        assert made.asset_materialization is not None
        metadata = made.asset_materialization.metadata
        assert "buildx" in str(metadata["engine"].value) and made.partition_key == "app"
        assert len(instance.get_dynamic_partitions(RELEASES.name or "")) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("build: {version: v2, requirements: [numpy]}", "stands in place of `build`"),
        ("dockerfile: {version: v1, context: ., cache: team/app}", "is the repository of an image"),
        ("dockerfile: {version: v1, context: ., secrets: {t: {}}}", "name either `file` or `env`"),
        ("dockerfile: {version: v1, context: ., engine: docker, cache: c/c}", "a cache in a registry is BuildKit's"),
        ("dockerfile: {version: prod, context: .}", "cannot be the channel tag"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    other = "" if line.startswith("dockerfile") else "    dockerfile: {version: v1, context: .}\n"
    path.write_text(
        "version: 1\nregistries:\n  r: {kind: distribution, host: r.example}\nimages:\n  app:\n"
        f"    registry: r\n    repository: team/app\n{other}    {line}\n"
    )
    with pytest.raises(ConfigInvalid, match=message):
        load(path)
