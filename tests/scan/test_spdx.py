"""SPDX 2.3: valid by the SPDX project's own tools, complete, the same each time, signed on request."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.report import PlatformPackages
from registry_pipelines.scan.sbom import scan_image
from registry_pipelines.scan.spdx import write_spdx
from tests.needs import needed_module
from tests.scan.images import DEBIAN, ELF, Files, dist_info, make_tar, push_image
from tests.scan.test_programs import LOG4J, MODULES, inline

FILES: Files = {
    **DEBIAN,
    **dist_info("owner", "1"),
    "usr/share/doc/libc6/copyright": "Format: x\nLicense: GPL-2+\n\nLicense: Something else, see below\n",
    "a-1.dist-info/METADATA": "Name: a\nVersion: 1\nLicense-Expression: MIT OR LicenseRef-Own\n\n",
    "b-1.dist-info/METADATA": "Name: b\nVersion: 1\nLicense-Expression: Apache-2.0 WITH LLVM-exception\n\n",
    "usr/lib/libmine.so.1": ELF,
    "usr/bin/tool": inline("go1.21.3", MODULES),
    "opt/log4j.jar": LOG4J,
    "var/lib/rpm/Packages": b"x",
    "opt/model.bin": b"12345",
}


def scan(place: Place, *layers: Files | bytes) -> PlatformPackages:
    (found,) = scan_image(place, push_image(place, layers), state=Path(str(place.registry.name)).parent / "state")
    return found


SYSTEM = "SPDXRef-OperatingSystem-debian-12"
"""trivy knows it by how its identifier begins."""


def problems(document: bytes, folder: Path) -> str:
    """What the SPDX project's tools say; empty: valid."""
    needed_module("spdx_tools", "dev")
    path = folder / "image.spdx.json"
    path.write_bytes(document)
    command = [sys.executable, "-m", "spdx_tools.spdx.clitools.pyspdxtools", "-i", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_document_is_valid_and_says_all(place: Place, tmp_path: Path) -> None:
    found = scan(place, make_tar(FILES, executable=["usr/bin/tool"]))
    raw = write_spdx(found)
    assert problems(raw, tmp_path) == "" and write_spdx(found) == raw
    document = json.loads(raw)
    image, system, *packages = document["packages"]
    assert (system["SPDXID"], system["name"], system["versionInfo"]) == (SYSTEM, "debian", "12")
    purls = {node["externalRefs"][0]["referenceLocator"]: node for node in packages}
    assert sorted(purls) == sorted({component.purl for component in found.components})
    assert image["checksums"] == [{"algorithm": "SHA256", "checksumValue": found.manifest.digest.hex}]
    comments = " ".join(note["comment"] for note in image["annotations"])
    assert "unknown, incomplete: var/lib/rpm/Packages" in comments and "unattributed: 4 files" in comments
    libc6 = next(node for purl, node in purls.items() if "/libc6@" in purl)
    (text,) = [each for each in document["hasExtractedLicensingInfos"] if "see below" in each["extractedText"]]
    assert libc6["licenseDeclared"] == f"GPL-2.0-or-later AND {text['licenseId']}"
    assert purls["pkg:pypi/a@1"]["licenseDeclared"] == "MIT OR LicenseRef-Own"
    assert purls["pkg:pypi/b@1"]["sourceInfo"].startswith("found at b-1.dist-info; in the layer sha256:")
    contains = {(each["spdxElementId"], each["relatedSpdxElement"]) for each in document["relationships"]}
    main, toml = purls["pkg:golang/example.com/App"], purls["pkg:golang/github.com/BurntSushi/toml@v1.2.0"]
    assert ("SPDXRef-Image", SYSTEM) in contains
    assert {of for system, of in contains if system == SYSTEM} == {
        node["SPDXID"] for purl, node in purls.items() if purl.startswith("pkg:deb/")
    }
    assert (main["SPDXID"], toml["SPDXID"]) in contains and ("SPDXRef-Image", main["SPDXID"]) in contains


def test_an_image_with_nothing_in_it_is_valid(place: Place, tmp_path: Path) -> None:
    assert problems(write_spdx(scan(place, {"x": ""})), tmp_path) == ""


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(min_size=1, max_size=40), max_size=4))
def test_whatever_is_stated_becomes_one_expression(stated: list[str]) -> None:
    from registry_pipelines.scan.spdx import _Licenses

    licenses = _Licenses()
    declared = licenses.declared(tuple(stated))
    assert declared and declared.isascii()
    for ref in (word.strip("()") for word in declared.split() if "LicenseRef-" in word):
        assert ref in licenses.extracted
