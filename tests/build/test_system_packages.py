"""Files of a machine, the packages they come from, and what is said where a machine lacks something."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from registry_pipelines.build.content import LayerEntry
from registry_pipelines.build.system_files import data_entries, missing_data
from registry_pipelines.build.system_packages import Apk, Dpkg, machine_packages, package_entries
from registry_pipelines.scan.os_databases import read_apk

STATUS = """\
Package: libz
Status: install ok installed
Maintainer: Somebody <s@debian.org>
Architecture: amd64
Multi-Arch: same
Source: zlib (1:1.2)
Version: 1:1.2-1+b1
Depends: libc6 (>= 2.14)
Description: compression
 Text that
 goes on.

Package: netbase
Status: install ok installed
Maintainer: Somebody <s@debian.org>
Architecture: all
Version: 6.4
Conffiles:
 /etc/protocols {protocols}
 /etc/services {services}
Description: names

Package: base-files
Architecture: amd64
Version: 12
"""


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A merged ``/usr`` whose packages know their libraries by the old folder, as Debian 12's do."""
    root = tmp_path / "machine"
    files = {
        "usr/lib/libz.so.1": "z",
        "usr/lib/libz2.so.1": "z2",
        "usr/local/lib/libown.so": "own",
        "etc/services": "https 443/tcp\n",
        "etc/protocols": "tcp 6\n",
        "usr/lib/os-release": "ID=debian\nVERSION_ID=12\n",
        "usr/share/zoneinfo/Europe/Berlin": "TZif",
        "usr/share/zoneinfo/right/UTC": "TZif",
        "usr/lib/locale/C.utf8/LC_CTYPE": "c",
        "var/lib/dpkg/status": STATUS.format(services=md5("https 443/tcp\n"), protocols=md5("tcp 6\n")),
        "var/lib/dpkg/info/libz:amd64.list": "/.\n/lib\n/lib/libz.so.1\n/usr/lib/libz2.so.1\n",
        "var/lib/dpkg/info/libz:amd64.md5sums": f"{md5('z')}  lib/libz.so.1\n{md5('z2')}  usr/lib/libz2.so.1\n",
        "var/lib/dpkg/info/netbase.list": "/etc/services\n/etc/protocols\n",
        "var/lib/dpkg/info/base-files.list": "/usr/lib/os-release\n",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/share/zoneinfo/UTC").symlink_to("Europe/Berlin")
    (root / "usr/share/zoneinfo/localtime").symlink_to("/etc/localtime")
    return root


def item(root: Path, path: str, place: str) -> LayerEntry:
    return LayerEntry(place, source=root / path)


def texts(items: list[LayerEntry]) -> dict[str, str]:
    return {each.path.removeprefix("var/lib/dpkg/status.d/"): (each.content or b"").decode() for each in items}


def test_a_package_is_named_with_the_files_that_the_image_has(machine: Path) -> None:
    layer = [
        item(machine, "usr/lib/libz2.so.1", "usr/lib/libz2.so.1"),
        item(machine, "usr/lib/libz.so.1", "opt/libz.so.1"),
        item(machine, "usr/local/lib/libown.so", "usr/lib/libown.so"),
    ]
    (made,) = package_entries([layer], Dpkg(machine))
    assert texts(made) == {
        "libz": "Package: libz\nSource: zlib (1:1.2)\nVersion: 1:1.2-1+b1\nArchitecture: amd64\n"
        "Maintainer: Somebody <s@debian.org>\nDescription: compression\n",
        "libz.md5sums": f"{md5('z')}  opt/libz.so.1\n{md5('z2')}  usr/lib/libz2.so.1\n",
    }


def test_packages_keep_their_names_where_a_build_runs_in_an_image_that_a_build_made(
    machine: Path, tmp_path: Path
) -> None:
    layer = [item(machine, f"usr/lib/{name}", f"usr/lib/{name}") for name in ("libz.so.1", "libz2.so.1")]
    (made,) = package_entries([layer], Dpkg(machine))
    inside = tmp_path / "inside"
    for entry in [*made, *layer]:
        (inside / entry.path).parent.mkdir(parents=True, exist_ok=True)
        (inside / entry.path).write_bytes(entry.content or (entry.source.read_bytes() if entry.source else b""))
    again = [item(inside, entry.path, entry.path) for entry in layer]
    assert machine_packages(inside).exists
    assert package_entries([again], machine_packages(inside)) == [made]
    (inside / "usr/lib/libz.so.1").write_text("patched")
    assert texts(package_entries([again], machine_packages(inside))[0])["libz.md5sums"].count("\n") == 1


def test_a_file_that_was_changed_is_not_the_package_s(machine: Path) -> None:
    (machine / "usr/lib/libz.so.1").write_text("patched")
    layers = [[item(machine, f"usr/lib/{name}", name) for name in ("libz.so.1", "libz2.so.1")]]
    assert texts(package_entries(layers, Dpkg(machine))[0])["libz.md5sums"] == f"{md5('z2')}  libz2.so.1\n"
    assert package_entries([layers[0][:1]], Dpkg(machine)) == [[]]


def test_a_package_of_two_layers_is_whole_in_the_upper_one(machine: Path) -> None:
    layers = [[item(machine, f"usr/lib/{name}", name)] for name in ("libz.so.1", "libz2.so.1")]
    lower, upper = package_entries(layers, Dpkg(machine))
    assert texts(lower)["libz.md5sums"].count("\n") == 1
    assert texts(upper)["libz.md5sums"].count("\n") == 2


def test_the_machine_s_data_is_taken_and_its_own_settings_are_not(machine: Path) -> None:
    taken = {each.path: each.link or each.source for each in data_entries(Dpkg(machine))}
    assert taken.keys() == {
        *("usr/share/zoneinfo/Europe/Berlin", "usr/share/zoneinfo/UTC", "usr/lib/locale/C.utf8/LC_CTYPE"),
        *("etc/services", "etc/protocols", "usr/lib/os-release", "etc/os-release"),
    }
    assert taken["usr/share/zoneinfo/UTC"] == "Europe/Berlin"
    assert missing_data(Dpkg(machine)) == []


def test_names_that_somebody_added_here_are_not_packed_and_that_is_said(machine: Path) -> None:
    with (machine / "etc/services").open("a") as file:
        file.write("payroll 4711/tcp\n")
    assert "etc/services" not in {each.path for each in data_entries(Dpkg(machine))}
    assert missing_data(Dpkg(machine)) == [
        "/etc/services was changed on this machine and is not packed: the image knows none of its names"
    ]


def test_what_a_machine_lacks_is_said(tmp_path: Path) -> None:
    said = " / ".join(missing_data(Dpkg(tmp_path)))
    for part in (
        "no /usr/share/zoneinfo (tzdata)",
        "no /etc/services (netbase)",
        "no /etc/protocols",
        "no database of dpkg or apk",
    ):
        assert part in said
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text("ID=debian\n")
    assert list(data_entries(Dpkg(tmp_path))) == []
    assert package_entries([[LayerEntry("x", source=tmp_path / "usr/lib/os-release")]], Dpkg(tmp_path)) == [[]]


APK = """\
C:Q1signature
P:musl
V:1.2.5-r9
A:x86_64
T:the musl c library
o:musl
m:Somebody <s@alpinelinux.org>
D:so:libother.so.1
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755
Z:{loader}
R:libc.musl-x86_64.so.1

C:Q1other
P:ssl_client
V:1.36.1-r29
A:x86_64
o:busybox
F:usr
F:usr/lib
R:libssl.so.3
Z:{ssl}
"""


def q1(text: str) -> str:
    return "Q1" + base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()


def test_on_alpine_one_database_tells_of_both_layers(tmp_path: Path) -> None:
    root = tmp_path / "alpine"
    files = {
        "lib/ld-musl-x86_64.so.1": "loader",
        "usr/lib/libssl.so.3": "ssl",
        "lib/apk/db/installed": APK.format(loader=q1("loader"), ssl=q1("ssl")),
        "etc/os-release": "ID=alpine\nVERSION_ID=3.20.3\n",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    database = machine_packages(root)
    assert isinstance(database, Apk)
    assert {each.path for each in data_entries(database)} == {"usr/lib/os-release", "etc/os-release"}
    layers = [
        [item(root, "lib/ld-musl-x86_64.so.1", "lib/ld.so")],
        [item(root, "usr/lib/libssl.so.3", "usr/lib/libssl.so.3")],
    ]
    lower, upper = (read_apk(made[0].content or b"") for made in package_entries(layers, database))
    assert [(each.name, each.version) for each in lower.packages] == [("musl", "1.2.5-r9")]
    assert [(each.name, each.source) for each in upper.packages] == [("musl", ""), ("ssl_client", "busybox")]
    assert upper.owned == (("musl", ("lib/ld.so",)), ("ssl_client", ("usr/lib/libssl.so.3",)))
    assert (lower.broken, upper.broken) == ((), ())
    (root / "usr/lib/libssl.so.3").write_text("patched")
    assert package_entries(layers[1:], database) == [[]]
