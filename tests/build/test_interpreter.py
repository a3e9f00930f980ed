from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry_pipelines.build.builder import BuildResult, BuildSpec
from registry_pipelines.build.content import content_job
from registry_pipelines.build.elf import Loader, read_cache, read_elf
from registry_pipelines.build.interpreter import EXTRA_LIBRARIES, interpreter_entries
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.build.pushing import layer_descriptor
from registry_pipelines.errors import LocalError
from registry_pipelines.promote.documents import DEFAULT_POLICY
from registry_pipelines.promote.gate import report_breaches
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.match import match
from registry_pipelines.scan.report import PlatformPackages
from registry_pipelines.scan.sbom import scan_image
from tests.build.in_root import run_in_root
from tests.build.layers import unpack

PROGRAM = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()


def in_root(root: Path, *command: str) -> str:
    """Run with nothing but the root."""
    done = run_in_root(root, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, BuildResult]:
    """An image of nothing but the interpreter base."""
    place = Place(LayoutRegistry(tmp_path_factory.mktemp("layout")), "base")
    builder = LayersBuilder(tmp_path_factory.mktemp("state"))
    return place, builder.build(BuildSpec(name="base", version="v1"), place)


@pytest.fixture(scope="module")
def packages(base: tuple[Place, BuildResult], tmp_path_factory: pytest.TempPathFactory) -> PlatformPackages:
    """What our scanner finds in it."""
    place, result = base
    (scanned,) = scan_image(place, result.descriptor, state=tmp_path_factory.mktemp("scan"))
    return scanned


@pytest.fixture(scope="module")
def root(base: tuple[Place, BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter base, unpacked. Containers have a ``/dev``."""
    place, result = base
    folder = tmp_path_factory.mktemp("root")
    for row in result.layers:
        unpack(read_blob(place, layer_descriptor(row), limit=row.size), folder)
    (folder / "dev").mkdir()
    (folder / "dev/null").touch()
    return folder


def test_the_interpreter_starts_from_the_root_alone(root: Path) -> None:
    code = (
        "import sys, json, ssl, sqlite3, ctypes, hashlib, socket, asyncio, lzma, bz2, decimal, uuid, zoneinfo, logging;"
        "print(json.dumps({'prefix': sys.prefix, 'version': sys.version, 'cached': json.__cached__,"
        "'authorities': ssl.create_default_context().cert_store_stats()['x509_ca'], 'path': sys.path}))"
    )
    told = json.loads(in_root(root, "/usr/local/bin/python3", "-c", code))
    assert told["prefix"] == "/usr/local"
    assert told["version"] == sys.version
    assert told["cached"].startswith("/usr/local/lib")
    assert told["authorities"] > 50
    assert all(path.startswith("/usr/local") for path in told["path"] if path)


def test_every_module_of_the_library_that_was_taken_can_find_its_libraries(root: Path) -> None:
    code = (
        "import pathlib, sys, importlib\n"
        "folder = pathlib.Path(next(p for p in sys.path if p.endswith('lib-dynload')))\n"
        "names = sorted(p.name.split('.')[0] for p in folder.glob('*.so'))\n"
        "[importlib.import_module(name) for name in names]\n"
        "print(len(names))"
    )
    assert int(in_root(root, "/usr/local/bin/python3", "-W", "ignore", "-c", code)) > 10


def test_the_base_has_no_tests_no_pip_and_nothing_of_this_machine(root: Path) -> None:
    names = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert not [name for name in names if re.search(r"/(test|idlelib|ensurepip|tkinter)(/|$)", name)]
    assert not [name for name in names if "site-packages/" in name or "dist-packages/" in name]
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert "nonroot:x:65532" in (root / "etc/passwd").read_text()


def test_the_key_is_the_same_every_time_and_follows_the_content() -> None:
    system, python = interpreter_entries()
    assert (
        content_job("s", system, byte_code=False).key == content_job("s", interpreter_entries()[0], byte_code=False).key
    )
    assert content_job("p", python, byte_code=True).key != content_job("p", python[1:], byte_code=True).key


@pytest.mark.peer("ldd")
def test_the_closure_is_what_the_loader_itself_finds(peer: Callable[[str], str]) -> None:
    ldd = peer("ldd")
    for path in [PROGRAM, *(item.source for item in interpreter_entries()[1] if item.source and "_ssl" in item.path)]:
        told = subprocess.run([ldd, path], capture_output=True, text=True, check=True).stdout
        theirs = {name: Path(path).resolve() for name, path in re.findall(r"(\S+) => (/\S+)", told)}
        program = read_elf(PROGRAM)
        ours = Loader().closure(program, [read_elf(path)])
        assert {name: ours[name].resolve() for name in theirs} == theirs


def test_manylinux_libraries_are_taken_when_they_are_here() -> None:
    libraries = Loader().closure(read_elf(PROGRAM), [], EXTRA_LIBRARIES)
    assert {"libm.so.6", "libdl.so.2"} <= libraries.keys()


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 200])
def test_what_is_not_elf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "program"
    path.write_bytes(content)
    with pytest.raises(LocalError, match="not a whole ELF"):
        read_elf(path)


def test_every_cut_of_a_program_is_refused_or_read(tmp_path: Path) -> None:
    library = next(path for name, path in Loader().closure(read_elf(PROGRAM), []).items() if name.startswith("libc."))
    raw = library.read_bytes()
    for cut in (10, 40, 63, 64, 100, 500, 3000, 10_000):
        (tmp_path / "cut").write_bytes(raw[:cut])
        with pytest.raises(LocalError):
            read_elf(tmp_path / "cut")


def test_a_damaged_loader_cache_is_an_empty_one() -> None:
    assert read_cache(b"") == {}
    assert read_cache(b"glibc-ld.so.cache1.1") == {}
    assert read_cache(b"glibc-ld.so.cache1.1" + b"\xff" * 20) == {}


def test_the_image_knows_time_zones_services_and_libraries(root: Path) -> None:
    code = (
        "import ctypes, ctypes.util, datetime, json, locale, os, socket, time, zoneinfo\n"
        "os.environ['TZ'] = 'Asia/Tokyo'\n"
        "time.tzset()\n"
        "berlin = datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin'))\n"
        "found = [ctypes.util.find_library(name) for name in ('c', 'ssl', 'z', 'nowhere')]\n"
        "[ctypes.CDLL(name) for name in found if name]\n"
        "print(json.dumps([str(berlin.utcoffset()), time.tzname, time.timezone, socket.getservbyname('https'),"
        "socket.getprotobyname('tcp'), len(zoneinfo.available_timezones()) > 400,"
        "found, locale.setlocale(locale.LC_ALL, 'C.UTF-8')]))"
    )
    told = json.loads(in_root(root, "/usr/local/bin/python3", "-W", "error", "-c", code))
    assert told[:6] == ["2:00:00", ["JST", "JST"], -32400, 443, 6, True]
    assert told[6:] == [["libc.so.6", "libssl.so.3", "libz.so.1", None], "C.UTF-8"]


@pytest.mark.peer("ldconfig")
def test_the_cache_of_libraries_is_what_ldconfig_writes_for_this_root(
    root: Path, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    ldconfig = peer("ldconfig")

    def listed(cache: Path) -> list[str]:
        done = subprocess.run([ldconfig, "-p", "-C", cache], capture_output=True, text=True, check=True)
        lines = [line.strip() for line in done.stdout.splitlines() if "=>" in line]
        return [re.sub(r", OS ABI: [^)]*", "", line) for line in lines if "libpython" not in line]

    # Without -X it would make links in the root.
    command = [ldconfig, "-X", "-r", root, "-C", "/ld.so.cache.theirs", "-f", "/nowhere"]
    subprocess.run([*command, *sorted({f"/{p.parent.relative_to(root)}" for p in root.rglob("*.so.*")})], check=True)
    theirs = root / "ld.so.cache.theirs"
    try:
        assert listed(root / "etc/ld.so.cache") == listed(theirs)
    finally:
        theirs.unlink()


@pytest.mark.peer("dpkg-query")
def test_the_scanner_lists_the_packages_of_the_base_and_nothing_that_nobody_declares(
    packages: PlatformPackages, peer: Callable[[str], str]
) -> None:
    system, python = interpreter_entries()
    names = {item.source for item in [*system, *python] if item.source}
    components = {component.name: component for component in packages.components}
    deb = {name for name, component in components.items() if component.type == "deb"}
    assert deb == packages_of(names, peer("dpkg-query"))
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    version = release["VERSION_ID"].strip('"')
    for name in deb:
        query = [peer("dpkg-query"), "--show", "--showformat=${Version}", f"{name}"]
        told = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        assert components[name].version in told
        assert components[name].ecosystem == f"{release['ID'].title()}:{version}"
    assert {"libc6", "tzdata", "netbase"} <= deb
    assert components["libc6"].source_name == "glibc"
    # An interpreter that no package owns is one component, with its full version; then nothing else is undeclared.
    undeclared = {component.purl for component in packages.components if not component.declared}
    own = set() if packages_of({PROGRAM}, peer("dpkg-query")) else {f"pkg:generic/python@{sys.version.split()[0]}"}
    assert undeclared == own
    assert packages.unknowns == ()


def test_advisories_of_the_distribution_match_and_the_default_limits_have_nothing_else_to_say(
    packages: PlatformPackages, tmp_path: Path
) -> None:
    (ecosystem,) = {each.ecosystem for each in packages.components if each.type == "deb"}

    def breaches(package: str) -> list[str]:
        record = {
            "id": "DSA-1-1",
            "modified": "2026-01-01T00:00:00Z",
            "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
            "affected": [
                {
                    "package": {"ecosystem": ecosystem, "name": package},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999:1"}]}],
                }
            ],
        }
        folder = tmp_path / package
        folder.mkdir()
        (folder / "record.json").write_text(json.dumps(record))
        report = match([packages], AdvisoryStore.load(folder, tmp_path))
        return report_breaches(report, DEFAULT_POLICY, image="app", now=datetime.now(UTC))

    assert breaches("not-in-the-base") == []
    (denied,) = breaches("openssl")
    assert "CRITICAL" in denied


def packages_of(files: set[Path], query: str) -> set[str]:
    """What dpkg itself says; it knows merged folders by the old name only."""
    names = [str(path) for path in files] + [str(path).removeprefix("/usr") for path in files]
    done = subprocess.run([query, "--search", *names], capture_output=True, text=True)
    return {line.partition(":")[0] for line in done.stdout.splitlines() if " " not in line.partition(": ")[0]}


def test_the_system_layer_holds_nothing_of_the_interpreter() -> None:
    system, python = interpreter_entries()
    assert not [item.path for item in system if "python" in item.path]
    assert [item.path for item in python if "os-release" in item.path] == []
