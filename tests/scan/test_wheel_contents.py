"""What wheels bring along, in whole images: copied libraries, SBOMs, vendored packages, fixtures; and the document."""

from __future__ import annotations

import gzip
import hashlib
import json
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_MANIFEST
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.cyclonedx import read_cyclonedx, write_cyclonedx
from registry_pipelines.scan.match import match
from registry_pipelines.scan.report import EVIDENCE, CarriedSbom, Component, LeftOut, PlatformPackages
from tests.build.layers import wheel_layer
from tests.build.wheels import make_wheel
from tests.scan.images import DEBIAN, ELF, make_tar
from tests.scan.test_sbom import SITE, interpreter, purls, scan

Content = Mapping[str, "bytes | str"]


def wheel(name: str, version: str, content: Content, *, root: str = SITE) -> dict[str, bytes | str]:
    """An installed wheel with these files (paths from its root), all of them in its RECORD."""
    folder = f"{name}-{version}.dist-info"
    files: dict[str, bytes | str] = {f"{folder}/METADATA": f"Name: {name}\nVersion: {version}\n", **content}
    record = "".join(f"{path},,\n" for path in [*files, f"{folder}/RECORD"])
    return {posixpath.normpath(f"{root}/{path}"): raw for path, raw in {**files, f"{folder}/RECORD": record}.items()}


def sbom(*components: dict[str, Any], **more: Any) -> bytes:
    document = {"bomFormat": "CycloneDX", "specVersion": "1.5", "components": list(components), **more}
    return json.dumps(document).encode()


def built_at(purl: str, path: str) -> dict[str, Any]:
    """What auditwheel writes about a library that it copied from ``path``."""
    return {
        "type": "library",
        "bom-ref": f"{purl}#{hashlib.sha256(path.encode()).hexdigest()}",
        "name": purl.partition("@")[0].rpartition("/")[2],
        "version": purl.rpartition("@")[2],
        "purl": purl,
    }


OPENSSL_1 = ELF + b"\0OpenSSL 1.1.1k  FIPS 25 Mar 2021\0" + bytes(200)
OPENSSL_3 = ELF + bytes(1 << 20) + b"\0OpenSSL 3.0.13 30 Jan 2024\0OpenSSL 3.0's legacy provider failed\0"
OPENCV_ITSELF = {"name": "opencv", "version": "5.0", "purl": "pkg:pypi/opencv@5.0?file_name=opencv-5.0.whl"}
OPENCV = wheel(
    "opencv",
    "5.0",
    {
        "cv2/cv2.abi3.so": ELF,
        "opencv.libs/libcrypto-5409cd36.so.1.1.1k": OPENSSL_1,
        "opencv.libs/libssl-81259c47.so.1.1.1k": OPENSSL_1,
        "opencv.libs/libgfortran-040039e1-0352e75f.so.5.0.0": ELF,
        "opencv.libs/libavcodec-c4204469.so.62.28.101": ELF + b"FFmpeg version n8.1.1-2-gabc\0",
        "opencv.libs/libvpx-4fb239ff.so.11.0.1": ELF,
        "opencv-5.0.dist-info/sboms/auditwheel.cdx.json": sbom(
            OPENCV_ITSELF,
            built_at("pkg:rpm/almalinux/openssl-libs@1.1.1k-15.el8_6", "/lib64/libcrypto.so.1.1.1k"),
            built_at("pkg:rpm/almalinux/openssl-libs@1.1.1k-15.el8_6", "/usr/lib64/libssl.so.1.1.1k"),
            metadata={"component": OPENCV_ITSELF},
        ),
    },
)


def inside(packages: PlatformPackages, outer: str) -> dict[str, Component]:
    return {item.purl: item for item in packages.components if item.inside == outer}


def test_copied_libraries_are_named_by_list_by_content_or_by_file(place: Place) -> None:
    packages = scan(place, OPENCV)
    assert purls(packages).count("pkg:pypi/opencv@5.0") == 1, "the list names the wheel itself, too"
    components = inside(packages, "pkg:pypi/opencv@5.0")
    assert {purl: component.evidence for purl, component in components.items()} == {
        "pkg:generic/ffmpeg@8.1.1": "content",
        "pkg:generic/libgfortran.so.5.0.0": "name",
        "pkg:generic/libvpx.so.11.0.1": "name",
        "pkg:rpm/almalinux/openssl-libs@1.1.1k-15.el8_6": "list",
    }
    openssl = components["pkg:rpm/almalinux/openssl-libs@1.1.1k-15.el8_6"]
    assert (openssl.ecosystem, openssl.name) == ("AlmaLinux:8", "openssl-libs")
    assert openssl.locations == (
        f"{SITE}/opencv-5.0.dist-info/sboms/auditwheel.cdx.json",
        f"{SITE}/opencv.libs/libcrypto-5409cd36.so.1.1.1k",
        f"{SITE}/opencv.libs/libssl-81259c47.so.1.1.1k",
    )
    assert packages.unknowns == () and packages.left_out == ()


def test_modules_and_programs_of_the_wheel_itself_are_not_listed(place: Place) -> None:
    own = {
        "torch/_C.cpython-311-x86_64-linux-gnu.so": ELF,
        "torch/lib.cpython-311-x86_64-linux-gnu.so": ELF,
        "torch/libx.abi3.so": ELF,
        "torch/_native.so": ELF,
        "../../../bin/torchrun": ELF,
    }
    others = {"torch/lib/libgomp-a34b3233.so.1": ELF, "torch/bin/protoc": ELF, "torch/jars/commons-1.0.jar": b"PK"}
    tar = make_tar(
        wheel("torch", "2.9", {**own, **others}),
        executable=["usr/bin/torchrun", f"{SITE}/torch/bin/protoc"],
    )
    assert purls(scan(place, tar)) == [
        "pkg:generic/commons-1.0.jar",
        "pkg:generic/libgomp.so.1",
        "pkg:generic/protoc",
        "pkg:pypi/torch@2.9",
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("libcrypto.so.3", OPENSSL_3, "openssl@3.0.13"),
        ("libcrypto-0123abcd.so.1.1.1k", OPENSSL_1, "openssl@1.1.1k"),
        ("libcrypto.so.3", OPENSSL_3 + OPENSSL_1, "libcrypto.so.3"),
        ("libssl.so.3", ELF + b"OpenSSL 3.0.13 of some kind\0", "libssl.so.3"),
        ("libother.so.3", OPENSSL_3, "libother.so.3"),
        ("_rust.abi3.so", OPENSSL_3, "openssl@3.0.13"),
        ("libz.so.1.2.11", ELF + b" deflate 1.2.11 Copyright 1995-2017 Jean-loup Gailly ", "zlib@1.2.11"),
        ("libpng16-529cb57a.so.16", ELF + b"\nlibpng version 1.6.58\n", "libpng@1.6.58"),
        ("libcurl.so.4", ELF + b"libcurl/8.4.0\0", "curl@8.4.0"),
    ],
)
@pytest.mark.parametrize("boundary", [0, (1 << 20) - 130])
def test_version_texts(name: str, content: bytes, expected: str, boundary: int, place: Place) -> None:
    """Also where the text lies across two of the blocks that are read."""
    raw = ELF + bytes(boundary) + content
    packages = scan(place, {**wheel("w", "1", {f"w.libs/{name}": raw}), f"usr/local/lib/{name}": raw})
    generic = [(item.purl, item.inside) for item in packages.components if item.type == "generic"]
    plain = name.replace("-0123abcd", "").replace("-529cb57a", "")
    expected_alone = plain if expected == name else expected
    assert generic == [(f"pkg:generic/{expected_alone}", ""), (f"pkg:generic/{expected}", "pkg:pypi/w@1")]


def test_a_version_in_the_file_agrees_with_the_list(place: Place) -> None:
    """cryptography's own SBOM names the OpenSSL that is linked into its module: one component, not two."""
    listed = {
        "name": "openssl",
        "version": "3.0.13",
        "purl": "pkg:generic/openssl@3.0.13?download_url=https://x.example/o",
    }
    files = {
        "cryptography/_rust.abi3.so": OPENSSL_3,
        "cryptography-50.dist-info/sboms/sbom.json": sbom(listed),
    }
    packages = scan(place, wheel("cryptography", "50", files))
    (openssl,) = [item for item in packages.components if item.name == "openssl"]
    assert openssl.evidence == "list" and f"{SITE}/cryptography/_rust.abi3.so" in openssl.locations


def test_crates_of_a_wheel_are_matched_as_crates(place: Place, tmp_path: Any) -> None:
    record = {
        "id": "RUSTSEC-1",
        "modified": "2026-11-01T00:00:00Z",
        "affected": [
            {
                "package": {"ecosystem": "crates.io", "name": "tar"},
                "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "0.4.40"}]}],
            }
        ],
    }
    (tmp_path / "osv").mkdir()
    (tmp_path / "osv" / "x.json").write_text(json.dumps(record))
    crates = sbom(
        {"name": "tar", "version": "0.4.38", "purl": "pkg:cargo/tar@0.4.38"},
        {"name": "cc", "version": "1.0", "purl": "pkg:cargo/cc@1.0", "scope": "excluded"},
        metadata={"component": {"name": "uv", "version": "1", "purl": "pkg:cargo/uv@1?download_url=file://."}},
    )
    files = {"uv-1.dist-info/sboms/uv.cyclonedx.json": crates}
    packages = scan(place, wheel("uv", "1", files), wheel("uv", "1", files, root="opt/venv/site-packages"))
    assert purls(packages) == ["pkg:cargo/tar@0.4.38", "pkg:pypi/uv@1"]
    assert {item.reason for item in packages.left_out} == {
        "1 component that this SBOM calls excluded: not there at run time"
    }
    (finding,) = match([packages], AdvisoryStore.load(tmp_path / "osv", tmp_path / "state")).findings
    assert finding.component == "pkg:cargo/tar@0.4.38" and len(finding.locations) == 2


def test_a_broken_sbom_is_unreadable_and_a_foreign_one_is_not_of_a_wheel(place: Place) -> None:
    packages = scan(
        place,
        {
            **wheel("a", "1", {"a-1.dist-info/sboms/a.spdx": "SPDXVersion: SPDX-2.3\n"}),
            f"{SITE}/stray.dist-info/sboms/x.json": sbom({"name": "x"}),
            "app/report.cdx.json": sbom({"name": "not-in-the-image", "purl": "pkg:npm/no@1"}),
            "app/broken.cdx.json": b"{",
        },
    )
    assert purls(packages) == ["pkg:pypi/a@1"]
    assert [(item.kind, item.subject) for item in packages.unknowns] == [
        ("unreadable", f"{SITE}/a-1.dist-info/sboms/a.spdx"),
        ("unreadable", f"{SITE}/stray.dist-info/sboms/x.json"),
    ]


def test_an_sbom_beyond_the_limit_is_unreadable(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry_pipelines.scan.software_lists.MAX_LIST_BYTES", 10)
    (unknown,) = scan(place, wheel("a", "1", {"a-1.dist-info/sboms/a.json": sbom()})).unknowns
    assert unknown.kind == "unreadable" and "at most 10 are read" in unknown.reason


# Packages inside packages

SETUPTOOLS = wheel(
    "setuptools",
    "81",
    {
        "setuptools/_vendor/zipp-3.dist-info/METADATA": "Name: zipp\nVersion: 3\n",
        "setuptools/_vendor/zipp-3.dist-info/RECORD": "zipp/__init__.py,,\nzipp-3.dist-info/METADATA,,\n",
        "pkg_resources/tests/data/p/my_test-1.egg/EGG-INFO/PKG-INFO": "Name: my-test\nVersion: 1\n",
        "pkg_resources/tests/data/q/other.egg-info": "Name: other\nVersion: 1\n",
    },
)
PIP = wheel(
    "pip",
    "26",
    {
        "pip/_vendor/vendor.txt": "CacheControl==0.14\nurllib3==2.8.0\n",
        "pip/_vendor/bom.cdx.json": sbom({"name": "urllib3", "version": "2.8.0", "purl": "pkg:pypi/urllib3@2.8.0"}),
    },
)


def test_vendored_packages_are_components_of_the_package(place: Place) -> None:
    packages = scan(place, SETUPTOOLS, PIP, wheel("urllib3", "2.8.0", {}))
    assert [(item.purl, item.inside, item.evidence) for item in packages.components] == [
        ("pkg:pypi/cachecontrol@0.14", "pkg:pypi/pip@26", "list"),
        ("pkg:pypi/pip@26", "", "manifest"),
        ("pkg:pypi/setuptools@81", "", "manifest"),
        ("pkg:pypi/urllib3@2.8.0", "", "manifest"),
        ("pkg:pypi/urllib3@2.8.0", "pkg:pypi/pip@26", "list"),
        ("pkg:pypi/zipp@3", "pkg:pypi/setuptools@81", "manifest"),
    ]
    assert packages.unknowns == ()


def test_fixtures_of_a_package_are_none_and_are_said(place: Place) -> None:
    assert scan(place, SETUPTOOLS).left_out == tuple(
        LeftOut(
            subject=f"{SITE}/pkg_resources/tests/data/{path}",
            reason=f"metadata of {name} 1 in a tests folder of setuptools 81: a fixture, not installed",
        )
        for path, name in (("p/my_test-1.egg", "my-test"), ("q/other.egg-info", "other"))
    )


def test_what_lies_in_a_fixture_belongs_to_the_package_around(place: Place) -> None:
    fixture = wheel("demo", "1", {"demo/libx.so.1": ELF, "demo-1.dist-info/sboms/x.json": sbom({"name": "x"})})
    below = {path.removeprefix(f"{SITE}/"): raw for path, raw in fixture.items()}
    packages = scan(place, wheel("setup", "1", {f"setup/tests/data/{path}": raw for path, raw in below.items()}))
    assert [(item.purl, item.inside) for item in packages.components] == [
        ("pkg:generic/libx.so.1", "pkg:pypi/setup@1"),
        ("pkg:pypi/setup@1", ""),
    ]
    assert len(packages.left_out) == 1 and packages.unknowns == ()


def test_a_layer_of_wheels_that_the_builder_lays_out(place: Place, tmp_path: Path) -> None:
    """RECORD, SBOMs and copied libraries as they are after an installation."""
    files = {path.removeprefix(f"{SITE}/"): raw for path, raw in OPENCV.items() if path.count(".dist-info/") == 0}
    auditwheel = f"{SITE}/opencv-5.0.dist-info/sboms/auditwheel.cdx.json"
    content = {**files, "opencv-5.0.dist-info/sboms/auditwheel.cdx.json": OPENCV[auditwheel]}
    built = make_wheel(tmp_path, "opencv", "5.0", {path: bytes(raw) for path, raw in content.items()})  # type: ignore[arg-type]
    ours = scan(place, gzip.decompress(wheel_layer(built)))
    theirs = scan(place, OPENCV)
    assert purls(ours) == purls(theirs) and len(ours.components) == 5
    assert [item.evidence for item in ours.components] == [item.evidence for item in theirs.components]


HIDDEN = {"METADATA": "Name: evil\nVersion: 1\n"}


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param({f"{SITE}/a/tests/evil.dist-info/METADATA": HIDDEN["METADATA"]}, id="nobody lists it"),
        pytest.param(
            wheel("a", "1", {"tests/x/evil.dist-info/METADATA": HIDDEN["METADATA"]}), id="a package called tests"
        ),
        pytest.param(wheel("a", "1", {"a/tests/_vendor/evil.dist-info/METADATA": HIDDEN["METADATA"]}), id="vendored"),
        pytest.param(
            wheel("a", "1", {"a/tests/v/site-packages/evil.dist-info/METADATA": HIDDEN["METADATA"]}), id="environment"
        ),
        pytest.param(wheel("a", "1", {"../tests/x/evil.dist-info/METADATA": HIDDEN["METADATA"]}), id="elsewhere"),
        pytest.param(
            {
                f"{SITE}/evil.dist-info/METADATA": HIDDEN["METADATA"],
                **wheel("a", "1", {"../evil.dist-info/METADATA": HIDDEN["METADATA"]}, root=f"{SITE}/a/tests"),
            },
            id="a package below claims one above",
        ),
    ],
)
def test_a_folder_called_tests_hides_nothing_by_its_name(layer: dict[str, bytes | str], place: Place) -> None:
    packages = scan(place, layer)
    assert "pkg:pypi/evil@1" in purls(packages)
    assert packages.left_out == ()


def test_wheels_that_list_each_other_stay_both(place: Place) -> None:
    one = wheel("one", "1", {"two-1.dist-info/METADATA": "Name: two\nVersion: 1\n"})
    two = wheel("two", "1", {"one-1.dist-info/METADATA": "Name: one\nVersion: 1\n"})
    assert [(item.purl, item.inside) for item in scan(place, {**one, **two}).components] == [
        ("pkg:pypi/one@1", ""),
        ("pkg:pypi/two@1", ""),
    ]


# The document


def test_the_document_nests_what_is_inside_and_refers_to_the_sbom(place: Place) -> None:
    packages = scan(place, DEBIAN, OPENCV, SETUPTOOLS, PIP)
    raw = write_cyclonedx(packages)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(raw.decode()) is None
    assert read_cyclonedx(raw) == packages
    document = msgspec.json.decode(raw)
    (opencv,) = [item for item in document["components"] if item["name"] == "opencv"]
    assert [item["purl"] for item in opencv["components"]] == sorted(inside(packages, opencv["purl"]))
    path = f"{SITE}/opencv-5.0.dist-info/sboms/auditwheel.cdx.json"
    assert opencv["externalReferences"] == [
        {"type": "bom", "url": path, "hashes": [{"alg": "SHA-256", "content": Digest.of(bytes(OPENCV[path])).hex}]}  # type: ignore[arg-type]
    ]
    told = {item["purl"]: item["evidence"] for item in opencv["components"]}
    assert told["pkg:generic/libvpx.so.11.0.1"] == {
        "identity": [{"field": "purl", "confidence": 0.4, "methods": [{"technique": "filename", "confidence": 0.4}]}],
        "occurrences": [{"location": f"{SITE}/opencv.libs/libvpx-4fb239ff.so.11.0.1"}],
    }
    techniques = {purl: evidence["identity"][0]["methods"][0]["technique"] for purl, evidence in told.items()}
    assert techniques["pkg:generic/ffmpeg@8.1.1"] == "binary-analysis"
    assert techniques["pkg:rpm/almalinux/openssl-libs@1.1.1k-15.el8_6"] == "attestation"


def test_a_rescan_of_the_document_reports_what_the_layers_do(place: Place, pypa: AdvisoryStore) -> None:
    old = PIP | {f"{SITE}/pip/_vendor/vendor.txt": "requests==2.19.0\n"}
    packages = scan(place, OPENCV, SETUPTOOLS, old)
    report = match([packages], pypa)
    assert {finding.component for finding in report.findings} >= {"pkg:pypi/requests@2.19.0"}
    stored = match([read_cyclonedx(write_cyclonedx(packages))], pypa)
    assert msgspec.structs.replace(stored, scanned_at="") == msgspec.structs.replace(report, scanned_at="")


def test_what_is_inside_something_unknown_stays_in_the_document(place: Place) -> None:
    packages = scan(place, SETUPTOOLS)
    orphan = msgspec.structs.replace(packages, components=tuple(item for item in packages.components if item.inside))
    raw = write_cyclonedx(orphan)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(raw.decode()) is None
    assert read_cyclonedx(raw) == orphan


def test_documents_of_earlier_versions_are_read() -> None:
    """Locations were properties, and all that was generic came from the file alone."""
    root = {
        "subject": Digest.of(b"s"),
        "manifest-media-type": "m",
        "manifest-size": "1",
        "platform": '{"os":"linux","architecture":"amd64"}',
        "created": "",
    }

    def properties(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
        return [{"name": f"registry-pipelines:{name}", "value": value} for name, value in pairs]

    def old(purl: str, kind: str, name: str, version: str = "") -> dict[str, Any]:
        told = properties([("type", kind), ("location", "b"), ("location", "a")])
        return {"type": "library", "name": name, "purl": purl, "version": version, "properties": told}

    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "metadata": {
            "component": {
                "type": "container",
                "name": "x",
                "version": Digest.of(b"m"),
                "properties": properties(list(root.items())),
            }
        },
        "components": [
            old("pkg:generic/libx.so.1", "generic", "libx.so.1"),
            old("pkg:generic/python@3.11.9", "generic", "python", "3.11.9"),
            old("pkg:pypi/a@1", "pypi", "a", "1"),
        ],
    }
    components = read_cyclonedx(json.dumps(document).encode()).components
    assert [(component.evidence, component.locations) for component in components] == [
        ("name", ("a", "b")),
        ("content", ("a", "b")),
        ("manifest", ("a", "b")),
    ]


PURL = st.sampled_from([f"pkg:{kind}/{name}@1" for kind in ("pypi", "generic") for name in "abc"])
COMPONENTS = st.lists(
    st.builds(
        lambda purl, inside, owner, evidence, places: Component(
            purl=purl,
            name=purl[-3],
            version="1",
            type=purl[4:].partition("/")[0],
            os_owned=owner,
            inside="" if inside == purl else inside,
            evidence=evidence,
            locations=tuple(sorted(places)),
            sboms=tuple(CarriedSbom(path=place, digest=Digest.of(place.encode())) for place in sorted(places)),
        ),
        PURL,
        st.one_of(st.just(""), PURL),
        st.sampled_from(["", "deb x"]),
        st.sampled_from(EVIDENCE),
        st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), max_size=2),
    ),
    unique_by=lambda item: (item.purl, item.os_owned, item.inside),
    max_size=8,
)


@settings(deadline=None, max_examples=150)
@given(COMPONENTS)
def test_any_nesting_reads_back_equal_and_every_reference_is_unique(components: list[Component]) -> None:
    """Also packages that are inside each other, or inside something that is not there."""
    packages = PlatformPackages(
        subject=Digest.of(b"s"),
        manifest=Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"m"), size=1),
        platform=Platform(os="linux", architecture="amd64"),
        components=tuple(sorted(components, key=lambda item: (item.purl, item.os_owned, item.inside))),
    )
    raw = write_cyclonedx(packages)
    assert read_cyclonedx(raw) == packages
    todo, references = [msgspec.json.decode(raw)], []
    while todo:
        node = todo.pop()
        references += [item["bom-ref"] for item in node.get("components", [])]
        todo += node.get("components", [])
    assert len(references) == len(set(references)) == len(components)


INTERPRETER: Content = {
    "usr/local/bin/python3.11": interpreter("3.11.9"),
    "usr/local/lib/libpython3.11.so.1.0": interpreter("3.11.9"),
    "usr/local/lib/python3.11/os.py": b"",
}


def claims(paths: list[str]) -> Content:
    """A wheel whose RECORD lists files of others, which pip keeps as it is."""
    made = wheel("evil", "1", {})
    record = f"{SITE}/evil-1.dist-info/RECORD"
    return {**made, record: str(made[record]) + "".join(f"/{path},,\n" for path in paths)}


def test_no_wheel_hides_the_interpreter_by_listing_it(place: Place) -> None:
    packages = scan(place, {**INTERPRETER, **claims([*INTERPRETER])})
    assert "pkg:generic/python@3.11.9" in purls(packages)


def test_an_interpreter_that_a_wheel_brings_is_one(place: Place) -> None:
    packages = scan(place, wheel("bundle", "1", {"bundle/bin/python3.9": interpreter("3.9.1")}))
    assert "pkg:generic/python@3.9.1" in purls(packages)


def test_no_conda_record_hides_what_lies_outside_of_its_environment(place: Place) -> None:
    record = {"name": "zlib", "version": "1.3", "files": [f"../../../../../{path}" for path in INTERPRETER]}
    planted = wheel("evil", "1", {"evil/conda-meta/zlib.json": json.dumps(record)})
    packages = scan(place, {**INTERPRETER, **planted})
    assert "pkg:generic/python@3.11.9" in purls(packages)


def test_an_interpreter_inside_a_package_of_another_maker_counts(place: Place) -> None:
    status = str(DEBIAN["var/lib/dpkg/status"]).replace("Piotr <piotr@debian.org>", "Vendor <x@vendor.example>")
    owned = "".join(f"/{path}\n" for path in INTERPRETER)
    packages = scan(
        place,
        {**DEBIAN, "var/lib/dpkg/status": status, "var/lib/dpkg/info/python3-jinja2.list": owned, **INTERPRETER},
    )
    assert "pkg:generic/python@3.11.9" in purls(packages)


def test_packages_of_one_distribution_are_not_matched_as_those_of_another(place: Place) -> None:
    packages = scan(place, DEBIAN, {"etc/os-release": "ID=alpine\nVERSION_ID=3.20.1\n"})
    assert {item.ecosystem for item in packages.components if item.type == "deb"} == {""}


@pytest.mark.parametrize("path", ["usr/lib/apk/db/installed", "usr/lib/os-release"])
def test_a_database_of_the_system_that_a_wheel_wrote_is_not_believed_silently(place: Place, path: str) -> None:
    packages = scan(place, {path: "P:musl\nV:1.2.5-r9\n" if "apk" in path else "ID=debian\n", **claims([path])})
    assert [unknown.subject for unknown in packages.unknowns if unknown.kind == "unreadable"] == [path]
