"""What is said of an image against what happens in it: imports, and the loader's own list."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT, BuildResult, BuildSpec
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.build.links.check import check_links
from registry_pipelines.build.links.image import image_links
from registry_pipelines.build.links.report import LinkFinding, LinkReport, link_notes
from registry_pipelines.build.pushing import layer_descriptor
from registry_pipelines.errors import LibraryMissing, NotFound
from registry_pipelines.evidence.artifacts import attached
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.build.bases import push_base
from tests.build.in_root import run_in_root
from tests.build.layers import unpack
from tests.build.links.compiled import Compiler
from tests.build.wheels import make_wheel

ORIGIN = "-Wl,-rpath,$ORIGIN"
OLD_TAGS = "-Wl,--disable-new-dtags"
"""RPATH, which those below inherit, and not RUNPATH."""


def write_wheels(folder: Path, gcc: str, work: Path) -> list[str]:
    """A wheel for each way in which a library is found or missed; all their names."""
    made = Compiler(gcc, work)
    wheels = {
        "near": {
            "near.libs/libnear.so.1": made.library("libnear.so.1", function="near"),
            "near/_c.abi3.so": made.extension(
                "_c", needs=["libnear.so.1"], calls=["near"], flags=[f"{ORIGIN}/../near.libs"]
            ),
        },
        "inherits": {
            "inherits/lib/libdeep.so.1": made.library("libdeep.so.1", function="deep"),
            "inherits/lib/libmid.so.1": made.library("libmid.so.1", function="mid", needs=["libdeep.so.1"]),
            "inherits/_c.abi3.so": made.extension("_c", needs=["libmid.so.1"], flags=[f"{ORIGIN}/lib", OLD_TAGS]),
        },
        "loads": {
            "loads/lib/libloaded.so.1": made.library("libloaded.so.1", function="loaded"),
            "loads/_c.abi3.so": made.extension("_c", needs=["libloaded.so.1"], calls=["loaded"]),
            "loads/__init__.py": b"import ctypes, pathlib\n"
            b"ctypes.CDLL(str(pathlib.Path(__file__).parent / 'lib/libloaded.so.1'), mode=ctypes.RTLD_GLOBAL)\n",
        },
        "runtime13": {"nvidia/cu13/lib/libcudart.so.13": made.library("libcudart.so.13", function="cuda13")},
        "lonely": {
            "other": made.library("libcudart.so.12", function="cuda12"),
            "lonely/_c.abi3.so": made.extension("_c", needs=["libcudart.so.12"], calls=["cuda12"]),
        },
        "older": {"older/libver.so.1": made.library("libver.so.1", function="ver", version="VER_1")},
        "newer": {
            "other": made.library("libver.so.1", function="ver", version="VER_2"),
            "newer/_c.abi3.so": made.extension(
                "_c", needs=["libver.so.1"], calls=["ver"], flags=[f"{ORIGIN}/../older"]
            ),
        },
        "codec": {
            f"codec/libcodec_core{number}.so": made.library(
                f"libcodec_core{number}.so", function="core", needs=[_absent(made, f"libavcodec.so.{number + 54}")]
            )
            for number in (4, 5)
        },
        "providers": {
            "providers/libp_providers_shared.so": made.library("libp_providers_shared.so", function="shared"),
            "providers/libp_providers_cuda.so": made.library(
                "libp_providers_cuda.so", function="cuda", needs=[_absent(made, "libcudnn.so.9")]
            ),
        },
        "driver": {"driver/_c.abi3.so": made.extension("_c", needs=[_absent(made, "libcuda.so.1")])},
        "foreign": {
            "foreign/program": made.program("program", flags=["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"])
        },
    }
    for name, files in wheels.items():
        files.pop("other", None)
        files.setdefault(f"{name}/__init__.py", b"")
        make_wheel(folder, name, files=files, executable=(f"{name}/program",))
    return list(wheels)


def _absent(made: Compiler, soname: str) -> str:
    """A library that is linked to and not packed."""
    made.library(soname, function=re.sub(r"\W", "_", soname))
    return soname


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory, peer: Callable[[str], str]) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("wheels")
    return folder, write_wheels(folder, peer("gcc"), tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(LayoutRegistry(tmp_path_factory.mktemp("layout")), "image")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def built(wheels: tuple[Path, list[str]], place: Place, state: Path) -> BuildResult:
    folder, names = wheels
    spec = BuildSpec(name="image", version="v1", requirements=tuple(f"{name}==1.0" for name in names), wheels=folder)
    return LayersBuilder(state).build(spec, place)


@pytest.fixture(scope="module")
def report(built: BuildResult) -> LinkReport:
    return built.links[str(Platform.here())]


@pytest.fixture(scope="module")
def root(built: BuildResult, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    for row in built.layers:
        unpack(read_blob(place, layer_descriptor(row), limit=row.size), folder)
    return folder


def finding(report: LinkReport, owner: str) -> LinkFinding:
    (found,) = [each for each in report.findings if each.owners == (f"{owner} 1.0",)]
    return found


def test_only_what_is_missing_is_told(report: LinkReport) -> None:
    told = {each.owners: (each.severity, each.kind, each.needs) for each in report.findings}
    assert told == {
        ("lonely 1.0",): ("certain", "missing", ("libcudart.so.12",)),
        ("newer 1.0",): ("certain", "version", ("libver.so.1 VER_2",)),
        ("codec 1.0",): ("likely", "missing", ("libavcodec.so.58", "libavcodec.so.59")),
        ("providers 1.0",): ("optional", "missing", ("libcudnn.so.9",)),
        (): ("certain", "missing", ("/lib/ld-musl-x86_64.so.1",)),
    }
    assert report.from_driver == ("libcuda.so.1",)
    assert [each.library for each in report.loaded_before] == ["libloaded.so.1"]


def test_the_words_say_what_is_there_instead(report: LinkReport) -> None:
    lonely = finding(report, "lonely")
    assert "libcudart.so.13 is there, of runtime13 1.0" in lonely.why
    assert "one CUDA major" in lonely.do
    assert "has VER_1 at most" in finding(report, "newer").why
    assert "ffmpeg" in finding(report, "codec").do


@pytest.mark.parametrize("name", ["near", "inherits", "loads"])
def test_what_is_not_told_is_imported(root: Path, name: str) -> None:
    done = run_in_root(root, "/usr/local/bin/python3", "-c", f"import {name}, {name}._c")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "said"), [("lonely", "libcudart.so.12: cannot open"), ("newer", "version `VER_2' not found")]
)
def test_what_is_certain_fails_when_it_is_imported(root: Path, name: str, said: str) -> None:
    done = run_in_root(root, "/usr/local/bin/python3", "-c", f"import {name}._c")
    assert done.returncode == 1
    assert said in done.stderr


def test_a_program_for_another_loader_does_not_start(root: Path) -> None:
    program = next(root.rglob("foreign/program"))
    done = run_in_root(
        root, "/usr/local/bin/python3", "-c", f"import os; os.execv('/{program.relative_to(root)}', ['x'])"
    )
    assert "FileNotFoundError" in done.stderr


def test_the_loaders_own_list_has_the_same_names_missing(report: LinkReport, root: Path) -> None:
    loader = next(path for path in root.rglob("ld-linux*.so.*"))
    ours = {name for each in report.findings if each.kind == "missing" for name in each.needs if "/" not in name}
    theirs = set()
    # Alone, libmid.so.1 has nobody whose RPATH it could inherit.
    for path in sorted(root.rglob("*-packages/**/*.so*")):
        if path.name == "libmid.so.1":
            continue
        done = run_in_root(root, f"/{loader.relative_to(root)}", "--list", f"/{path.relative_to(root)}")
        theirs |= set(re.findall(r"(\S+) => not found", done.stdout))
        theirs |= set(re.findall(r"libraries: (\S+): cannot open", done.stderr))
    assert theirs == ours | set(report.from_driver) | {each.library for each in report.loaded_before}


def test_notes_and_provenance_say_it(built: BuildResult, place: Place) -> None:
    notes = link_notes(built.links)
    assert any(note.startswith("links: certain: lonely 1.0 needs libcudart.so.12, nobody brings it") for note in notes)
    assert notes[-1] == "links: 1 more thing may fail to load without harm"
    (statement,) = attached(place, built.descriptor.digest, artifact_type=PROVENANCE_ARTIFACT)
    said = json.loads(statement.content)["predicate"]["buildDefinition"]["internalParameters"]["links"]
    assert said[str(Platform.here())]["certain"] == 3
    assert {"lonely 1.0"} in [set(each["owners"]) for each in said[str(Platform.here())]["findings"]]


def test_with_error_nothing_is_named(
    wheels: tuple[Path, list[str]], built: BuildResult, place: Place, state: Path
) -> None:
    spec = BuildSpec(name="image", version="v1", requirements=("lonely==1.0",), wheels=wheels[0], links="error")
    with pytest.raises(LibraryMissing, match=r"lonely 1\.0 needs libcudart\.so\.12"):
        LayersBuilder(state).build(spec, Place(place.registry, "refused"))
    with pytest.raises(NotFound):
        place.registry.resolve("refused", "v1")


def test_a_second_build_says_the_same(
    wheels: tuple[Path, list[str]], built: BuildResult, place: Place, state: Path
) -> None:
    folder, names = wheels
    spec = BuildSpec(name="image", version="v1", requirements=tuple(f"{name}==1.0" for name in names), wheels=folder)
    again = LayersBuilder(state).build(spec, place)
    assert (again.changed, again.links) == (False, built.links)


def test_an_application_is_judged_only_when_a_loader_sees_something_of_it(
    wheels: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []

    def judge(*layers: Any, **more: Any) -> LinkReport:
        judged.append(more["platform"])
        return check_links(*layers, **more)

    monkeypatch.setattr("registry_pipelines.build.layers.check_links", judge)
    application, registry = tmp_path / "app", LayoutRegistry(tmp_path / "registry")
    bases, place = Place(registry, "bases/python"), Place(registry, "image")
    push_base(bases, "slim", {"etc/os-release": b"ID=none"})
    builder = LayersBuilder(tmp_path / "state", open_place=lambda reference: (bases, "slim"))
    spec = BuildSpec(
        name="image",
        base="python:slim",
        requirements=("lonely==1.0",),
        wheels=wheels[0],
        libc="none",
        application=application,
        site_packages="/app",
    )

    def build(files: dict[str, bytes], **settings: Any) -> tuple[BuildResult, list[tuple[str, ...]]]:
        shutil.rmtree(application, ignore_errors=True)
        for name, content in files.items():
            (application / name).parent.mkdir(parents=True, exist_ok=True)
            (application / name).write_bytes(content)
        result = builder.build(structs.replace(spec, **settings), place)
        certain = result.links[str(Platform.here())].of("certain")
        return result, [each.files for each in certain if "libcudart.so.12" in each.needs]

    wheel = ("/app/lonely/_c.abi3.so",)
    with zipfile.ZipFile(next(wheels[0].glob("lonely-*.whl"))) as archive:
        extension = archive.read("lonely/_c.abi3.so")
    first, found = build({"main.py": b"1"})
    assert (found, len(judged)) == ([wheel], 1)
    other, found = build({"main.py": b"2", "data/libx.txt": b"no library"})
    assert other.descriptor != first.descriptor and other.links == first.links and len(judged) == 1
    assert build({"main.py": b"2", "own.abi3.so": extension})[1] == [wheel, ("/app/own.abi3.so",)]
    # What is no library may stand in the place of one.
    assert build({"lib/libcudart.so.12": b"no library"})[1] == [wheel]
    assert len(judged) == 3
    assert build({"main.py": b"3"})[1] == [wheel] and len(judged) == 3
    with pytest.raises(LibraryMissing, match=r"lonely 1\.0 needs libcudart\.so\.12"):
        build({"main.py": b"4"}, links="error")


def test_layers_of_earlier_builds_are_looked_at_once_more(wheels: tuple[Path, list[str]], tmp_path: Path) -> None:
    """As after an update, or where somebody deleted what was kept."""
    registry = LayoutRegistry(tmp_path / "registry")
    bases, place = Place(registry, "bases/python"), Place(registry, "image")
    push_base(bases, "slim", {"usr/lib/libcudart.so.12": b"no library"})
    builder = LayersBuilder(tmp_path / "state", open_place=lambda reference: (bases, "slim"))
    spec = BuildSpec(name="image", base="python:slim", requirements=("lonely==1.0",), wheels=wheels[0], libc="none")
    first = builder.build(spec, place).links
    shutil.rmtree(tmp_path / "state/links")
    assert builder.build(structs.replace(spec, environment={"A": "1"}), place).links == first
    (one, *_) = [each for each in first[str(Platform.here())].findings if "libcudart.so.12" in each.needs]
    assert one.severity == "certain"


def test_any_image_is_read_from_its_layers(
    built: BuildResult, report: LinkReport, place: Place, tmp_path: Path
) -> None:
    foreign = image_links(place, built.tags[0], Platform.here(), state=tmp_path)
    assert foreign == report
