"""Against independent programs: dpkg's own version order and file lists, apt's view of this very system."""

from __future__ import annotations

import itertools
import random
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.media_types import OCI_LAYER
from registry_pipelines.scan.collect import read_layer
from registry_pipelines.scan.components import find_components
from registry_pipelines.scan.merge import merge_layers
from registry_pipelines.scan.report import Component, Unknown
from registry_pipelines.scan.versions import parse_version
from tests.needs import missing
from tests.scan.test_versions import samples

Peer = Callable[[str], str]
PARTS = ["0", "00", "1", "9", "10", "a", "Z", "~", "+", "-", ".", "~~", "rc", "~rc1", "+b1", "deb12u1"]


def generated(count: int) -> list[str]:
    """Versions from pieces where implementations differ: tildes, leading zeros, empty revisions, epochs."""
    chance = random.Random(20261123)
    made: set[str] = set()
    while len(made) < count:
        text = f"{chance.randint(0, 3)}" + "".join(chance.choices(PARTS, k=chance.randint(1, 5)))
        made.add(f"{chance.randint(0, 2)}:{text}" if chance.random() < 0.2 else text)
    return sorted(made)


@pytest.mark.peer("dpkg")
def test_debian_versions_compare_as_dpkg_does(peer: Peer) -> None:
    dpkg = peer("dpkg")
    chance = random.Random(1)
    texts = [*generated(150), *chance.sample(samples("Debian", "debian-versions"), 25)]
    pairs = chance.sample(list(itertools.combinations(texts, 2)), 400)
    compared = 0
    for first, second in pairs:
        one, two = parse_version("Debian:12", first), parse_version("Debian:12", second)
        answers = {
            operator: subprocess.run(
                [dpkg, "--compare-versions", first, operator, second], capture_output=True
            ).returncode
            for operator in ("lt", "eq")
        }
        if one is None or two is None:
            continue
        compared += 1
        assert answers == {"lt": int(not one < two), "eq": int(one != two)}, f"{first} and {second}"
    assert compared > 300


def scan_host(target: Path, *paths: str) -> tuple[list[Component], list[Unknown]]:
    """This system's own files as one layer."""
    with tarfile.open(target, "w") as tar:
        for path in paths:
            if Path(path).exists():
                tar.add(path)
    with target.open("rb", buffering=0) as stream:
        layer = read_layer(open_layer(stream, OCI_LAYER, where="this system"))
    contents = find_components(merge_layers([layer]))
    return contents.components, contents.unknowns


@pytest.mark.peer("dpkg-query")
def test_every_package_that_dpkg_knows_is_found(peer: Peer, tmp_path: Path) -> None:
    query = [
        peer("dpkg-query"),
        "-W",
        "-f",
        "${db:Status-Status} ${Package} ${Version} ${source:Package} ${source:Version}\n",
    ]
    expected = {
        (name, version, source, source_version)
        for status, name, version, source, source_version in (
            line.split(" ")
            for line in subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
        )
        if status == "installed"
    }
    components, unknowns = scan_host(tmp_path / "host.tar", "/var/lib/dpkg", "/etc/os-release", "/usr/lib/os-release")
    listed = {
        (item.name, item.version, item.source_name or item.name, item.source_version or item.version)
        for item in components
        if item.type == "deb"
    }
    assert listed == expected and len(listed) > 50
    assert not unknowns
    assert {item.ecosystem.partition(":")[0] for item in components} <= {"Debian", "Ubuntu"}


@pytest.mark.peer("dpkg")
def test_owners_of_python_packages_are_those_that_dpkg_names(peer: Peer, tmp_path: Path) -> None:
    folder = Path("/usr/lib/python3/dist-packages")
    components, _ = scan_host(
        tmp_path / "host.tar", "/var/lib/dpkg", "/etc/os-release", "/usr/lib/os-release", str(folder)
    )
    python = [item for item in components if item.type == "pypi"]
    if not python:
        missing("this system has no Python packages of its distribution (python3-yaml is one)")
    for item in python:
        place = Path("/", item.locations[0])
        metadata = next((place / name for name in ("METADATA", "PKG-INFO") if (place / name).exists()), place)
        answer = subprocess.run([peer("dpkg"), "-S", str(metadata)], capture_output=True, text=True, check=False)
        owner = answer.stdout.partition(":")[0] if answer.returncode == 0 else ""
        assert item.os_owned in (f"deb {owner}" if owner else "", ""), item
    assert any(item.os_owned for item in python)
