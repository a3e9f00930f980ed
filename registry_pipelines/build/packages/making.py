"""A wheel of a source folder, the same one each time: built from a copy, with the times of the last commit.

pip runs the build backend that ``pyproject.toml`` names. What the backend brings comes from the indexes that are told,
or from this environment; its version is part of the wheel (``WHEEL``, ``Generator``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from registry_pipelines.build.packages.front import Front
from registry_pipelines.build.packages.sources import Sources
from registry_pipelines.build.revision import read_revision
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import InputError, LocalError, RequirementsInvalid
from registry_pipelines.threads import run_child

BUILD_S = 3600.0
"""A build of extension modules takes minutes."""

EPOCH = 315_532_800
"""1980-01-01 in Unix seconds, before which a zip has no times: of folders in no commit."""

SAID_BYTES = 4000
"""Of a backend's last words in an error."""

_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".hg", ".svn", "__pycache__", "*.pyc", "*.egg-info", "build", "dist", ".venv"
)


def make_wheel(source: Path, into: Path, *, sources: Sources | None, store: WheelStore) -> Path:
    """Build a wheel of a source folder into an empty folder. sources: where its backend comes from; this environment
    without. Raises InputError (no project), RequirementsInvalid (its backend fails), LocalError, as ``Sources``."""
    if not (source / "pyproject.toml").is_file() and not (source / "setup.py").is_file():
        raise InputError("it has no pyproject.toml", where=str(source), do="Name the folder of a Python project")
    copy = into / "source"
    try:
        shutil.copytree(source, copy, symlinks=True, ignore=_LEFT_OUT)
    except (OSError, shutil.Error) as error:
        raise LocalError(f"the source cannot be copied: {str(error)[:300]}", where=str(source)) from error
    revision = read_revision(source)
    time = int(revision.time.timestamp()) if revision and revision.time else EPOCH
    settings = {"SOURCE_DATE_EPOCH": str(max(time, EPOCH)), "PYTHONHASHSEED": "0", "TMPDIR": str(into)}
    if sources is None:
        return _built(copy, into, source, settings, isolated=False)
    with Front(sources, store) as front:
        try:
            wheel = _built(copy, into, source, {**settings, **front.settings}, isolated=True)
        except RequirementsInvalid as error:
            front.raise_failure()
            raise RequirementsInvalid(front.redacted(error.what), where=error.where, do=error.do) from None
        front.raise_failure()
        return wheel


def _built(copy: Path, into: Path, source: Path, settings: Mapping[str, str], *, isolated: bool) -> Path:
    made = into / "made"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-cache-dir", "-w", str(made)]
    # A backend may ask pip for more by itself (setuptools: `setup_requires`), of an index that nobody named.
    command += [] if isolated else ["--no-build-isolation", "--no-index"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INPUT": "1",
        **({} if isolated else {"PIP_NO_INDEX": "1"}),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **settings,
    }
    try:
        done = run_child([*command, str(copy)], env=environment, timeout_s=BUILD_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(f"the build did not finish: {error}", where=str(source)) from error
    wheels = sorted(made.glob("*.whl")) if made.is_dir() else []
    if done.returncode or len(wheels) != 1:
        words = (done.stderr or done.stdout)[-SAID_BYTES:].decode(errors="replace").replace(str(copy), str(source))
        raise RequirementsInvalid(
            f"no wheel was built: {words.strip()}",
            where=str(source),
            do="Build it by hand with `pip wheel --no-deps`, or name in `built_with` the indexes that have its backend",
        )
    return wheels[0]


__all__ = ["make_wheel"]
