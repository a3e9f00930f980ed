"""Images on real roots of several Debian releases start there: the wheels are those of the base's C library and Python.

The roots come from the Debian archive, the wheels from the public index.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.build.builder import BuildResult, BuildSpec
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.build.target import RUNNING_PYTHON
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.report import Component
from registry_pipelines.scan.sbom import scan_image
from tests.build.bases import push_base
from tests.build.roots import RELEASES, Release, add_running_python, debian_root, in_system, unpack_image

pytestmark = [pytest.mark.long, pytest.mark.peer("debootstrap"), pytest.mark.timeout(3600)]

BINDINGS = ("cryptography", "numpy", "markupsafe", "pydantic", "anyio")
"""Compiled wheels that are published for several C libraries, and one whose requirements differ by Python version."""
IMPORTS = (
    "import anyio, markupsafe._speedups, numpy, pydantic, platform\n"
    "from cryptography.hazmat.bindings._rust import openssl\n"
    "assert numpy.ones(3).sum() == 3\n"
    "print(platform.python_version(), platform.libc_ver()[1])\n"
)


@dataclass(frozen=True)
class Workshop:
    """A registry folder with bases, and a builder that takes them."""

    folder: Path
    state: Path
    registry: LayoutRegistry

    def add_base(self, name: str, root: Path, environment: dict[str, str] | None = None) -> None:
        push_base(Place(self.registry, f"bases/{name}"), "latest", root, environment=environment)

    def build(self, name: str, spec: BuildSpec) -> tuple[BuildResult, Place]:
        place = Place(self.registry, f"ml/{name}")
        bases = Place(self.registry, f"bases/{name}")
        builder = LayersBuilder(self.state, open_place=lambda reference: (bases, "latest"))
        return builder.build(spec, place), place

    def unpack(self, place: Place, result: BuildResult) -> Path:
        layout = self.folder / "registry" / place.repository
        return unpack_image(layout, str(result.descriptor.digest), self.folder / "unpacked" / place.repository)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Wheels that several tests share are fetched once; several GB, so they do not stay."""
    folder = tmp_path_factory.mktemp("state")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def workshop(tmp_path: Path, state: Path) -> Iterator[Workshop]:
    yield Workshop(tmp_path, state, LayoutRegistry(tmp_path / "registry"))
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory, peer: Callable[[str], str]) -> Callable[[str], Path]:
    """Debian roots by release, each made once."""
    made: dict[str, Path] = {}

    def root(release: str) -> Path:
        if release not in made:
            folder = tmp_path_factory.mktemp("roots") / release
            made[release] = debian_root(folder, release, peer("debootstrap"))
        return made[release]

    return root


def of_debian(release: Release, *requirements: str) -> BuildSpec:
    """What a user says of a base whose Python is Debian's own."""
    return BuildSpec(
        name=release.name,
        base=f"{release.name}:latest",
        python=release.python,
        site_packages=f"/usr/local/lib/python{release.python}/dist-packages",
        interpreter="/usr/bin/python3",
        requirements=requirements,
    )


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_wheels_for_a_debian_base_are_imported_there(
    release: Release, workshop: Workshop, debian: Callable[[str], Path]
) -> None:
    workshop.add_base(release.name, debian(release.name))
    result, place = workshop.build(release.name, of_debian(release, *BINDINGS))
    root = workshop.unpack(place, result)
    version, glibc = in_system(root, "/usr/bin/python3", "-c", IMPORTS).split()
    assert (version.rpartition(".")[0], glibc) == (release.python, release.glibc)


def test_an_older_c_library_gets_older_wheels_of_the_same_python(
    workshop: Workshop, debian: Callable[[str], Path]
) -> None:
    """The builder's Python on Debian 11: without a look at the base pip takes wheels that do not load there.

    The newest manylinux level that this release of cryptography is published for is beyond Debian 11's C library.
    """
    root = debian("bullseye")
    add_running_python(root)
    workshop.add_base("older", root, {"PYTHON_VERSION": f"{RUNNING_PYTHON}.0"})
    pinned = ("cryptography==46.0.3", *BINDINGS[1:])
    result, place = workshop.build("older", BuildSpec(name="older", base="older:latest", requirements=pinned))
    (lock,) = result.lock.values()
    levels = [int(minor) for wheel in lock for minor in re.findall(r"manylinux_2_(\d+)_", wheel.filename)[:1]]
    assert max(levels) <= 31
    told = in_system(workshop.unpack(place, result), f"/usr/local/bin/python{RUNNING_PYTHON}", "-c", IMPORTS)
    assert told.split()[1] == "2.31"


GRADIO = ("gradio<6", "opencv-python-headless", "torch")
"""Up to version 5 gradio requires ruff."""
STARTS = (
    "import cv2, gradio, torch, json\n"
    "interface = gradio.Interface(lambda text: text, 'text', 'text')\n"
    "print(json.dumps({'cv2': cv2.__version__, 'gradio': gradio.__version__, 'torch': torch.__version__,"
    " 'sum': float(torch.ones(3).sum())}))\n"
)


@pytest.mark.parametrize("base", ["trixie", "bookworm", "python"])
def test_a_demo_of_a_model_is_built_started_and_listed(
    base: str, workshop: Workshop, debian: Callable[[str], Path]
) -> None:
    """gradio brings a program of 10 MB and more in its scripts, opencv an old OpenSSL, torch the CUDA libraries."""
    release = next((one for one in RELEASES if one.name == base), None)
    if release:
        workshop.add_base(base, debian(base))
    spec = of_debian(release, *GRADIO) if release else BuildSpec(name=base, base=base, requirements=GRADIO)
    result, place = workshop.build(base, spec)
    python = spec.interpreter or "/usr/local/bin/python3"
    root = workshop.unpack(place, result)
    told = json.loads(in_system(root, python, "-W", "ignore", "-c", STARTS).splitlines()[-1])
    (lock,) = result.lock.values()
    versions = {wheel.name: wheel.version for wheel in lock}
    assert told["sum"] == 3
    assert told["gradio"] == versions["gradio"]
    assert told["torch"].partition("+")[0] == versions["torch"]
    assert "ruff" in in_system(root, "/usr/local/bin/ruff", "--version")
    check_components(scan(place, result, workshop.state), versions)


def scan(place: Place, result: BuildResult, state: Path) -> list[Component]:
    (platform,) = scan_image(place, result.descriptor, state=state)
    return list(platform.components)


def check_components(components: list[Component], versions: dict[str, str]) -> None:
    """Every wheel is there by its version, and what the wheels brought along: OpenSSL in opencv, the crates of ruff."""
    listed = {(component.ecosystem, component.name): component.version for component in components}
    for name, version in versions.items():
        assert listed.get(("PyPI", name)) == version, name
    names = {component.name.lower() for component in components}
    assert {"openssl-libs", "ffmpeg"} <= names
    assert len([component for component in components if component.purl.startswith("pkg:cargo/")]) > 100
