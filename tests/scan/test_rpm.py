"""rpm's SQLite database: what rpm itself lists, headers that lie, databases that are programs."""

from __future__ import annotations

import io
import sqlite3
import struct
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.facts import AnyFact, OsDatabase, RpmDatabase
from registry_pipelines.scan.report import PlatformPackages
from registry_pipelines.scan.rpm import HeaderInvalid, read_header, read_rpm
from registry_pipelines.scan.sbom import scan_image
from tests.scan.images import ELF, Files, push_image

Peer = Callable[[str], str]
ALMA = 'ID="almalinux"\nVERSION_ID="9.4"\n'


def header(values: Mapping[int, str | list[str] | list[int]]) -> bytes:
    """A header as rpm stores it: strings are kind 6, lists of strings 8, numbers 4."""
    entries, data = [], b""
    for tag, value in values.items():
        if isinstance(value, str):
            kind, count, raw = 6, 1, value.encode() + b"\0"
        elif value and isinstance(value[0], int):
            data += bytes(-len(data) % 4)
            kind, count, raw = 4, len(value), struct.pack(f">{len(value)}I", *value)
        else:
            kind, count, raw = 8, len(value), b"".join(str(text).encode() + b"\0" for text in value)
        entries.append(struct.pack(">IIII", tag, kind, len(data), count))
        data += raw
    return struct.pack(">II", len(entries), len(data)) + b"".join(entries) + data


def package(name: str, version: str = "1.0", release: str = "1.el9", **more: object) -> bytes:
    values: dict[int, str | list[str] | list[int]] = {1000: name, 1001: version, 1002: release, 1022: "x86_64"}
    values |= {1011: "AlmaLinux", 1014: "MIT", 1044: f"{name}-{version}-{release}.src.rpm"}
    values |= {int(tag[1:]): value for tag, value in more.items()}  # type: ignore[misc]
    return header(values)


def database(path: Path, *headers: bytes) -> bytes:
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
        opened.executemany("INSERT INTO Packages (blob) VALUES (?)", [(each,) for each in headers])
        opened.commit()
    return path.read_bytes()


def scan(place: Place, layers: list[Files]) -> PlatformPackages:
    (found,) = scan_image(place, push_image(place, layers), state=Path(str(place.registry.name)).parent / "state")
    return found


@pytest.mark.peer("rpm")
@pytest.mark.peer("rpmbuild")
def test_packages_and_files_are_those_that_rpm_lists(peer: Peer, tmp_path: Path) -> None:
    spec = tmp_path / "hello.spec"
    spec.write_text(
        "Name: hello\nVersion: 2.10\nRelease: 3\nEpoch: 1\nSummary: x\nLicense: GPLv3+ and MIT\nVendor: AlmaLinux\n"
        "%description\nx\n%install\nmkdir -p %{buildroot}/usr/bin %{buildroot}/usr/share/hello\n"
        "echo hi > %{buildroot}/usr/bin/hello\necho data > '%{buildroot}/usr/share/hello/with blank'\n"
        "%files\n/usr/bin/hello\n/usr/share/hello\n%package -n other\nVersion: 7~rc1\nSummary: y\nLicense: MIT\n"
        "%description -n other\ny\n%files -n other\n"
    )
    build = [peer("rpmbuild"), "-bb", "--define", f"_topdir {tmp_path / 'top'}", str(spec)]
    subprocess.run(build, check=True, capture_output=True)
    rpm = [peer("rpm"), "--root", str(tmp_path / "root"), "--dbpath", "/var/lib/rpm"]
    built = [str(path) for path in (tmp_path / "top").rglob("*.rpm")]
    subprocess.run([*rpm, "--nodeps", "-i", *built], check=True, capture_output=True)

    def query(*arguments: str) -> list[str]:
        answer = subprocess.run([*rpm, "-qa", *arguments], check=True, capture_output=True, text=True)
        return sorted(answer.stdout.splitlines())

    found = read_rpm(tmp_path / "root/var/lib/rpm/rpmdb.sqlite")
    assert isinstance(found, OsDatabase) and not found.broken
    listed = query("--qf", "%{NAME} %{EPOCHNUM} %{VERSION}-%{RELEASE} %{ARCH} %{LICENSE}\n")
    assert listed == sorted(
        f"{each.name} {each.epoch} {each.version} {each.architecture} {each.licenses[0]}" for each in found.packages
    )
    assert {each.source or each.name for each in found.packages} == {"hello"} and len(found.packages) == 2
    paths = sorted(f"/{folder}/{name}" for folder, names in found.names.items() for name in names.split("/"))
    assert paths == [line for line in query("-l") if line.startswith("/")] and len(paths) == 3


def test_packages_of_an_image(place: Place, tmp_path: Path) -> None:
    base = database(tmp_path / "base.sqlite", package("bash"), package("gpg-pubkey", release="5f2"))
    files = {"t1116": [0, 0], "t1117": ["curl", "libcurl.so.4"], "t1118": ["/usr/bin/"]}
    more = database(tmp_path / "more.sqlite", package("bash"), package("curl", t1003=[2], **files))
    lower: Files = {"etc/os-release": ALMA, "var/lib/rpm/rpmdb.sqlite": base}
    upper: Files = {"var/lib/rpm/rpmdb.sqlite": more, "var/lib/rpm/rpmdb.sqlite-wal": b"", "usr/bin/libcurl.so.4": ELF}
    found = scan(place, [lower, upper])
    bash, curl = found.components
    assert bash.purl == "pkg:rpm/almalinux/bash@1.0-1.el9?arch=x86_64&distro=almalinux-9.4"
    assert curl.purl == "pkg:rpm/almalinux/curl@1.0-1.el9?arch=x86_64&distro=almalinux-9.4&epoch=2"
    assert (curl.version, curl.ecosystem, curl.licenses) == ("2:1.0-1.el9", "AlmaLinux:9", ("MIT",))
    # Both stand in the upper layer's database; which layer brought them is another matter.
    assert bash.layers != curl.layers and len(bash.layers) == len(curl.layers) == 1
    assert not found.unknowns


@pytest.mark.parametrize("above", [{"var/lib/rpm/rpmdb.sqlite-wal": b"frames"}, {"var/lib/rpm/Packages.db": b"x"}])
def test_what_is_not_in_the_list_is_incomplete(above: Files, place: Place, tmp_path: Path) -> None:
    raw = database(tmp_path / "db.sqlite", package("bash"))
    found = scan(place, [{"var/lib/rpm/rpmdb.sqlite": raw}, above])
    assert [unknown.kind for unknown in found.unknowns] == ["incomplete"]


def test_a_broken_header_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    database(path, b"\0\0\0\1", package("good"), package(""))
    found = read_rpm(path)
    assert isinstance(found, OsDatabase)
    assert [each.name for each in found.packages] == ["good"] and len(found.broken) == 2


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE VIEW Packages AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT i AS hnum, i AS blob FROM n",
        "CREATE TABLE Packages (hnum INTEGER, blob BLOB AS (zeroblob(900000000)))",
        "CREATE VIRTUAL TABLE Packages USING rtree(hnum, blob, other)",
        "CREATE TABLE Other (x)",
        "",
    ],
)
def test_a_database_that_is_a_program_is_not_run(schema: str, tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    with closing(sqlite3.connect(path)) as opened:
        opened.executescript(schema)
        if "zeroblob" in schema:
            opened.execute("INSERT INTO Packages (hnum) VALUES (1)")
        opened.commit()
    assert isinstance(read_rpm(path), RpmDatabase)


GOOD = package("curl", t1003=[2], t1116=[0, 1], t1117=["a", "b"], t1118=["/usr/bin/", "/etc/"])


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.binary(max_size=40))
def test_any_header_is_read_or_refused(start: int, stop: int, noise: bytes) -> None:
    for raw in (noise, GOOD[:start], GOOD[:start] + noise + GOOD[stop:]):
        try:
            read = read_header(raw)
        except HeaderInvalid:
            continue
        assert msgspec.json.decode(msgspec.json.encode(read.package), type=type(read.package)) == read.package


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 20_000), st.integers(1, 4_000), st.binary(max_size=60))
def test_any_database_gives_a_fact(tmp_path_factory: pytest.TempPathFactory, at: int, cut: int, noise: bytes) -> None:
    path = tmp_path_factory.mktemp("rpm") / "db.sqlite"
    raw = database(path, *(package(f"p{number}", t1117=["x" * 200], t1118=["/y/"], t1116=[0]) for number in range(9)))
    path.write_bytes(raw[:at] + noise + raw[at + cut :])
    fact: AnyFact = read_rpm(path)
    assert msgspec.json.decode(msgspec.json.encode(fact), type=AnyFact) == fact


def sharing_pages(path: Path) -> bytes:
    """A database of two rows whose long contents are the same pages: twice the bytes of the file, or any number."""
    database(path, b"a" * 500_000, b"b" * 500_000)
    raw = bytearray(path.read_bytes())
    size = int.from_bytes(raw[16:18])
    page = next(page for page in range(1, len(raw) // size) if raw[page * size] == 13 and raw[page * size + 4] == 2)
    cells = [int.from_bytes(raw[at : at + 2]) for at in (page * size + 8, page * size + 10)]
    first, second = (page * size + at for at in sorted(cells, reverse=True))
    end = page * size + size
    raw[first - 4 : first] = raw[end - 4 : end]  # the overflow page of the second row is the first's
    assert second < first
    kept = len(raw) // size * size - 110 * size
    raw[28:32] = (kept // size).to_bytes(4)
    return bytes(raw[:kept])


def test_packages_are_no_more_bytes_than_their_file(tmp_path: Path) -> None:
    (tmp_path / "shared.sqlite").write_bytes(sharing_pages(tmp_path / "rpmdb.sqlite"))
    found = read_rpm(tmp_path / "shared.sqlite")
    assert isinstance(found, RpmDatabase)
    assert "package 1:" in found.reason


def test_one_package_has_so_many_files_and_no_path_is_longer_than_linux_opens() -> None:
    files = header({1000: "a", 1001: "1", 1117: ["b"] * 2, 1116: [0, 0], 1118: ["/" + "x" * 4096]})
    with pytest.raises(HeaderInvalid, match="a path of its files has more than 4096"):
        read_header(files)
    entries = struct.pack(">IIII", 1000, 6, 0, 1) + struct.pack(">IIII", 1117, 8, 2, 600_000)
    with pytest.raises(HeaderInvalid, match="600000 values, at most 500000"):
        read_header(struct.pack(">II", 2, 700_000) + entries + b"a\0" + bytes(699_998))


def test_a_layer_is_asked_for_a_few_databases(place: Place, tmp_path: Path) -> None:
    """A tar may hold the same file a million times, and each is read."""
    raw = database(tmp_path / "rpmdb.sqlite", package("bash"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for _ in range(9):
            info = tarfile.TarInfo("var/lib/rpm/rpmdb.sqlite")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    found = scan(place, [buffer.getvalue()])
    assert [each.reason for each in found.unknowns if each.kind == "incomplete"] == [
        "more than 8 rpm databases in one layer; this one was not read"
    ]
