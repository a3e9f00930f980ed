"""The wheel and the container image with the dependencies they declare, from the public index, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines import __version__
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.cli import main
from registry_pipelines.config import load
from tests.answers import answered
from tests.doubles.docker_daemon import Docker, own_docker
from tests.doubles.osv_export import OsvExport, malicious, small_set
from tests.installed import ROOT, build_wheel, run, write_demo
from tests.patience import patient
from tests.ports import free_ports

PRODUCT = ROOT / "deploy" / "product" / "registry-pipelines.yaml"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_declared_dependencies_are_enough_for_the_demonstration(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    venv.create(tmp_path / "environment", with_pip=True, symlinks=True)
    binaries = tmp_path / "environment" / "bin"
    run([str(binaries / "python"), "-m", "pip", "install", "--quiet", f"{wheel}[dagster]"], cwd=tmp_path)
    run([str(binaries / "python"), "-m", "pip", "check"], cwd=tmp_path)
    program = binaries / "registry-pipelines"
    write_demo(program, tmp_path)
    environment = {**os.environ, "PATH": "/usr/bin:/bin"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run([program, "demo", "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {each["ships"] for each in answered(done.stdout)["outcomes"]} == {True, False}


def test_the_image_of_the_product_takes_the_wheel_of_this_version() -> None:
    build = load(PRODUCT, {}).images["registry-pipelines"].build
    assert build is not None
    assert build.requirements[0].startswith(f"wheels/registry_pipelines-{__version__}-py3-none-any.whl[")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.peer("dockerd", "docker")
def test_the_product_builds_and_promotes_its_own_image_which_starts(tmp_path: Path, peer: Callable[[str], str]) -> None:
    """`make image`, with advisories made here in place of OSV's."""
    path, (port, ui, *others) = tmp_path / "deploy" / "product" / PRODUCT.name, free_ports(4)
    path.parent.mkdir(parents=True)
    path.write_text(PRODUCT.read_text().replace("port: 5510", f"port: {port}"))
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    (path.parent / "wheels").mkdir()
    shutil.copy(build_wheel(tmp_path), path.parent / "wheels")
    rest = [
        malicious("nothing", f"2025-{number}", ecosystem=name) for number, name in enumerate(("crates.io", "Bitnami"))
    ]
    with OsvExport([*small_set(), *rest]) as export:
        path.write_text(path.read_text().replace("advisories:\n", f"advisories:\n  feed: {export.url}\n"))
        for command in ("ship registry-pipelines --until sbom", "advisories update", "ship registry-pipelines"):
            told = CliRunner().invoke(main, [*command.split(), "--config", str(path)])
            assert told.exit_code == 0, told.output
    image = f"127.0.0.1:{port}/registry-pipelines:stable"
    folder = tmp_path / "work"
    folder.mkdir()
    folder.chmod(0o777)
    registries = "".join(f"  r{each}: {{kind: embedded, port: {each}}}\n" for each in others)
    settings = f"registries:\n{registries}images: {{app: {{registry: r{others[0]}, repository: team/app}}}}\n"
    (folder / "registry-pipelines.yaml").write_text(f"version: 1\n{settings}signing: {{generate: true}}\n")
    with ensure_registries(load(path, {})), own_docker(peer) as docker:
        assert "Exit codes" in docker("run", "--rm", image, "--help")
        copied = docker("run", "--rm", "--network", "host", image, "copy", image, f"127.0.0.1:{port}/copied", "--json")
        assert json.loads(copied)["ok"]
        shared = ("--network", "host", "--volume", f"{folder}:/work")
        docker("run", "--detach", "--rm", "--name", "dev", *shared, image, "dev", "--port", str(ui))
        until_answered(f"http://127.0.0.1:{ui}/server_info", docker)
        assert "no release" in docker("run", "--rm", *shared, image, "releases")
        docker("stop", "dev")


def until_answered(url: str, docker: Docker) -> None:
    deadline = time.monotonic() + patient(120)
    while True:
        try:
            with urllib.request.urlopen(url, timeout=patient(5)):
                return
        except OSError:
            assert time.monotonic() < deadline, docker("logs", "dev")
            time.sleep(0.2)
