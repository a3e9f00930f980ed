"""An image of popular wheels holds what pip installs: every file, mode, console script and RECORD row."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.build.target import RUNNING_PYTHON
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.build.bases import push_base
from tests.build.installations import SITE, by_layers, by_pip, differences
from tests.build.layers import DPKG
from tests.build.shapes import NAMES, write_shapes
from tests.needs import missing

PREFIX = "usr/local"
INTERPRETER = f"/usr/local/bin/python{RUNNING_PYTHON}"
WANTED = ["bin/unmarked has mode 755, with pip 644"]
"""The format asks for the executable bit where a wheel from Windows has none; pip does not add it."""

PINS = Path(__file__).parent.parent / "data" / "popular-wheels.txt"
PINNED_FOR = "3.11"


def test_wheels_of_every_shape_are_laid_out_as_pip_lays_them_out(tmp_path: Path) -> None:
    write_shapes(tmp_path / "wheels")
    registry = LayoutRegistry(tmp_path / "registry")
    bases, place = Place(registry, "bases/python"), Place(registry, "ml/shapes")
    push_base(bases, "slim", {"var/lib/dpkg/status": DPKG}, environment={"PYTHON_VERSION": f"{RUNNING_PYTHON}.1"})
    builder = LayersBuilder(tmp_path / "state", open_place=lambda reference: (bases, "slim"))
    spec = BuildSpec(name="shapes", base="python:slim", requirements=NAMES, wheels=tmp_path / "wheels")
    result = builder.build(spec, place)
    ours = by_layers(
        tmp_path / "registry" / place.repository,
        str(result.descriptor.digest),
        base_layers=1,
        prefix=PREFIX,
        interpreter=INTERPRETER,
    )
    theirs = by_pip(tmp_path / "environment", tmp_path / "wheels", list(NAMES))
    assert sum(path.endswith("/RECORD") for path in ours) == len(NAMES)
    lines = differences(ours, theirs)
    assert lines == WANTED, "\n".join(lines[:60])


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of the list, from the public index: 162 files, 1.2 GB."""
    if RUNNING_PYTHON != PINNED_FOR:
        missing(f"the list of popular wheels is pinned for Python {PINNED_FOR}")
    folder = tmp_path_factory.mktemp("wheels")
    download = ("download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder))
    subprocess.run([sys.executable, "-m", "pip", *download, "-r", str(PINS)], check=True)
    return folder


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_an_image_of_popular_wheels_holds_what_pip_installs(tmp_path: Path, wheels: Path) -> None:
    requirements = [line for line in PINS.read_text().splitlines() if line and not line.startswith("#")]
    assert len(requirements) > 60
    spec = BuildSpec(name="popular", requirements=tuple(requirements), wheels=wheels)
    place = Place(LayoutRegistry(tmp_path / "registry"), "ml/popular")
    result = LayersBuilder(tmp_path / "state").build(spec, place)
    ours = by_layers(
        tmp_path / "registry" / place.repository,
        str(result.descriptor.digest),
        base_layers=2,
        prefix=PREFIX,
        interpreter=INTERPRETER,
    )
    theirs = by_pip(tmp_path / "environment", wheels, requirements)
    # setuptools brings copies of other packages, with their records, further below.
    installed = re.compile(rf"{re.escape(SITE)}/[^/]+\.dist-info/RECORD")
    assert sum(installed.fullmatch(path) is not None for path in ours) == len(requirements)
    assert sum(path.startswith(SITE) for path in ours) > 20_000
    assert sum(path.startswith("bin/") for path in ours) > 30
    lines = differences(ours, theirs)
    assert not lines, "\n".join(lines[:60])
