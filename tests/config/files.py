"""A small configuration, and what is wrong with changed ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid

SMALL = """\
registries:
  here: {kind: embedded, port: 5501}
  there: {kind: distribution, host: "reg.example:5000", username: robot, password: "${TOKEN}"}
images:
  forecaster:
    registry: here
    repository: ml/forecaster
    targets: [eu]
targets:
  eu: {registry: there, prefix: replica}
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "registry-pipelines.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems(folder: Path, text: str | bytes, **environment: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load(written(folder, text), {"TOKEN": "hidden-token", **environment})
    prefix = str(folder / "registry-pipelines.yaml")
    assert caught.value.exit_code == 8
    assert all(problem.startswith(prefix) for problem in caught.value.problems)
    return [problem.removeprefix(prefix) for problem in caught.value.problems]
