"""Images with layers into packages: databases, whiteouts, ownership, caches, documents."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from registry_pipelines.errors import ClosureIncomplete, DigestMismatch, LayerInvalid, ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import MAX_DEPTH, Descriptor, Manifest, artifact_manifest, manifest_bytes
from registry_pipelines.oci.media_types import IN_TOTO, OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Counter
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.platforms import MAX_MANIFESTS
from registry_pipelines.registry.protocol import BlobReader, Place
from registry_pipelines.scan.report import Component, PlatformPackages, Unknown
from registry_pipelines.scan.sbom import cyclonedx, read_cyclonedx, scan_image
from tests.scan.images import DEBIAN, ELF, Files, dist_info, make_tar, push_image, push_index

SITE = "usr/lib/python3/site-packages"


def scan(place: Place, *layers: Files | bytes, state: Path | None = None) -> PlatformPackages:
    image = push_image(place, layers)
    (packages,) = scan_image(place, image, state=state or Path(str(place.registry.name)).parent / "state")
    return packages


def purls(packages: PlatformPackages) -> list[str]:
    return [component.purl for component in packages.components]


def by_name(packages: PlatformPackages, name: str) -> Component:
    (only,) = [component for component in packages.components if component.name == name]
    return only


def test_dpkg_with_source_release_and_usr_merge(place: Place) -> None:
    packages = scan(place, DEBIAN)
    assert purls(packages) == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12",
        "pkg:deb/debian/python3-jinja2@3.1.2-1%2Bb5?arch=all&distro=debian-12",
    ]
    libc, jinja = packages.components
    assert (libc.ecosystem, libc.source_name, libc.source_version) == ("Debian:12", "glibc", "")
    assert (jinja.source_name, jinja.source_version) == ("jinja2", "3.1.2-1")
    assert packages.unknowns == () and packages.platform == Platform(os="linux", architecture="amd64")


@pytest.mark.parametrize(
    ("identity", "name"), [("debian", "debian"), ("almalinux", "alma"), ("rhel", "redhat"), ("amzn", "amazon")]
)
def test_the_document_says_which_system_it_is_as_trivy_and_as_syft_want_it(
    place: Place, identity: str, name: str
) -> None:
    """Held against the programs in tests/chain/test_real_scanners.py."""
    changed = {"etc/os-release": f"ID={identity}\nVERSION_ID=12\n"}
    packages = scan(place, DEBIAN, changed | dist_info("own", "1"))
    raw = cyclonedx(packages)
    document = msgspec.json.decode(raw)
    [system] = [each for each in document["components"] if each["type"] == "operating-system"]
    assert (system["name"], system["version"]) == (name, "12")
    assert system["swid"] == {"tagId": identity, "name": identity, "version": "12"}
    [of_system] = [each for each in document["dependencies"] if each["ref"] == system["bom-ref"]]
    assert len(of_system["dependsOn"]) == 2 and all(f"distro={identity}-12" in each for each in of_system["dependsOn"])
    assert system["bom-ref"] in document["dependencies"][0]["dependsOn"]
    assert read_cyclonedx(raw) == packages


def test_an_image_without_packages_of_a_distribution_has_no_system(place: Place) -> None:
    raw = cyclonedx(scan(place, {"etc/os-release": "ID=debian\n"}, dist_info("own", "1")))
    assert b"operating-system" not in raw


def test_distroless(place: Place) -> None:
    packages = scan(
        place,
        {
            "etc/os-release": "->../usr/lib/os-release",
            "usr/lib/os-release": 'ID=debian\nVERSION_ID="12"\n',
            "var/lib/dpkg/status.d/libssl3": "Package: libssl3\nVersion: 3.0.11-1\nArchitecture: amd64\n",
            "var/lib/dpkg/status.d/libssl3.md5sums": f"{'0' * 32}  usr/lib/libssl.so.3\n",
            "usr/lib/libssl.so.3": ELF,
        },
    )
    assert purls(packages) == ["pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12"]
    assert packages.components[0].ecosystem == "Debian:12" and not packages.unknowns


def test_alpine(place: Place) -> None:
    packages = scan(
        place,
        {
            "etc/os-release": "ID=alpine\nVERSION_ID=3.20.1\n",
            "lib/apk/db/installed": "P:libssl3\nV:3.3.1-r0\nA:x86_64\no:openssl\nF:lib\nR:libssl.so.3\n\n",
            "lib/libssl.so.3": ELF,
        },
    )
    assert purls(packages) == ["pkg:apk/alpine/libssl3@3.3.1-r0?arch=x86_64&distro=alpine-3.20.1"]
    assert (packages.components[0].ecosystem, packages.components[0].source_name) == ("Alpine:v3.20", "openssl")


@pytest.mark.parametrize(
    "name", ["var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/Packages.db", "var/lib/rpm/Packages"]
)
def test_an_rpm_database_is_incomplete_never_clean(name: str, place: Place) -> None:
    packages = scan(place, {name: b"SQLite"})
    assert [(unknown.kind, unknown.subject) for unknown in packages.unknowns] == [("incomplete", name)]


def test_python_in_every_form(place: Place) -> None:
    egg = io.BytesIO()
    import zipfile

    with zipfile.ZipFile(egg, "w") as archive:
        archive.writestr("EGG-INFO/PKG-INFO", "Name: zipped\nVersion: 4\n")
    packages = scan(
        place,
        {
            **dist_info("Wheel_One", "1.0"),
            f"{SITE}/two.egg-info/PKG-INFO": "Name: two\nVersion: 2\n",
            f"{SITE}/three-3.egg-info": "Name: three\nVersion: 3\n",
            f"{SITE}/six-6-py3.8.egg-info/METADATA": "Name: six\nVersion: 6\n",
            f"{SITE}/four.egg": egg.getvalue(),
            f"{SITE}/five.egg/EGG-INFO/PKG-INFO": "Name: five\nVersion: 5\n",
            f"{SITE}/five.egg/five/_x.so": ELF,
            f"{SITE}/broken.dist-info/METADATA": "nothing",
            f"{SITE}/nameless.dist-info/RECORD": "x.py,,\n",
        },
    )
    assert purls(packages) == [
        "pkg:pypi/five@5",
        "pkg:pypi/six@6",
        "pkg:pypi/three@3",
        "pkg:pypi/two@2",
        "pkg:pypi/wheel-one@1.0",
        "pkg:pypi/zipped@4",
    ]
    assert by_name(packages, "wheel-one").locations == (f"{SITE}/Wheel_One-1.0.dist-info",)
    assert by_name(packages, "three").locations == (f"{SITE}/three-3.egg-info",)
    assert [(unknown.kind, unknown.subject) for unknown in packages.unknowns] == [
        ("unreadable", f"{SITE}/broken.dist-info/METADATA"),
        ("unreadable", f"{SITE}/nameless.dist-info"),
    ]


def test_conda_counts_python_packages_once(place: Place) -> None:
    numpy = dist_info("numpy", "1.26.0", root="opt/conda/lib/python3.11/site-packages")
    (metadata, *_) = numpy
    packages = scan(
        place,
        {
            **numpy,
            "opt/conda/conda-meta/numpy-1.26.0-0.json": msgspec.json.encode(
                {"name": "numpy", "version": "1.26.0", "files": [metadata.removeprefix("opt/conda/")]}
            ),
            "opt/conda/conda-meta/openssl-3.0-0.json": msgspec.json.encode(
                {"name": "openssl", "version": "3.0", "build": "h1", "channel": "c", "files": ["lib/libssl.so.3"]}
            ),
            "opt/conda/lib/libssl.so.3": ELF,
        },
    )
    assert purls(packages) == ["pkg:conda/openssl@3.0?build=h1&channel=c", "pkg:pypi/numpy@1.26.0"]
    assert by_name(packages, "openssl").ecosystem == ""


def test_npm_only_below_node_modules(place: Place) -> None:
    packages = scan(
        place,
        {
            "app/package.json": '{"name":"fixture","version":"1.0.0"}',
            "app/node_modules/left/package.json": '{"name":"left","version":"1.0.0"}',
            "app/node_modules/left/test/package.json": '{"type":"module"}',
            "app/node_modules/left/build/native.so": ELF,
            "app/node_modules/@s/right/package.json": '{"name":"@s/right","version":"2.0.0"}',
            "app/node_modules/ours/package.json": '{"private":true}',
        },
    )
    assert purls(packages) == ["pkg:npm/%40s/right@2.0.0", "pkg:npm/left@1.0.0", "pkg:npm/ours"]
    assert packages.unknowns == ()
    assert by_name(packages, "@s/right").ecosystem == "npm"


def test_native_code_of_nobody_is_shown(place: Place) -> None:
    tar = make_tar(
        {
            "usr/lib/libfree.so.1": ELF,
            "usr/lib/libscript.so": b"INPUT ( libfree.so.1 )",
            "usr/local/bin/tool": ELF,
            "usr/local/bin/script": b"#!/bin/sh\n",
            "opt/app.jar": b"PK",
            **dist_info("owner", "1"),
            f"{SITE}/owner/_native.so": ELF,
            f"{SITE}/owner/_hidden.so": ELF,
        },
        executable=["usr/local/bin/tool", "usr/local/bin/script"],
    )
    packages = scan(place, tar)
    assert [item.name for item in packages.components if item.declared] == ["owner"]
    assert purls(packages) == [
        "pkg:generic/_hidden.so",
        "pkg:generic/app.jar",
        "pkg:generic/libfree.so.1",
        "pkg:generic/tool",
        "pkg:pypi/owner@1",
    ]


def interpreter(version: str) -> bytes:
    return ELF + b"\0" * (1024 * 1024 - 70) + b"\0" + version.encode() + b"\0" + b"\0" * 1000 + b"\x003.2.0\0"


def test_the_interpreter_itself_is_a_component(place: Place) -> None:
    packages = scan(
        place,
        {
            "usr/local/bin/python3.11": ELF,
            "usr/local/bin/python3": "->python3.11",
            "usr/local/lib/libpython3.11.so.1.0": interpreter("3.11.9"),
            "usr/local/lib/python3.11/os.py": b"",
            "usr/local/lib/python3.11/lib-dynload/_ssl.so": ELF,
        },
    )
    assert purls(packages) == ["pkg:generic/python@3.11.9"] and packages.unknowns == ()


def test_a_version_at_the_end_of_a_merged_string_is_found(place: Place) -> None:
    program = ELF + b"/opt/versions/3.12.4\0" + b"\0"
    assert purls(scan(place, {"opt/bin/python3.12": program})) == ["pkg:generic/python@3.12.4"]


def test_an_interpreter_without_version_is_said_to_be_so(place: Place) -> None:
    packages = scan(place, {"usr/lib/python3.13/os.py": b"", "usr/bin/python3": ELF})
    assert purls(packages) == ["pkg:generic/python", "pkg:generic/python@3.13"]
    assert [unknown.subject for unknown in packages.unknowns] == ["pkg:generic/python@3.13", "usr/bin/python3"]


OWNED_LIST = {
    "var/lib/dpkg/info/python3-jinja2.list": f"/{SITE}/Jinja2-3.1.2.dist-info/METADATA\n/usr/bin/python3.11\n"
}


def test_python_packages_of_the_distribution_name_their_owner(place: Place) -> None:
    packages = scan(
        place, {**DEBIAN, **OWNED_LIST, **dist_info("Jinja2", "3.1.2"), "usr/bin/python3.11": interpreter("3.11.2")}
    )
    assert by_name(packages, "jinja2").os_owned == "deb python3-jinja2"
    assert "pkg:generic/python@3.11.2" not in purls(packages), "the package python3.11-minimal stands for it"


def test_what_lies_over_a_package_of_the_distribution_is_nobodys(place: Place) -> None:
    metadata = f"{SITE}/Jinja2-3.1.2.dist-info/METADATA"
    below = {**DEBIAN, **OWNED_LIST, **dist_info("Jinja2", "3.1.2")}
    packages = scan(place, below, {metadata: "Name: Jinja2\nVersion: 2.0\n"})
    assert [(item.version, item.os_owned) for item in packages.components if item.name == "jinja2"] == [("2.0", "")]
    packages = scan(place, below, {metadata: "Name: Flask\nVersion: 3.1.2\n"})
    assert by_name(packages, "flask").os_owned == ""


def test_packages_of_other_makers_do_not_own(place: Place) -> None:
    status = str(DEBIAN["var/lib/dpkg/status"]).replace("Piotr <piotr@debian.org>", "Vendor <x@vendor.example>")
    packages = scan(place, {**DEBIAN, "var/lib/dpkg/status": status, **OWNED_LIST, **dist_info("Jinja2", "3.1.2")})
    assert by_name(packages, "jinja2").os_owned == ""


def test_an_owned_copy_and_a_free_copy_are_two_components(place: Place) -> None:
    packages = scan(
        place, {**DEBIAN, **OWNED_LIST, **dist_info("Jinja2", "3.1.2"), **dist_info("Jinja2", "3.1.2", root="venv")}
    )
    assert sorted(item.os_owned for item in packages.components if item.name == "jinja2") == ["", "deb python3-jinja2"]
    assert read_cyclonedx(cyclonedx(packages)) == packages


# Layers: an upgrade removes the old dist-info by whiteouts; an opaque folder hides everything below.
OLD_INFO = f"{SITE}/numpy-1.0.dist-info"
OLD, NEW = dist_info("numpy", "1.0"), dist_info("numpy", "2.0")


@pytest.mark.parametrize(
    ("upper", "expected"),
    [
        ({**NEW}, ["1.0", "2.0"]),
        ({**NEW, f"{SITE}/.wh.numpy-1.0.dist-info": b""}, ["2.0"]),
        ({f"{SITE}/.wh.numpy-1.0.dist-info": b"", **NEW}, ["2.0"]),
        ({f"{OLD_INFO}/.wh.METADATA": b"", f"{OLD_INFO}/.wh.RECORD": b"", **NEW}, ["2.0"]),
        ({**NEW, f"{SITE}/.wh..wh..opq": b""}, ["2.0"]),
        ({**NEW, ".wh..wh..opq": b""}, ["2.0"]),
        ({".wh.usr": b"", **NEW}, ["2.0"]),
        ({f"{SITE}": "->elsewhere", **{k.replace(SITE, "elsewhere"): v for k, v in NEW.items()}}, ["2.0"]),
        ({f"{SITE}/numpy-1.0.dist-info/METADATA": "Name: numpy\nVersion: 1.5\n"}, ["1.5"]),
        ({f"{SITE}/.wh.other": b""}, ["1.0"]),
        ({f"{SITE}/numpy-1.0.dist-info.wh.x": b"", ".wh.us": b""}, ["1.0"]),
    ],
)
def test_whiteouts(upper: dict[str, bytes | str], expected: list[str], place: Place) -> None:
    packages = scan(place, OLD, upper)
    assert [item.version for item in packages.components if item.name == "numpy"] == expected
    assert packages.unknowns == ()


def test_the_topmost_database_wins(place: Place) -> None:
    upper = {
        "var/lib/dpkg/status": "Package: libc6\nStatus: install ok installed\nVersion: 3\nMaintainer: x@debian.org\n"
    }
    assert [item.version for item in scan(place, DEBIAN, upper).components] == ["3"]


def test_an_overwritten_library_is_gone(place: Place) -> None:
    lower = make_tar({"bin/a": ELF, "bin/b": ELF, "lib/x.so": ELF}, executable=["bin/a", "bin/b"])
    upper = make_tar({"bin/a": b"#!/bin/sh", "bin/b": "->a", "lib/x.so": b"text"}, executable=["bin/a"])
    assert scan(place, lower, upper).components == ()


def test_a_folder_over_a_link_ends_the_link(place: Place) -> None:
    """Otherwise the file in the new folder and the one behind the former link would pass for one."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind in (("lib", tarfile.DIRTYPE), ("lib/x86_64-linux-gnu", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
        info = tarfile.TarInfo("lib/x86_64-linux-gnu/libc.so.6")
        info.size = len(ELF)
        tar.addfile(info, io.BytesIO(ELF))
    upper = buffer.getvalue()
    names = [item.name for item in scan(place, DEBIAN).components]
    assert "libc.so.6" not in names
    merged = scan(place, DEBIAN, upper)
    assert [item.locations for item in merged.components if item.type == "generic"] == [
        ("usr/lib/x86_64-linux-gnu/libc.so.6",)
    ]


@pytest.mark.parametrize("above", [{"lib64": "->lib"}, {".wh.lib64": b""}, {"lib64": "->other"}], ids=str)
def test_what_was_written_through_a_link_outlives_the_link(place: Place, above: Files) -> None:
    """Nodes write it to where the link leads."""
    lower = {"lib64": "->lib", **dist_info("numpy", "1.0", root="lib64/site-packages")}
    packages = scan(place, lower, above)
    assert by_name(packages, "numpy").locations == ("lib/site-packages/numpy-1.0.dist-info",)
    assert not scan(place, lower, {**above, ".wh.lib": b""}).components


def test_hard_links_tell_what_their_target_tells(place: Place) -> None:
    (metadata, record) = dist_info("numpy", "1.0", root="cache")
    files = dist_info("numpy", "1.0", root="cache")
    linked = {name.replace("cache", SITE): f"=>{name}" for name in (metadata, record)}
    for layers in ([{**files, **linked}], [files, linked]):
        packages = scan(place, *layers)
        assert len(by_name(packages, "numpy").locations) == 2 and packages.unknowns == ()
    (unknown,) = scan(place, {f"{SITE}/x.dist-info/METADATA": "=>usr/share/blob"}).unknowns
    assert unknown.kind == "unreadable" and "hard link to usr/share/blob" in unknown.reason


def test_links_above_the_root_are_unknowns(place: Place) -> None:
    (unknown,) = scan(place, {"a/b": "->../../x"}).unknowns
    assert unknown == Unknown(
        kind="unreadable", subject="a/b", reason="the symbolic link climbs above the image's root"
    )
    assert scan(place, {"a/b": "->../../x"}, {"a/.wh.b": b""}).unknowns == ()


def test_a_database_that_is_too_large_is_unreadable(place: Place) -> None:
    (unknown,) = scan(place, {"app/node_modules/x/package.json": b" " * (5 * 1024 * 1024)}).unknowns
    assert unknown.kind == "unreadable" and "at most 4194304 are read" in unknown.reason


def test_names_that_are_not_utf8_are_kept_readable(place: Place) -> None:
    tar = bytearray(make_tar({"lib/nameX.so": ELF}))
    tar[8] = 0xFF
    tar[148:156] = b"%06o\0 " % (sum(tar[:148]) + sum(tar[156:512]) + 256)
    (component,) = scan(place, bytes(tar)).components
    assert component.name == "name\\xff.so"
    assert read_cyclonedx(cyclonedx(scan(place, bytes(tar)))).components == (component,)


# Images, platforms, caches


class Watched(LayoutRegistry):
    """A layout folder that remembers which blobs were opened."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened: list[str] = []

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        self.opened.append(digest)
        return super().open_blob(repository, digest, start=start, stop=stop)


def test_a_second_scan_reads_no_blob_and_a_shared_layer_is_read_once(tmp_path: Path) -> None:
    registry = Watched(tmp_path / "registry")
    first, second = Place(registry, "one"), Place(registry, "two")
    shared, own = DEBIAN, dist_info("numpy", "1.0")
    image = push_image(first, [shared])
    counter = Counter()
    packages = scan_image(first, image, state=tmp_path / "state", progress=counter)
    layer = registry.get_manifest("one", image.digest).content()
    assert isinstance(layer, Manifest)
    assert len(registry.opened) == 2 and counter.bytes_moved == layer.layers[0].size
    assert scan_image(first, image, state=tmp_path / "state") == packages
    assert len(registry.opened) == 2
    scan_image(second, push_image(second, [shared, own]), state=tmp_path / "state")
    assert len(registry.opened) == 4, "the config and the own layer"


def test_a_damaged_cache_is_made_again(place: Place, tmp_path: Path) -> None:
    image = push_image(place, [DEBIAN])
    packages = scan_image(place, image, state=tmp_path / "state")
    for path in (tmp_path / "state").rglob("*.json"):
        path.write_bytes(path.read_bytes()[:30])
    assert scan_image(place, image, state=tmp_path / "state") == packages


def test_every_platform_of_an_index(place: Place, tmp_path: Path) -> None:
    amd = push_image(place, [dist_info("numpy", "1.0")])
    arm = push_image(place, [dist_info("numpy", "2.0")], architecture="arm64")
    statement = push_blob(place, b"{}", media_type=IN_TOTO)
    config = push_blob(place, b'{"os":"unknown","rootfs":{"diff_ids":[]}}', media_type=OCI_CONFIG)
    attestation = manifest_bytes(
        Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=(statement,))
    )
    place.registry.put_manifest(place.repository, attestation)
    artifact = artifact_manifest(artifact_type="text/plain", layers=[statement], subject=None)
    push_blob(place, b"{}", media_type="application/vnd.oci.empty.v1+json")
    place.registry.put_manifest(place.repository, artifact)
    inner = push_index(place, [arm])
    nowhere = Platform(os="unknown", architecture="unknown")
    told = msgspec.structs.replace(attestation.descriptor, platform=nowhere)
    top = push_index(place, [amd, told, artifact.descriptor, inner, amd])
    packages = scan_image(place, top, state=tmp_path / "state")
    assert [(item.platform.architecture, item.manifest.digest) for item in packages] == [
        ("amd64", amd.digest),
        ("arm64", arm.digest),
    ]
    assert {item.subject for item in packages} == {top.digest}


def test_an_index_without_images_is_refused(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="no image"):
        scan_image(place, push_index(place, []), state=tmp_path)


def test_indexes_of_indexes_are_bounded(place: Place, tmp_path: Path) -> None:
    image = push_image(place, [{}])
    nested = push_index(place, [image])
    for _ in range(MAX_DEPTH):
        nested = push_index(place, [nested])
    with pytest.raises(ClosureIncomplete, match="nested more than"):
        scan_image(place, nested, state=tmp_path)
    wide = push_index(place, [push_index(place, [image] * count) for count in range(MAX_MANIFESTS)])
    with pytest.raises(ClosureIncomplete, match="more than 512 manifests"):
        scan_image(place, wide, state=tmp_path)


def broken_image(place: Place, layer: bytes, *, diff_ids: list[str]) -> Descriptor:
    pushed = push_blob(place, layer, media_type=OCI_LAYER_GZIP)
    document = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": diff_ids}}
    raw = msgspec.json.encode(document, enc_hook=str)
    config = push_blob(place, raw, media_type=OCI_CONFIG)
    manifest = manifest_bytes(Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=(pushed,)))
    place.registry.put_manifest(place.repository, manifest)
    return manifest.descriptor


def test_wrong_diff_ids_cannot_poison_the_cache(place: Place, tmp_path: Path) -> None:
    victim = make_tar(dist_info("numpy", "1.0"))
    lie = broken_image(place, gzip.compress(make_tar({"x": b""})), diff_ids=[Digest.of(victim)])
    with pytest.raises(DigestMismatch, match="uncompressed layer"):
        scan_image(place, lie, state=tmp_path)
    (packages,) = scan_image(place, push_image(place, [victim]), state=tmp_path)
    assert purls(packages) == ["pkg:pypi/numpy@1.0"]


def test_layers_that_lie_are_refused(place: Place, tmp_path: Path) -> None:
    tar = make_tar({"x": b"1"})
    cases = [
        (gzip.compress(tar)[:-9], [Digest.of(tar)], LayerInvalid, "truncated"),
        (gzip.compress(make_tar({"../x": b""})), [Digest.of(tar)], LayerInvalid, "climbs"),
        (gzip.compress(tar), [Digest.of(tar), Digest.of(tar)], ManifestInvalid, "1 layer, its config 2 diff_ids"),
    ]
    for layer, diff_ids, error, text in cases:
        with pytest.raises(error, match=text):
            scan_image(place, broken_image(place, layer, diff_ids=list(diff_ids)), state=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "state" in path.parts]


# The document


def test_the_sbom_is_valid_deterministic_and_reads_back(place: Place) -> None:
    packages = scan(
        place,
        {
            **DEBIAN,
            **OWNED_LIST,
            **dist_info("Jinja2", "3.1.2"),
            "usr/lib/libfree.so.1": ELF,
            "var/lib/rpm/Packages": b"",
            "a": "->../b",
            "app/node_modules/@s/x/package.json": '{"name":"@s/x","version":"1.0.0+b"}',
        },
    )
    raw = cyclonedx(packages)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(raw.decode()) is None
    document = msgspec.json.decode(raw)
    assert document["specVersion"] == "1.6" and document["serialNumber"].startswith("urn:uuid:")
    assert document["metadata"]["timestamp"] == "2026-11-23T10:00:00+00:00"
    assert cyclonedx(packages) == raw
    assert read_cyclonedx(raw) == packages
    assert [item.declared for item in packages.components if item.type == "generic"] == [False]
    declared = msgspec.structs.replace(
        packages, components=tuple(msgspec.structs.replace(item, evidence="list") for item in packages.components)
    )
    assert read_cyclonedx(cyclonedx(declared)) == declared
    other = msgspec.structs.replace(
        packages, manifest=Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"other"), size=1)
    )
    assert msgspec.json.decode(cyclonedx(other))["serialNumber"] != document["serialNumber"]


def test_documents_of_other_tools_and_truncations_are_refused(place: Place) -> None:
    raw = cyclonedx(scan(place, dist_info("numpy", "1.0")))
    foreign = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "metadata": {"component": {"name": "x", "type": "container"}},
    }
    for content in (b"", b"{}", msgspec.json.encode(foreign), *(raw[:length] for length in range(0, len(raw), 37))):
        with pytest.raises(ManifestInvalid):
            read_cyclonedx(content)


def test_a_tar_entry_twice_counts_as_its_last(place: Place) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for version in ("1", "2"):
            raw = f"Name: a\nVersion: {version}\n".encode()
            info = tarfile.TarInfo(f"{SITE}/a.dist-info/METADATA")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    assert purls(scan(place, buffer.getvalue())) == ["pkg:pypi/a@2"]


def test_a_layer_that_was_not_looked_at_to_its_end_is_said_whatever_lies_above(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry_pipelines.scan.collect.MAX_FACTS", 2)
    many: Files = {f"{SITE}/a{number}-1.dist-info/METADATA": f"Name: a{number}\nVersion: 1\n" for number in range(5)}
    above: Files = {f"{SITE}/.wh.a{number}-1.dist-info": "" for number in range(5)}
    (doubt,) = scan(place, many, above).unknowns
    assert (doubt.kind, doubt.subject) == ("incomplete", "layer")
    assert "more than 2 files" in doubt.reason
