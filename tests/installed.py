"""The product as its users have it: the wheel in an environment of its own, without a clone.

Its dependencies are those of the environment that runs the tests: their folders stand on the path behind the wheel's
own, and what only that environment's `.pth` files bring (the product itself, as editable) is not there. That the
declared dependencies are enough is shown by `test_installed.py`, which installs them from the public index.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.ports import free_ports

ROOT = Path(__file__).parents[1]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "registry_pipelines", "dagster_project", "deploy")
"""What a wheel is made from."""


def build_wheel(folder: Path) -> Path:
    """Make the wheel of this checkout in a folder, from a copy: setuptools leaves files beside what it builds."""
    source = folder / "source"
    source.mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir():
            left_out = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=left_out)
        else:
            shutil.copy(ROOT / name, source)
    command = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    run([sys.executable, "-c", command, str(folder)], cwd=source)
    [wheel] = folder.glob("*.whl")
    return wheel


def install(folder: Path) -> Path:
    """Install the wheel in a new environment; returns the environment's program `registry-pipelines`."""
    wheel, environment = build_wheel(folder), folder / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    # Compiled, as pip does it: a hundred commands start from here, each of which would compile 300 modules.
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(wheel)], cwd=folder)
    [own] = environment.glob("lib/python*/site-packages")
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (own / "dependencies.pth").write_text("".join(f"{path}\n" for path in others))
    program = "import registry_pipelines, dagster_project; print(registry_pipelines.__file__, dagster_project.__file__)"
    for file in run([str(python), "-c", program], cwd=folder).split():
        assert Path(file).is_relative_to(own)
    return environment / "bin" / "registry-pipelines"


def installed_once(folder: Path) -> Path:
    """The same in a folder that several processes share; the first makes it, the others wait."""
    environment = folder / "installed"
    with (folder / "installed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        program = environment / "environment" / "bin" / "registry-pipelines"
        if not (environment / "done").exists():
            environment.mkdir()
            program = install(environment)
            (environment / "done").touch()
    return program


def write_demo(program: Path, folder: Path) -> tuple[Path, dict[str, str]]:
    """The demonstration as `demo` writes it at its first start, but on ports that are free, since those of other tests
    may be in use; its configuration, and each port of the shipped one with ours."""
    write = "from registry_pipelines.cli.demonstration import OWN_FOLDER, write_demo; print(write_demo(OWN_FOLDER))"
    path = folder / run([str(program.with_name("python")), "-c", write], cwd=folder).strip()
    text = path.read_text()
    shipped = re.findall(r"port: (\d+)", text)
    ports = dict(zip(shipped, map(str, free_ports(len(shipped))), strict=True))
    path.write_text(re.sub(r"port: (\d+)", lambda found: f"port: {ports[found[1]]}", text))
    return path, ports


def run(command: list[str], *, cwd: Path) -> str:
    """Run a program to its end and give its output; what it said stands in the failure."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
