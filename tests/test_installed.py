"""The wheel with the dependencies it declares, from the public index, in an environment that has nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

from tests.installed import build_wheel, run, write_demo


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
    assert {each["ships"] for each in json.loads(done.stdout)["outcomes"]} == {True, False}
