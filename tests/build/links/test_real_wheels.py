"""Wheels of the public index: what is told of them is what happens when they are imported, and nothing else is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.build.links.image import image_links
from registry_pipelines.build.links.report import LinkReport
from registry_pipelines.build.pushing import layer_descriptor
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.build.bases import push_base
from tests.build.in_root import run_in_root
from tests.build.layers import unpack
from tests.build.links.compiled import Compiler
from tests.patience import patient

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

POPULAR = {
    "numpy": "numpy.linalg", "scipy": "scipy.sparse.linalg", "pandas": "pandas", "pyarrow": "pyarrow.parquet",
    "scikit-learn": "sklearn.ensemble", "pillow": "PIL.Image", "opencv-python-headless": "cv2", "numba": "numba",
    "lxml": "lxml.etree", "h5py": "h5py", "tokenizers": "tokenizers", "onnxruntime": "onnxruntime",
    "matplotlib": "matplotlib.pyplot", "polars": "polars", "cryptography": "cryptography.hazmat.bindings._rust",
}  # fmt: skip


class Built:
    """An image of wheels on the interpreter base, and its files."""

    def __init__(self, folder: Path, requirements: list[str]) -> None:
        wheels = folder / "wheels"
        command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary", ":all:", "-d", wheels, *requirements]
        subprocess.run(command, check=True, timeout=patient(1800))
        self.place = Place(LayoutRegistry(folder / "layout"), "image")
        spec = BuildSpec(name="image", version="v1", requirements=tuple(requirements), wheels=wheels)
        result = LayersBuilder(folder / "state").build(spec, self.place)
        self.report: LinkReport = result.links[str(Platform.here())]
        self.root = folder / "root"
        for row in result.layers:
            unpack(read_blob(self.place, layer_descriptor(row), limit=row.size), self.root)
        for name in ("dev", "tmp"):
            (self.root / name).mkdir(exist_ok=True)
        (self.root / "dev/null").touch()
        (self.root / "dev/urandom").write_bytes(os.urandom(4096))

    def imported(self, module: str) -> subprocess.CompletedProcess[str]:
        return run_in_root(self.root, "/usr/local/bin/python3", "-c", f"import {module}")

    def certain(self) -> dict[tuple[str, ...], set[str]]:
        """Projects to what they miss."""
        found: dict[tuple[str, ...], set[str]] = {}
        for each in self.report.of("certain"):
            found.setdefault(tuple(owner.partition(" ")[0] for owner in each.owners), set()).update(each.needs)
        return found


def test_popular_wheels_are_whole_and_that_is_what_is_said(tmp_path: Path) -> None:
    built = Built(tmp_path, list(POPULAR))
    assert built.certain() == {} and built.report.checked > 500
    likely = built.report.of("likely")
    assert likely == [], [each.text() for each in likely]
    for module in POPULAR.values():
        done = built.imported(module)
        assert done.returncode == 0, f"{module}: {done.stderr[-2000:]}"
    shutil.rmtree(tmp_path / "root")


def test_opencv_lacks_libgl_and_its_import_says_so(tmp_path: Path) -> None:
    built = Built(tmp_path, ["opencv-python"])
    assert "libGL.so.1" in built.certain()["opencv_python",]
    done = built.imported("cv2")
    assert done.returncode == 1
    missing = {name for needs in built.certain().values() for name in needs}
    assert any(f"{name}: cannot open shared object file" in done.stderr for name in missing)


def test_xformers_beside_torch_of_another_cuda(tmp_path: Path) -> None:
    """3 GB. Without a GPU torch and xformers are imported, and xformers says what it could not load."""
    built = Built(tmp_path, ["torch==2.11.0", "xformers==0.0.35"])
    assert built.certain() == {("xformers",): {"libcudart.so.12"}}
    assert built.report.from_driver == ("libcuda.so.1",)
    (only,) = built.report.of("certain")
    assert "libcudart.so.13 is there" in only.why
    done = built.imported(f"torch; torch.ops.load_library({only.files[0]!r})")
    assert "libcudart.so.12: cannot open shared object file" in done.stderr
    done = built.imported("torch; print(torch.zeros(2).sum())")
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_program_of_a_newer_glibc_than_the_base(tmp_path: Path, peer: Callable[[str], str]) -> None:
    """Debian 11 has glibc 2.31; what is compiled here needs 2.34 or newer."""
    root = tmp_path / "root"
    subprocess.run([peer("debootstrap"), "--variant=minbase", "bullseye", root], check=True, capture_output=True)
    (root / "usr/local/bin/newer").write_bytes(Compiler(peer("gcc"), tmp_path / "work").program("newer"))
    (root / "usr/local/bin/newer").chmod(0o755)
    place = Place(LayoutRegistry(tmp_path / "layout"), "image")
    push_base(place, "v1", root)
    report = image_links(place, "v1", Platform.here(), state=tmp_path / "state")
    assert [(each.kind, each.needs) for each in report.of("certain")] == [("version", ("libc.so.6 GLIBC_2.34",))]
    # 2.31 brought no version to this library of its own.
    assert "libc-2.31.so has GLIBC_2.30 at most" in report.of("certain")[0].why
    done = run_in_root(root, "/usr/local/bin/newer")
    assert "version `GLIBC_2.34' not found" in done.stderr
