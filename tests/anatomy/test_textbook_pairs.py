"""Textbook pairs, built by a real BuildKit and measured: what anatomy says against ``du``, ``dpkg -S``, ``pip show``.

The bases stand in for CUDA's, which no registry here has: Debian 12 by debootstrap, with the files of NVIDIA's wheels.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry_pipelines.anatomy.anatomy import image_anatomy
from registry_pipelines.anatomy.report import Anatomy
from registry_pipelines.build.dockerfile.builder import DockerfileBuilder, DockerfileResult
from registry_pipelines.build.dockerfile.model import DockerfileSpec
from registry_pipelines.registry.protocol import Place
from tests.anatomy.textbook import download, push_bases
from tests.build.dockerfile.kit import Kit
from tests.build.dockerfile.kit import kit as started
from tests.build.in_root import run_in_root

pytestmark = [pytest.mark.long, pytest.mark.peer("docker-buildx", "debootstrap"), pytest.mark.timeout(1800)]

PIP = (
    "RUN --mount=type=bind,source=wheels,target=/w "
    "pip install --no-index --find-links /w --break-system-packages {} numpy\n"
)
CONDA = (
    "RUN --mount=type=bind,from=tools,target=/t PYTHONPATH=/t/tools "
    "python3 /t/tools/install.py file:///t/channel /opt/conda scipy"
)


class Shelf:
    """A kit, with the bases in its registry and a context for builds."""

    def __init__(self, kit: Kit, folder: Path, context: Path) -> None:
        self.kit, self.folder, self.context = kit, folder, context
        self._built = 0

    def build(self, name: str, dockerfile: str, version: str = "v1.0.0") -> DockerfileResult:
        (self.context / "Dockerfile").write_text(dockerfile)
        spec = DockerfileSpec(
            name=name, version=version, context=self.context, args={"REGISTRY": self.kit.server}, network="host"
        )
        return DockerfileBuilder(self.folder / "state").build(spec, self.place(name))

    def place(self, name: str) -> Place:
        return self.kit.place(f"pairs/{name}")

    def anatomy(self, name: str, version: str = "v1.0.0") -> Anatomy:
        return image_anatomy(self.place(name), version, state=self.folder / "state", all_files=True)

    def unpacked(self, name: str) -> Path:
        """The image's files as Docker gives them to a container."""
        root = self.folder / "unpacked" / name
        if not root.exists():
            root.mkdir(parents=True)
            reference, run = f"{self.kit.server}/pairs/{name}:v1.0.0", self._docker
            run("pull", "-q", reference)
            made = run("create", reference, "none").strip()
            run("export", "-o", str(tar := root.with_suffix(".tar")), made)
            subprocess.run(["tar", "-xf", tar, "-C", root], check=True)
            tar.unlink()  # a gigabyte
        return root

    def _docker(self, *command: str) -> str:
        environment = {**os.environ, **self.kit.environment}
        done = subprocess.run(["docker", *command], env=environment, capture_output=True, text=True, check=True)
        return done.stdout


@pytest.fixture(scope="module")
def shelf(peer: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp("pairs")
    context = folder / "context"
    download(context / "wheels", "numpy==2.4.6", "scipy==1.17.1")
    (context / "app.py").write_text("print('hello')\n")
    with started(peer, folder / "kit") as kit, pytest.MonkeyPatch.context() as patch:
        for name, value in kit.environment.items():
            patch.setenv(name, value)
        push_bases(kit, peer, folder)
        yield Shelf(kit, folder, context)


def base(name: str) -> str:
    return f"ARG REGISTRY\nFROM ${{REGISTRY}}/cuda/tools:1 AS tools\nFROM ${{REGISTRY}}/cuda/{name}:1\n"


def bytes_of(root: Path, *paths: str) -> int:
    """As du counts: each content once."""
    command = [
        "du",
        "--apparent-size",
        "--block-size=1",
        "--summarize",
        "--total",
        *(str(root / path) for path in paths),
    ]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1].split()[0])


def file_bytes(root: Path) -> int:
    """Of regular files, each content once."""
    seen, total = set(), 0
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            found = path.lstat()
            if path.is_file() and not path.is_symlink() and found.st_ino not in seen:
                seen.add(found.st_ino)
                total += found.st_size
    return total


def test_a_devel_base_against_a_runtime_base(shelf: Shelf) -> None:
    for name in ("runtime", "devel"):
        shelf.build(name, base(name) + PIP.format("--no-cache-dir"))
    slim, fat = shelf.anatomy("runtime"), shelf.anatomy("devel")
    root = shelf.unpacked("devel")
    assert abs(fat.seen - file_bytes(root)) < 4096  # Docker writes its own /etc/hosts and its like
    kinds = {each.kind: each for each in fat.advice}
    assert {"compilers", "headers", "static-libraries"} <= kinds.keys()
    assert not {"compilers", "static-libraries"} & {each.kind for each in slim.advice if each.size > 1 << 20}
    wasted = sum(kinds[name].size for name in ("compilers", "headers", "static-libraries"))
    print(
        f"devel {fat.compressed} stored, runtime {slim.compressed}; told {wasted}, more {fat.seen - slim.seen} unpacked"
    )
    assert wasted > 0.5 * (fat.seen - slim.seen)


def test_owners_are_those_of_dpkg_and_pip(shelf: Shelf) -> None:
    if not (shelf.place("runtime").registry.tags("pairs/runtime")):
        shelf.build("runtime", base("runtime") + PIP.format("--no-cache-dir"))
    found, root = shelf.anatomy("runtime"), shelf.unpacked("runtime")
    owners = {f"/{each.path}": each.owner for each in found.files if not each.gone}
    paths = sorted(path for path, owner in owners.items() if owner.startswith("deb "))
    done = run_in_root(root, "dpkg", "-S", *paths[::7])
    theirs = {path: names for names, _, path in (line.partition(": ") for line in done.stdout.splitlines())}
    assert len(theirs) > 300
    for path, names in theirs.items():
        assert owners[path].removeprefix("deb ") in {name.partition(":")[0] for name in names.split(", ")}, path
    shown = run_in_root(root, "pip", "show", "-f", "numpy").stdout
    site = next(line.partition(": ")[2] for line in shown.splitlines() if line.startswith("Location"))
    listed = {os.path.normpath(f"{site}/{line.strip()}") for line in shown.partition("Files:\n")[2].splitlines()}
    ours = {path for path, owner in owners.items() if owner.startswith("python numpy ")}
    assert {path for path in ours if not path.endswith(".pyc")} == {
        path for path in listed if not path.endswith(".pyc")
    }


def test_conda_with_and_without_clean(shelf: Shelf) -> None:
    """What stays in ``pkgs`` is linked to the environment's files: in one layer it weighs nothing but names."""
    for name, rest in (
        ("kept", ""),
        ("clean", " && rm -rf /opt/conda/pkgs"),
        ("late", "\nRUN rm -rf /opt/conda/pkgs"),
        ("moved", "\nRUN cp -r /opt/conda /opt/env && rm -rf /opt/conda"),
    ):
        shelf.build(name, base("runtime") + CONDA + rest + "\n")
    found = {name: shelf.anatomy(name) for name in ("kept", "clean", "late", "moved")}
    told = {name: {each.kind: each.size for each in image.advice} for name, image in found.items()}
    print({name: (image.compressed, image.seen, told[name].get("conda-cache", 0)) for name, image in found.items()})
    root = shelf.unpacked("kept")
    linked = bytes_of(root, "opt/conda/pkgs", "opt/conda/lib") - bytes_of(root, "opt/conda/lib")
    assert told["kept"].get("conda-cache", 0) <= linked + (1 << 16)
    assert told["clean"].get("conda-cache", 0) == 0
    assert found["late"].compressed >= found["clean"].compressed
    assert told["moved"]["hidden"] > 0.9 * bytes_of(shelf.unpacked("clean"), "opt/conda/lib")
    # Both lists have each file, and the language's counts.
    scipy = [each for each in found["clean"].files if each.path.startswith("opt/conda/lib") and "/scipy" in each.path]
    assert {(each.owner, each.more_owners) for each in scipy} == {("python scipy 1.17.1", ("conda scipy 1.17.1",))}
    owner = next(each for each in found["clean"].owners if each.name == "python scipy 1.17.1")
    assert owner.size == sum(each.size for each in scipy)


def test_an_application_below_its_dependencies(shelf: Shelf) -> None:
    code, install = "COPY app.py /app/\n", PIP.format("--no-cache-dir")
    sent = {}
    for name, lines in (("below", code + install), ("above", install + code)):
        (shelf.context / "app.py").write_text("print('hello')\n")
        shelf.build(name, base("runtime") + lines)
        (shelf.context / "app.py").write_text("print('hello again')\n")
        sent[name] = shelf.build(name, base("runtime") + lines, version="v1.0.1").bytes_uploaded
    print(f"one line of code changed: {sent}")
    assert sent["below"] > 20 * sent["above"]
    kinds = {name: {each.kind for each in shelf.anatomy(name).advice} for name in ("below", "above")}
    assert "application-below-dependencies" in kinds["below"] - kinds["above"]
