"""Wheels are chosen for the C library that a base has, whatever machine builds."""

from __future__ import annotations

import platform as machine
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from packaging.markers import default_environment
from packaging.tags import sys_tags

from registry_pipelines.build.bases import open_base
from registry_pipelines.build.builder import BuildResult, BuildSpec
from registry_pipelines.build.c_library import CLibrary, read_base, stated_c_library
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.build.pip_process import marker_values
from registry_pipelines.build.resolving import resolve
from registry_pipelines.build.target import RUNNING_PYTHON, WheelTarget
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import InputError, RequirementsInvalid
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.build.bases import push_base
from tests.build.layers import DPKG
from tests.build.wheels import make_wheel
from tests.needs import missing
from tests.scan.images import push_image

AMD = Platform.parse("linux/amd64")
ARM = Platform.parse("linux/arm64")
TAG = f"cp{RUNNING_PYTHON.replace('.', '')}"
MULTIARCH = "lib/x86_64-linux-gnu"
MUSL = b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\0" + b"\0musl libc (x86_64)\nVersion %s\n\x001.2.5\0"
ALPINE = b"ID=alpine\nVERSION_ID=3.20.3\n"
APK = b"C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\n\nC:Q1y=\nP:zlib\nV:1.3\n\n"


def elf(number: int, text: bytes) -> bytes:
    return b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HH", 3, number) + bytes(44) + b"\0" + text + b"\0"


def glibc(minor: int, number: int = 62) -> bytes:
    return elf(number, b"GNU C Library (Debian GLIBC 2.%d-1) stable release version 2.%d.\n" % (minor, minor))


def says(folder: Path, *layers: Mapping[str, bytes | str], platform: Platform = AMD) -> str:
    """The C library of an image of these layers, lowest first; or why it is not known."""
    place = Place(LayoutRegistry(folder / "registry"), "bases/any")
    push_image(place, layers, tag="v1", architecture=platform.architecture)
    image = open_base("v1", platform, lambda text: (place, text))
    cache = BuildCache(folder / "cache.sqlite")
    pairs = list(zip(image.manifest.layers, image.diff_ids, strict=True))
    facts = read_base(place, pairs, platform, cache=cache)
    shutil.rmtree(folder / "registry")
    # What layers said is remembered: nothing is read again.
    assert read_base(place, pairs, platform, cache=cache) == facts
    cache.close()
    return f"{facts.c_library} {facts.c_library.source}" if facts.c_library else facts.why


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"var/lib/dpkg/status": DPKG}, "glibc 2.36 in var/lib/dpkg/status"),
        ({f"{MULTIARCH}/libc-2.31.so": glibc(31)}, f"glibc 2.31 in {MULTIARCH}/libc-2.31.so"),
        (
            {f"{MULTIARCH}/libc-2.31.so": elf(62, b"stripped")},
            f"glibc 2.31 in {MULTIARCH}/libc-2.31.so",
        ),
        (
            {"usr/lib64/libc.so.6": elf(62, b"GLIBC_2.9\0GLIBC_2.28\0GLIBC_PRIVATE")},
            "glibc 2.28 in usr/lib64/libc.so.6",
        ),
        (
            {"var/lib/dpkg/status": DPKG, "lib64/ld-linux-x86-64.so.2": glibc(31)},
            "glibc 2.31 in lib64/ld-linux-x86-64.so.2",
        ),
        ({"lib/ld-musl-x86_64.so.1": MUSL}, "musl 1.2 in lib/ld-musl-x86_64.so.1"),
        ({"lib/apk/db/installed": APK}, "musl 1.2 in lib/apk/db/installed"),
        (
            {"etc/os-release": ALPINE, "lib/ld-musl-x86_64.so.1": b"\x7fELF"},
            "musl 1.2 lib/ld-musl-x86_64.so.1 in alpine 3.20.3",
        ),
        ({"usr/lib/libc.so.6": glibc(36, 3), "usr/lib/aarch64-linux-gnu/libc.so.6": glibc(36, 183)}, "there is none"),
        ({"etc/os-release": b'ID=debian\nVERSION_ID="12"\n'}, "there is none"),
        ({"home/me/lib/libc.so.6": glibc(40)}, "there is none"),
    ],
)
def test_the_c_library_is_read_from_layers(tmp_path: Path, files: dict[str, bytes], expected: str) -> None:
    assert says(tmp_path, files).startswith(expected)


def test_the_newest_layer_counts(tmp_path: Path) -> None:
    old, new = {"usr/lib64/libc.so.6": glibc(28)}, {"usr/lib64/libc.so.6": glibc(34)}
    assert says(tmp_path, old, new, {"app": b""}).startswith("glibc 2.34")


def test_the_loader_that_python_names_decides_between_two(tmp_path: Path) -> None:
    debian = {"var/lib/dpkg/status": DPKG}
    foreign = {"lib/ld-musl-x86_64.so.1": MUSL}
    python = {"usr/bin/python3.11": elf(62, b"/lib64/ld-linux-x86-64.so.2")}
    assert says(tmp_path, {**debian, **python}, foreign).startswith("glibc 2.36")
    assert says(tmp_path, foreign, {"usr/lib64/libc.so.6": glibc(28)}).endswith(" are there")
    other = {"usr/local/bin/python3.12": elf(62, b"/lib/ld-musl-x86_64.so.1")}
    assert says(tmp_path, {**debian, **foreign}, other).startswith("musl 1.2")
    assert "a program for musl, which is not" in says(tmp_path, debian, other)


def test_this_machines_own_library_is_read_as_it_says_itself(tmp_path: Path) -> None:
    kind, version = machine.libc_ver()
    path = next(Path("/lib").glob("*-linux-gnu/libc.so.6"), None)
    if kind != "glibc" or path is None:
        missing("a machine with glibc in a multiarch folder")
    library = says(tmp_path, {str(path).lstrip("/"): path.read_bytes()}, platform=Platform.here())
    assert library.startswith(f"glibc {version} ")


def test_tags_are_those_that_this_python_takes_on_its_own_machine() -> None:
    kind, version = machine.libc_ver()
    if kind != "glibc":
        missing("a machine with glibc")
    target = WheelTarget(Platform.here(), RUNNING_PYTHON, stated_c_library(f"glibc-{version}"))
    assert target.tags() == frozenset(sys_tags())


def build(folder: Path, files: Mapping[str, bytes], spec: BuildSpec) -> BuildResult:
    bases = Place(LayoutRegistry(folder / "bases"), "python")
    push_image(bases, [files], tag="v1")
    builder = LayersBuilder(folder / "state", open_place=lambda text: (bases, "v1"))
    return builder.build(spec, Place(LayoutRegistry(folder / "registry"), "ml/any"))


@pytest.fixture
def spec(tmp_path: Path) -> BuildSpec:
    wheels = tmp_path / "wheels"
    for tags in ("manylinux_2_34_x86_64", "manylinux2014_x86_64.manylinux_2_17_x86_64", "musllinux_1_2_x86_64"):
        make_wheel(wheels, "native", tag=f"{TAG}-{TAG}-{tags}")
    make_wheel(wheels, "stable", tag="cp311-abi3-manylinux_2_28_x86_64")
    make_wheel(wheels, "stable", tag="cp311-abi3-musllinux_1_1_x86_64")
    for name, tag in (("pure", "py3-none-any"), ("ctypes", "py3-none-linux_x86_64"), ("plain", f"{TAG}-none-any")):
        make_wheel(wheels, name, tag=tag)
    names = ("native", "stable", "pure", "ctypes", "plain")
    return BuildSpec(name="any", base="b", platforms=(AMD,), requirements=names, wheels=wheels, python=RUNNING_PYTHON)


@pytest.mark.parametrize(
    ("files", "native", "stable"),
    [
        ({"var/lib/dpkg/status": DPKG}, "manylinux_2_34", "manylinux_2_28"),
        ({"usr/lib64/libc.so.6": glibc(28)}, "manylinux_2_17", "manylinux_2_28"),
        ({"lib/ld-musl-x86_64.so.1": MUSL}, "musllinux_1_2", "musllinux_1_1"),
    ],
)
def test_wheels_are_those_of_the_base(
    tmp_path: Path, spec: BuildSpec, files: dict[str, bytes], native: str, stable: str
) -> None:
    result = build(tmp_path, files, spec)
    (chosen,) = result.lock.values()
    names = {wheel.name: wheel.filename for wheel in chosen}
    assert len(names) == 5
    assert native in names["native"] and stable in names["stable"]
    (told,) = result.targets.values()
    assert next(iter(files)) in told


def test_a_base_that_does_not_tell_is_refused_and_the_build_can_say_it(tmp_path: Path, spec: BuildSpec) -> None:
    with pytest.raises(InputError, match=r"cannot be told: there is none(?s:.*)`libc: glibc-2.31`"):
        build(tmp_path, {"app": b""}, spec)
    told = build(tmp_path, {"app": b""}, structs.replace(spec, libc="musl-1.2"))
    assert "told by the build" in told.targets["linux/amd64"]
    with pytest.raises(RequirementsInvalid):
        build(tmp_path, {"app": b""}, structs.replace(spec, libc="none"))
    pure = build(tmp_path, {"app": b""}, structs.replace(spec, libc="none", requirements=("pure", "plain")))
    assert len(pure.lock["linux/amd64"]) == 2


def test_the_interpreter_base_has_the_library_of_this_machine(tmp_path: Path, spec: BuildSpec) -> None:
    with pytest.raises(InputError, match="that of this machine"):
        build(tmp_path, {}, structs.replace(spec, base="python", platforms=(), libc="musl-1.2"))


def test_without_requirements_no_layer_is_read(tmp_path: Path, spec: BuildSpec) -> None:
    assert build(tmp_path, {"app": b""}, structs.replace(spec, requirements=(), python="")).lock == {"linux/amd64": ()}


def test_what_does_not_fit_is_refused_whoever_chose_it() -> None:
    target = WheelTarget(AMD, "3.12", CLibrary("glibc", 2, 28, "in a file"))
    target.check(["a-1-cp312-cp312-manylinux_2_28_x86_64.whl", "b-1-cp36-abi3-manylinux1_x86_64.whl"])
    for tags in ("cp312-cp312-manylinux_2_29_x86_64", "cp311-cp311-linux_x86_64", "cp312-cp312-musllinux_1_2_x86_64"):
        with pytest.raises(RequirementsInvalid, match=r"does not fit Python 3\.12 with C library glibc 2\.28"):
            target.check([f"a-1-{tags}.whl"])


def test_free_threaded_bases_take_their_own_wheels() -> None:
    target = WheelTarget(ARM, "3.13t", stated_c_library("glibc-2.36"))
    target.check(["a-1-cp313-cp313t-manylinux_2_28_aarch64.whl", "b-1-py3-none-any.whl"])
    for tags in ("cp313-cp313-manylinux_2_28_aarch64", "cp311-abi3-manylinux_2_28_aarch64"):
        with pytest.raises(RequirementsInvalid, match=r"3\.13t"):
            target.check([f"a-1-{tags}.whl"])


@settings(max_examples=40, deadline=None)
@given(
    path=st.sampled_from(
        [
            f"{MULTIARCH}/libc.so.6",
            "lib/ld-musl-x86_64.so.1",
            "var/lib/dpkg/status",
            "lib/apk/db/installed",
            "bin/python3.12",
        ]
    ),
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=12),
            st.sampled_from([MUSL, glibc(31), DPKG, APK, b"release version 2.99999999.", b"\nV:9999999999.1-1\n"]),
        ),
        max_size=5,
    ),
)
def test_whatever_a_base_says_the_list_of_tags_is_short(
    path: str, pieces: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(LayoutRegistry(tmp_path_factory.mktemp("any") / "registry"), "bases/any")
    push_image(place, [{path: b"".join(pieces)}], tag="v1")
    image = open_base("v1", AMD, lambda text: (place, text))
    cache = BuildCache(tmp_path_factory.mktemp("any") / "cache.sqlite")
    facts = read_base(place, list(zip(image.manifest.layers, image.diff_ids, strict=True)), AMD, cache=cache)
    cache.close()
    if facts.c_library:
        assert len(WheelTarget(AMD, "3.12", facts.c_library).options()) < 3000


@pytest.mark.parametrize("text", ["glibc", "glibc-2", "musl-x", "bionic-1.2", "glibc-2.31 "])
def test_only_c_libraries_can_be_told(text: str) -> None:
    with pytest.raises(InputError, match=r"glibc-2\.31"):
        stated_c_library(text)


@pytest.mark.parametrize(
    ("platform", "python", "expected"),
    [
        (AMD, "3.9", ["backport", "top"]),
        (AMD, "3.13", ["returned", "top"]),
        (AMD, "3.13t", ["returned", "top"]),
        (Platform.parse("linux/ppc64le"), "3.11", ["power", "top"]),
    ],
)
def test_environment_markers_are_those_of_the_image(
    tmp_path: Path, platform: Platform, python: str, expected: list[str]
) -> None:
    """pip judges them by the machine it runs on, also with ``--python-version`` and ``--platform``."""
    wheels = tmp_path / "marked"
    requires = (
        'backport; python_version < "3.11"',
        'returned; python_full_version >= "3.13" and implementation_name == "cpython"',
        'power; platform_machine == "ppc64le" and python_version < "3.13" and python_version >= "3.11"',
    )
    make_wheel(wheels, "top", requires=requires)
    for name in ("backport", "returned", "power"):
        make_wheel(wheels, name)
    cache = BuildCache(tmp_path / "cache.sqlite")
    spec = BuildSpec(name="x", requirements=("top",), wheels=wheels)
    target = WheelTarget(platform, python, stated_c_library("glibc-2.36"))
    chosen = resolve(spec, target, store=WheelStore(tmp_path / "store", cache), cache=cache)
    cache.close()
    assert [wheel.locked.name for wheel in chosen] == expected


def test_the_markers_of_this_python_are_known() -> None:
    own = {str(name): value for name, value in default_environment().items()}
    ours = marker_values(WheelTarget(Platform.here(), RUNNING_PYTHON, stated_c_library("glibc-2.36")))
    assert ours == {name: own[name] for name in ours}
    assert own.keys() - ours.keys() <= {"platform_release", "platform_version", "extra"}
    assert marker_values(WheelTarget(Platform.here(), RUNNING_PYTHON)) == {}


@pytest.mark.parametrize(
    ("programs", "environment", "told", "expected"),
    [
        (["3.9"], {}, "", "3.9"),
        (["3.13t"], {}, "", "3.13t"),
        (["3.12"], {"PYTHON_VERSION": "3.8.1"}, "3.12", "3.12"),
        ([], {"PYTHON_VERSION": "3.12.4"}, "", "3.12"),
        ([], {"PYTHON_VERSION": "3.8"}, "3.12", ""),
        (["3.13t"], {"PYTHON_VERSION": "3.13.1"}, "", "3.13t"),
    ],
)
def test_the_python_is_that_of_the_base(
    tmp_path: Path, programs: list[str], environment: dict[str, str], told: str, expected: str
) -> None:
    """What the image's variables say may be meant for the application; a program that is there counts."""
    make_wheel(tmp_path / "wheels", "pure")
    bases = Place(LayoutRegistry(tmp_path / "bases"), "python")
    loader = elf(62, b"/lib64/ld-linux-x86-64.so.2")
    library = glibc(34, {"amd64": 62, "arm64": 183}[Platform.here().architecture])
    files = {"usr/lib64/libc.so.6": library, **{f"usr/local/bin/python{version}": loader for version in programs}}
    push_base(bases, "v1", files, environment=environment)
    spec = BuildSpec(name="any", base="b", python=told, requirements=("pure",), wheels=tmp_path / "wheels")
    builder = LayersBuilder(tmp_path / "state", open_place=lambda text: (bases, "v1"))
    place = Place(LayoutRegistry(tmp_path / "registry"), "ml/any")
    if not expected:
        with pytest.raises(InputError, match=r"has Python 3\.8, not 3\.12"):
            builder.build(spec, place)
        return
    result = builder.build(spec, place)
    (chosen,) = result.targets.values()
    assert chosen.startswith(f"Python {expected} with C library glibc 2.34")
