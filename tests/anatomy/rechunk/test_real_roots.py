"""A Debian made by debootstrap, with packages that pip installed, rechunked: dpkg, pip and Python find it as it was."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.anatomy.rechunk.engine import read_layouts, rechunk
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.build.roots import debian_root, in_system, unpack_image
from tests.scan.images import push_image
from tests.scan.test_real_images import tar_of

Peer = Callable[[str], str]
INSTALLED = "usr/local/lib/python3.11/dist-packages"
CHECK = "import jinja2, markupsafe; print(jinja2.Template('{{ 6 * 7 }}').render())"


def install(root: Path, *requirements: str) -> None:
    shutil.rmtree(root / INSTALLED, ignore_errors=True)
    told = ["--no-compile", "--python-version", "3.11", "--only-binary", ":all:", "--target", str(root / INSTALLED)]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *told, "pip", *requirements], check=True)
    in_system(root, "python3", "-m", "compileall", "-q", f"/{INSTALLED}")


@pytest.mark.long
@pytest.mark.peer("debootstrap")
def test_dpkg_pip_and_python_find_it_as_it_was(tmp_path: Path, peer: Peer) -> None:
    place = Place(LayoutRegistry(tmp_path / "registry"), "team/app")
    root = debian_root(tmp_path / "root", "bookworm", peer("debootstrap"))
    install(root, "jinja2==3.1.5")
    changes = {"etc/.wh.hostname": b"", "etc/motd": b"welcome\n", "app/main.py": b"print(1)\n"}
    first = rechunk(place, push_image(place, [tar_of(root), changes]).digest, place, state=tmp_path / "state")
    [image] = first.images
    assert image.rewritten > 500 and len(image.layers) <= 64
    assert {"python jinja2", "python pip", "deb libc6"} <= {
        package for layer in image.layout.layers for package in layer.packages
    }
    unpacked = unpack_image(tmp_path / "registry/team/app", first.derived, tmp_path / "unpacked")
    before = in_system(root, "dpkg", "-V")
    assert in_system(unpacked, "dpkg", "-V") == before
    assert in_system(unpacked, "python3", "-m", "pip", "check") == "No broken requirements found.\n"
    assert in_system(unpacked, "python3", "-c", CHECK) == "42\n"
    assert not (unpacked / "etc/hostname").exists() and (unpacked / "etc/motd").read_text() == "welcome\n"
    # Installed anew with one other version: but for it and the lists of files everything stays.
    install(root, "jinja2==3.1.6")
    bumped = push_image(place, [tar_of(root), changes])
    second = rechunk(place, bumped.digest, place, state=tmp_path / "state", previous=read_layouts(place, first.derived))
    made = [each for each in second.images[0].layers if each.how == "uploaded"]
    layout = {each.name: each.packages for each in second.images[0].layout.layers}
    assert len(made) <= 2 and any("python jinja2" in layout[each.name] for each in made)
    assert second.bytes_sent < image.size_after / 10
