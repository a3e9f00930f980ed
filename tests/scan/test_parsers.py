"""Package databases from bytes: real shapes, traps, and bytes that make no sense."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.scan import language_packages as language
from registry_pipelines.scan import os_databases
from registry_pipelines.scan.facts import (
    AnyFact,
    CondaPackage,
    NpmPackage,
    OsPackage,
    OsRelease,
    PythonDistribution,
    Unreadable,
    WheelRecord,
)

STATUS = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: glibc
Version: 2.36-9+deb12u4
Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>
Description: one
 two
 .
 three

Package: gone
Status: deinstall ok config-files
Version: 1

Package: half
Status: install reinstreq half-installed
Version: 1

Package: libx
Status: install ok installed
Source: x-src (1.0-1)
Version: 1.0-1+b5

Version: 3
Status: install ok installed

Package: noversion
Status: install ok installed

Package: nostatus
Version: 1

Package: twice
Package: twice
Status: install ok installed
Version: 1
"""


def test_dpkg_status() -> None:
    database = os_databases.read_dpkg(STATUS, status_required=True)
    assert [
        (package.name, package.version, package.source, package.source_version) for package in database.packages
    ] == [
        ("libc6", "2.36-9+deb12u4", "glibc", ""),
        ("libx", "1.0-1+b5", "x-src", "1.0-1"),
    ]
    assert [reason.partition(")")[0] for reason in database.broken] == [
        "stanza 5 ('Version: 3'",
        "stanza 6 (package noversion",
        "stanza 7 (package nostatus",
        "stanza 8 ('Package: twice'",
    ]


def test_distroless_status_d_needs_no_status() -> None:
    raw = b"Package: base-files\nVersion: 12.4\nArchitecture: amd64\n"
    assert os_databases.read_dpkg(raw, status_required=False).packages == (
        OsPackage(name="base-files", version="12.4", architecture="amd64"),
    )
    owned = os_databases.read_md5sums(b"d41d8cd98f00b204e9800998ecf8427e  usr/lib/x.so.1\nbad line\n", "base-files")
    assert owned.paths == ("usr/lib/x.so.1",)


def test_dpkg_lists_keep_what_may_matter() -> None:
    raw = b"/.\n/usr\n/usr/lib/a.so\n/usr/share/doc/a/copyright\n/usr/lib/x.dist-info/METADATA\n/usr/x.py\n/../../etc\n"
    owned = os_databases.read_dpkg_list(raw, "a:amd64")
    assert owned.package == "a"
    assert set(owned.paths) == {"usr", "usr/lib/a.so", "usr/lib/x.dist-info/METADATA", "etc"}


APK = b"""C:Q1abc=
P:libssl3
V:3.3.1-r0
A:x86_64
o:openssl
F:usr/lib
R:libssl.so.3
a:0:0:755
R:other.so
F:

P:musl
V:1.2.5-r0
o:musl

V:1

garbage line
P:x
"""


def test_apk_installed() -> None:
    database = os_databases.read_apk(APK)
    assert [(package.name, package.version, package.source) for package in database.packages] == [
        ("libssl3", "3.3.1-r0", "openssl"),
        ("musl", "1.2.5-r0", ""),
    ]
    assert database.owned[0] == ("libssl3", ("usr/lib/libssl.so.3", "usr/lib/other.so"))
    assert len(database.broken) == 2


def test_os_release() -> None:
    raw = b"NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID='3.20.1'\n# comment\n"
    assert os_databases.read_os_release(raw) == OsRelease(id="alpine", version="3.20.1")
    assert os_databases.read_os_release(b"\xff\xfe") == OsRelease(id="", version="")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            b"Metadata-Version: 2.1\nName: Foo.Bar\nVersion: 1.0\n\nVersion: 2\n",
            PythonDistribution(name="Foo.Bar", version="1.0"),
        ),
        (b"name:foo\r\nVERSION : 1\r\n\r\n", PythonDistribution(name="foo", version="1")),
        (b"Name: foo\nVersion: 0.9-doduo\n", PythonDistribution(name="foo", version="0.9-doduo")),
        (b"Name: foo\n\nVersion: 1\n", None),
        (b"Name: ../../x\nVersion: 1\n", None),
        (b"Version: 1\n", None),
        (b"Name: foo\nVersion: 1 2\n", None),
        (b"", None),
        (b"\xff\xfe\x00", None),
    ],
)
def test_metadata(raw: bytes, expected: AnyFact | None) -> None:
    fact = language.read_metadata(raw)
    assert fact == expected if expected else isinstance(fact, Unreadable)


def test_record_paths_are_relative_to_site_packages() -> None:
    raw = (
        b'a/_x.so,sha256=abc,10\n"a/with,comma.so",,\n../../../bin/tool,,\na/__init__.py,,\n../../../../../../etc/x,,\n'
    )
    record = language.read_wheel_record(raw, "usr/lib/python3.11/site-packages/a-1.dist-info/RECORD")
    base = "usr/lib/python3.11/site-packages"
    assert isinstance(record, WheelRecord)
    assert set(record.paths) == {f"{base}/a/_x.so", f"{base}/a/with,comma.so", "usr/bin/tool", "etc/x"}


def egg(content: bytes | None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("other", b"x")
        if content is not None:
            archive.writestr("EGG-INFO/PKG-INFO", content)
    return buffer.getvalue()


def test_zipped_eggs() -> None:
    whole = egg(b"Name: foo\nVersion: 1\n")
    assert language.read_egg(whole) == PythonDistribution(name="foo", version="1")
    for raw in (egg(None), b"", whole[:-10], whole[:40] + b"\0" * 20 + whole[60:]):
        assert isinstance(language.read_egg(raw), Unreadable)


def test_conda_and_npm() -> None:
    raw = json.dumps({"name": "numpy", "version": "1.26", "build": "py311_0", "files": ["lib/x.so", "lib/x.py"]})
    assert language.read_conda(raw.encode(), "opt/conda/conda-meta/numpy.json") == CondaPackage(
        name="numpy",
        version="1.26",
        build="py311_0",
        paths=("opt/conda/lib/x.so",),
        names={"opt/conda/lib": "x.so/x.py"},
    )
    place = "app/node_modules/@s/x/package.json"
    assert language.read_npm(b'\xef\xbb\xbf{"name":"@s/x","version":"1.0.0","other":[]}', place) == NpmPackage(
        name="@s/x", version="1.0.0"
    )
    for private in (b'{"private":true}', b'{"name":"@s/x"}', b'{"name":null,"version":null}'):
        assert language.read_npm(private, place) == NpmPackage(name="@s/x", version="")
    for bad in (
        b"",
        b"[]",
        b"{",
        b'{"name":1,"version":"1"}',
        b'{"name":"a b","version":"1"}',
        b"\xff",
    ):
        assert isinstance(language.read_npm(bad, place), Unreadable)
        assert isinstance(language.read_conda(bad, "conda-meta/x.json"), Unreadable)


READERS = {
    "dpkg": lambda raw: os_databases.read_dpkg(raw, status_required=True),
    "status.d": lambda raw: os_databases.read_dpkg(raw, status_required=False),
    "list": lambda raw: os_databases.read_dpkg_list(raw, "p"),
    "md5sums": lambda raw: os_databases.read_md5sums(raw, "p"),
    "apk": os_databases.read_apk,
    "os-release": os_databases.read_os_release,
    "metadata": language.read_metadata,
    "record": lambda raw: language.read_wheel_record(raw, "a/b.dist-info/RECORD"),
    "egg": language.read_egg,
    "conda": lambda raw: language.read_conda(raw, "conda-meta/x.json"),
    "npm": lambda raw: language.read_npm(raw, "node_modules/x/package.json"),
}
SEEDS = [
    STATUS,
    APK,
    b"Name: foo\nVersion: 1\n\n",
    egg(b"Name: foo\nVersion: 1\n"),
    b'{"name":"x","version":"1","files":["a\\ud800"]}',
    b'a,b,c\n"un',
]


@pytest.mark.parametrize("kind", sorted(READERS))
@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(SEEDS),
    st.integers(0, 900),
    st.integers(0, 900),
    st.one_of(st.binary(max_size=40), st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass"))),
)
def test_any_bytes_give_a_fact_that_can_be_kept(kind: str, seed: bytes, start: int, stop: int, noise: bytes) -> None:
    import msgspec

    for raw in (noise, seed[:start], seed[:start] + noise + seed[stop:]):
        fact = READERS[kind](raw)
        assert msgspec.json.decode(msgspec.json.encode(fact), type=AnyFact) == fact


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(STATUS.decode().split("\n\n")), max_size=6), st.binary(max_size=60))
def test_a_broken_stanza_never_hides_the_others(stanzas: list[str], noise: bytes) -> None:
    good = "Package: last\nStatus: install ok installed\nVersion: 1\n"
    raw = "\n\n".join([*stanzas]).encode() + b"\n\n" + noise.replace(b"\n\n", b"") + b"\n\n" + good.encode()
    assert "last" in [item.name for item in os_databases.read_dpkg(raw, status_required=True).packages]
