"""Whole systems: what dpkg and pip list is what a scan lists, no more and no less."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.report import PlatformPackages
from registry_pipelines.scan.sbom import scan_image
from registry_pipelines.scan.spdx import write_spdx
from tests.build.roots import debian_root
from tests.scan.images import push_image
from tests.scan.test_spdx import problems as spdx_problems

Peer = Callable[[str], str]


def tar_of(folder: Path) -> bytes:
    command = ["tar", "-C", str(folder), "-c", "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*", "."]
    return subprocess.run(command, check=True, capture_output=True).stdout


def scan(place: Place, *layers: bytes) -> PlatformPackages:
    (found,) = scan_image(place, push_image(place, layers), state=Path(str(place.registry.name)).parent / "state")
    return found


def test_a_virtual_environment_is_what_pip_lists(place: Place) -> None:
    """This environment's own packages in a layer, as an image has them, without their modules."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    )
    expected = {
        (each["name"].lower().replace("_", "-").replace(".", "-"), each["version"])
        for each in json.loads(listed.stdout)
    }
    library = Path(sysconfig.get_path("purelib"))
    folders = [path.name for path in library.iterdir() if path.name.endswith((".dist-info", ".egg-info"))]
    packing = ["tar", "-C", str(library), "-c", "--transform", "s,^,opt/venv/lib/python3.11/site-packages/,", *folders]
    raw = subprocess.run(packing, check=True, capture_output=True).stdout
    found = scan(place, raw)
    packages = {(each.name, each.version) for each in found.components if each.type == "pypi" and not each.inside}
    assert packages == expected and len(packages) > 50


@pytest.mark.long
@pytest.mark.peer("debootstrap", "dpkg-query")
def test_a_debian_system_is_what_dpkg_lists(peer: Peer, place: Place, tmp_path: Path) -> None:
    root = debian_root(tmp_path / "root", "bookworm", peer("debootstrap"))
    query = [
        peer("dpkg-query"),
        "--admindir",
        str(root / "var/lib/dpkg"),
        "-W",
        "-f",
        "${Package} ${Version} ${Architecture}\n",
    ]
    listed = subprocess.run(query, check=True, capture_output=True, text=True).stdout.split("\n")
    found = scan(place, tar_of(root))
    debs = [each for each in found.components if each.type == "deb"]
    assert sorted(
        f"{each.name} {each.version} {each.purl.rpartition('arch=')[2].partition('&')[0]}" for each in debs
    ) == sorted(filter(None, listed))
    assert not found.unknowns
    # A few have free text alone, which is not guessed at.
    assert sum(not each.licenses for each in debs) < len(debs) / 10
    # All that is nobody's was written when the system ran: caches, logs, accounts.
    assert found.unattributed is not None and found.unattributed.files < 400
    assert {each.folder.partition("/")[0] for each in found.unattributed.folders} <= {"var", "etc", "root", "usr"}
    assert spdx_problems(write_spdx(found), tmp_path) == ""
