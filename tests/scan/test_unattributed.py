"""Files that nobody owns are counted; who brought a component, and under which licence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.cyclonedx import read_cyclonedx, write_cyclonedx
from registry_pipelines.scan.facts import LayerContent
from registry_pipelines.scan.licenses import spdx_expression
from registry_pipelines.scan.merge import merge_layers
from registry_pipelines.scan.report import FolderCount, PlatformPackages, Unattributed, unattributed_lines
from registry_pipelines.scan.sbom import scan_image
from registry_pipelines.scan.unattributed import count_unattributed
from tests.scan.images import DEBIAN, ELF, Files, dist_info, make_tar, push_image

SITE = "usr/local/lib/python3.11/site-packages"


def scan(place: Place, *layers: Files | bytes) -> PlatformPackages:
    (found,) = scan_image(place, push_image(place, layers), state=Path(str(place.registry.name)).parent / "state")
    return found


def count(place: Place, *layers: Files | bytes) -> Unattributed:
    unattributed = scan(place, *layers).unattributed
    assert unattributed is not None
    return unattributed


def test_what_packages_list_is_theirs(place: Place) -> None:
    files: dict[str, bytes | str] = {
        **DEBIAN,
        **dist_info("owner", "1", root=SITE),
        f"{SITE}/owner/__init__.py": "",
        f"{SITE}/owner/__pycache__/__init__.cpython-311.pyc": "x",
        "usr/local/lib/python3.11/os.py": "",
        "usr/local/lib/python3.11/json/decoder.py": "",
        "app/node_modules/left-pad/package.json": '{"name":"left-pad","version":"1.0.0"}',
        "app/node_modules/left-pad/index.js": "module",
    }
    assert count(place, files) == Unattributed(
        # os-release is in no list of this small system.
        files=1,
        size_bytes=len(DEBIAN["etc/os-release"]),
        folders=(FolderCount(folder="etc", files=1, size_bytes=len(DEBIAN["etc/os-release"])),),
    )


def test_what_nobody_lists_is_counted_by_folder(place: Place) -> None:
    files: Files = {
        f"{SITE}/loose.py": "12",
        f"{SITE}/__pycache__/loose.cpython-311.pyc": "1",
        "opt/models/big.bin": bytes(5000),
        "opt/models/deep/er/small.bin": bytes(10),
        "app.sh": "#!",
        "usr/lib/libmine.so.1": ELF,
    }
    found = count(place, files)
    assert (found.files, found.size_bytes) == (6, 5000 + 10 + 2 + 2 + 1 + len(ELF))
    assert [(each.folder, each.files) for each in found.folders] == [
        ("opt/models", 2),
        ("usr/lib", 1),
        ("usr/local", 2),
        ("", 1),
    ]
    assert unattributed_lines(found)[0].startswith(
        "unattributed: 6 files of 5.0 KiB that no package lists, most in opt/models (4.9 KiB)"
    )


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        ({"opt/a/.wh.one": ""}, 2),
        ({"opt/.wh.a": ""}, 1),
        ({"opt/a/.wh..wh..opq": "", "opt/a/new": "x"}, 2),
        ({"opt/a": "->b"}, 1),
        ({"opt/a/one": "another"}, 3),
        ({"opt/a/one": "->two"}, 2),
        ({".wh..wh..opq": ""}, 0),
    ],
)
def test_whiteouts_hide_files(upper: Files, left: int, place: Place) -> None:
    assert count(place, {"opt/a/one": "1", "opt/a/sub/two": "2", "opt/b/three": "3"}, upper).files == left


def test_a_file_through_a_link_is_the_packages(place: Place) -> None:
    lower: dict[str, bytes | str] = {key: value for key, value in DEBIAN.items() if key != "etc/os-release"}
    assert count(place, lower).files == 0
    # Removed from the list of packages, its files are nobody's.
    gone = {"var/lib/dpkg/status": "Package: other\nStatus: install ok installed\nVersion: 1\n"}
    assert count(place, lower, gone).files == 1


def test_files_beyond_the_list_are_counted_all_the_same() -> None:
    tree = merge_layers([LayerContent(facts={}, links={}, files={"a": "b/7"}, more_files=3, more_bytes=30)])
    assert (count_unattributed(tree).files, count_unattributed(tree).size_bytes) == (4, 37)


def test_the_layer_that_installed_a_package(place: Place) -> None:
    stanza = "Package: {}\nStatus: install ok installed\nArchitecture: all\nVersion: {}\n\n"
    layers: list[Files] = [
        {"var/lib/dpkg/status": stanza.format("old", 1) + stanza.format("changed", 1)},
        {"other": "x"},
        {"var/lib/dpkg/status": stanza.format("old", 1) + stanza.format("changed", 2), **dist_info("p", "1")},
    ]
    image = push_image(place, layers)
    manifest = place.registry.get_manifest(place.repository, image.digest).content()
    assert isinstance(manifest, Manifest)
    digests = [layer.digest for layer in manifest.layers]
    (found,) = scan_image(place, image, state=Path(str(place.registry.name)).parent / "state")
    assert {item.name: item.layers for item in found.components} == {
        "old": (digests[0],),
        "changed": (digests[2],),
        "p": (digests[2],),
    }
    assert read_cyclonedx(write_cyclonedx(found)) == found


def test_licences_of_every_kind(place: Place) -> None:
    apk = "P:musl\nV:1.2.5-r0\nL:MIT\n"
    copyright = (
        "Format: https://www.debian.org/x\n\nFiles: *\nLicense: GPL-2+ or Expat\n text\n\nLicense: BSD-3-clause\n"
    )
    free = "On Debian systems see /usr/share/common-licenses/LGPL-2.1.\n"
    metadata = "Name: {}\nVersion: 1\n{}\n\n"
    files: dict[str, bytes | str] = {
        **DEBIAN,
        "lib/apk/db/installed": apk,
        "usr/share/doc/python3-jinja2/copyright": free,
        "usr/share/doc/libc6": "->glibc-doc",
        "usr/share/doc/glibc-doc/copyright": copyright,
        "a-1.dist-info/METADATA": metadata.format("a", "License-Expression: MIT OR Apache-2.0\nLicense: other"),
        "b-1.dist-info/METADATA": metadata.format(
            "b", "License: BSD\nClassifier: License :: OSI Approved :: MIT License"
        ),
        "c-1.dist-info/METADATA": metadata.format("c", "License: Whatever 2.0"),
        "node_modules/d/package.json": '{"name":"d","version":"1.0.0","license":"ISC"}',
        "node_modules/e/package.json": '{"name":"e","version":"1.0.0","licenses":[{"type":"MIT"},{"type":"X11"}]}',
        "conda-meta/f.json": '{"name":"f","version":"1","license":"BSD-3-Clause"}',
    }
    found = scan(place, files)
    assert {item.name: item.licenses for item in found.components} == {
        "libc6": ("GPL-2+ or Expat", "BSD-3-clause"),
        "python3-jinja2": ("LGPL-2.1",),
        "musl": ("MIT",),
        "a": ("MIT OR Apache-2.0",),
        "b": ("MIT License",),
        "c": ("Whatever 2.0",),
        "d": ("ISC",),
        "e": ("MIT", "X11"),
        "f": ("BSD-3-Clause",),
    }
    document = write_cyclonedx(found)
    written = {node["name"]: node.get("licenses") for node in json.loads(document)["components"]}
    assert written["a"] == [{"expression": "MIT OR Apache-2.0"}]
    assert written["libc6"] == [{"license": {"name": "GPL-2+ or Expat"}}, {"license": {"name": "BSD-3-clause"}}]
    assert read_cyclonedx(document) == found


@pytest.mark.parametrize(
    ("stated", "expression"),
    [
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPLv2+ and LGPLv2.1", "GPL-2.0-or-later AND LGPL-2.1-only"),
        ("gpl-3.0-or-later", "GPL-3.0-or-later"),
        ("Expat", "MIT"),
        ("Apache License 2.0", "Apache-2.0"),
        ("Apache Software License", ""),
        ("BSD", ""),
        ("MIT (Apache)", ""),
        ("(" * 400, ""),
        ("see file", ""),
    ],
)
def test_what_is_certain_is_an_spdx_expression(stated: str, expression: str) -> None:
    assert spdx_expression(stated) == expression


def test_structures_without_end_are_cut(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    from registry_pipelines.scan import collect, names

    monkeypatch.setattr(collect, "MAX_STRUCTURE_BYTES", 2000)
    monkeypatch.setattr(names, "MAX_NAMES_BYTES", 600)
    links = make_tar({f"l{number}": "->x" for number in range(50)})
    assert [unknown.kind for unknown in scan(place, links).unknowns] == ["incomplete"]
    found = count(place, {f"d{number}/file": "abc" for number in range(50)})
    assert (found.files, found.size_bytes) == (50, 150)
    assert found.folders[0].folder == "(not listed)"
