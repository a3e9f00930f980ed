from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.build import archive
from registry_pipelines.build.archive import Member
from registry_pipelines.build.entry_points import read_entry_points
from registry_pipelines.build.record import read_record
from registry_pipelines.build.wheel import open_wheel
from registry_pipelines.errors import WheelInvalid
from tests.build.layers import SITE, entries, wheel_layer
from tests.build.wheels import make_wheel, record_hash


def test_a_whole_wheel_is_read(tmp_path: Path) -> None:
    wheel = open_wheel(make_wheel(tmp_path, "Some-Thing", "1.2", {"some_thing.py": b"x = 1\n"}))
    assert (wheel.name, wheel.version, wheel.dist_info) == ("some-thing", "1.2", "Some_Thing-1.2.dist-info")
    assert [member.name for member in wheel.members][-1] == "some_thing.py"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.py",
        "/etc/passwd",
        "a/../../b.py",
        "a\\b.py",
        "C:/x.py",
        "a\nb.py",
        "a/" + "x" * 300,
    ],
)
def test_paths_that_leave_the_root_or_confuse_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WheelInvalid, match="not allowed"):
        open_wheel(make_wheel(tmp_path, "bad", files={name: b""}))


def test_devices_are_refused(tmp_path: Path) -> None:
    for kind in (stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK):
        path = make_wheel(tmp_path, "bad", files={"bad": b"/etc/passwd"}, modes={"bad": kind | 0o777})
        with pytest.raises(WheelInvalid, match="device"):
            open_wheel(path)


def test_a_link_is_never_made(tmp_path: Path) -> None:
    """nodejs-bin has some; pip writes files with the link's text."""
    path = make_wheel(tmp_path, "pkg", files={"npm": b"/etc/passwd"}, modes={"npm": stat.S_IFLNK | 0o777})
    info, content = entries(wheel_layer(path))[f"{SITE}/npm"]
    assert (info.isreg(), info.mode, content) == (True, 0o644, b"/etc/passwd")
    assert open_wheel(path).notes == ("a link, written as a file with its text: npm",)


def test_a_hash_that_differs_from_record_is_refused(tmp_path: Path) -> None:
    row = f"pkg.py,{record_hash(b'other')},5"
    path = make_wheel(tmp_path, "pkg", files={"pkg.py": b"right"}, record={"pkg.py": row})
    with pytest.raises(WheelInvalid, match="sha256 is not what RECORD says"):
        wheel_layer(path)


def test_a_size_that_differs_from_record_is_refused(tmp_path: Path) -> None:
    row = f"pkg.py,{record_hash(b'right')},6"
    with pytest.raises(WheelInvalid, match="5 bytes, RECORD says 6"):
        open_wheel(make_wheel(tmp_path, "pkg", files={"pkg.py": b"right"}, record={"pkg.py": row}))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"x": "pkg.py,sha256=abc,5"}, "sha256 of pkg.py in RECORD is none"),
        ({"x": f"pkg.py,{record_hash(b'other')},5"}, "twice with different hashes"),
        ({"x": "pkg.py,,7"}, "RECORD says 7"),
        ({"x": "\udcff,,"}, "RECORD cannot be read"),
    ],
)
def test_a_record_that_contradicts_the_files_is_refused(tmp_path: Path, rows: dict[str, str], message: str) -> None:
    with pytest.raises(WheelInvalid, match=message):
        open_wheel(make_wheel(tmp_path, "pkg", files={"pkg.py": b"right"}, record=rows))


def test_other_methods_are_refused_by_name(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "pkg")
    path.write_bytes(
        path.read_bytes().replace(b"PK\x01\x02\x14\x03\x14\0\0\0\x08", b"PK\x01\x02\x14\x03\x14\0\0\0\x62")
    )
    with pytest.raises(WheelInvalid, match="method 98"):
        open_wheel(path)


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "pkg")
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    path.write_bytes(raw)
    with pytest.raises(WheelInvalid, match="encrypted"):
        open_wheel(path)


def test_a_local_header_with_another_name_is_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "pkg", files={"pkg.py": b"1"})
    path.write_bytes(path.read_bytes().replace(b"pkg.py", b"gkp.py", 1))
    with pytest.raises(WheelInvalid, match="local header"):
        open_wheel(path)


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "pkg", files={"a.py": b"1" * 50, "b.py": b"1" * 50})
    raw = bytearray(path.read_bytes())
    first, second = raw.index(b"PK\x01\x02"), raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 4)
    raw[second + 42 : second + 46] = raw[first + 42 : first + 46]
    raw[second + 46 : second + 50] = b"a.py"
    path.write_bytes(raw)
    with pytest.raises(WheelInvalid, match="overlap"):
        open_wheel(path)


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "pkg")
    with zipfile.ZipFile(path, "a") as added, pytest.warns(UserWarning, match="Duplicate"):
        added.writestr("pkg/__init__.py", b"other")
    with pytest.raises(WheelInvalid, match="twice, with different content"):
        open_wheel(path)


def test_a_file_that_is_a_folder_too_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WheelInvalid, match="both a file and a folder"):
        open_wheel(make_wheel(tmp_path, "pkg", files={"a": b"", "a/b/c": b""}))


def test_a_bomb_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(WheelInvalid, match="bomb"):
        open_wheel(make_wheel(tmp_path, "pkg", files={"zeros": bytes(70 * 1024 * 1024)}, level=9))


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    content = bytes(100_000)
    path = make_wheel(tmp_path, "pkg", files={"zeros": content}, record={"zeros": f"zeros,{record_hash(content)},"})
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<L", 1000)
    path.write_bytes(raw)
    with pytest.raises(WheelInvalid, match="more than the 1000 bytes"):
        wheel_layer(path)


def test_a_wrong_crc_is_refused(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "pkg")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 16] ^= 1
    path.write_bytes(raw)
    with pytest.raises(WheelInvalid, match="CRC-32"):
        wheel_layer(path)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    with pytest.raises(WheelInvalid, match="at most 3"):
        open_wheel(make_wheel(tmp_path, "pkg"))


@pytest.mark.parametrize(
    ("new_name", "message"),
    [
        ("other-1.0-py3-none-any.whl", "does not fit"),
        ("pkg.whl", "file name"),
    ],
)
def test_a_file_name_that_lies_is_refused(tmp_path: Path, new_name: str, message: str) -> None:
    path = make_wheel(tmp_path, "pkg")
    with pytest.raises(WheelInvalid, match=message):
        open_wheel(path.rename(tmp_path / new_name))


def test_other_wheel_versions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WheelInvalid, match=r"Wheel-Version is 2\.0"):
        open_wheel(make_wheel(tmp_path, "pkg", wheel_version="2.0"))


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WheelInvalid, match="cannot be read"):
        open_wheel(tmp_path / "gone-1.0-py3-none-any.whl")


def test_data_descriptors_and_zip64_are_read(tmp_path: Path) -> None:
    class Pipe:
        """Not seekable, so zipfile writes sizes behind the data."""

        def __init__(self, path: Path) -> None:
            self.file = path.open("wb")

        def write(self, piece: bytes) -> int:
            return self.file.write(piece)

        def flush(self) -> None:
            self.file.flush()

    plain = make_wheel(tmp_path, "pkg", files={"pkg.py": b"value = 1\n" * 100})
    streamed = tmp_path / "again" / plain.name
    streamed.parent.mkdir()
    pipe = Pipe(streamed)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as target:  # type: ignore[call-overload]
        for info in source.infolist():
            with target.open(info.filename, "w", force_zip64=True) as member:
                member.write(source.read(info))
    pipe.file.close()
    assert b"PK\x07\x08" in streamed.read_bytes()
    assert entries(wheel_layer(streamed))[f"{SITE}/pkg.py"][1] == b"value = 1\n" * 100


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_wheel_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = make_wheel(folder, "pkg", files={"pkg.py": b"value = 1\n" * 50})
    raw = path.read_bytes()
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(WheelInvalid):
        wheel_layer(path)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_wheel_with_any_byte_changed_gives_the_same_files_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = make_wheel(tmp_path_factory.mktemp("flip"), "pkg", files={"pkg.py": b"value = 1\n" * 50})
    before = {name: content for name, (_, content) in entries(wheel_layer(path)).items()}
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    try:
        after = {name: content for name, (_, content) in entries(wheel_layer(path)).items()}
    except WheelInvalid:
        return
    assert after == before


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ({"pkg.py": ""}, "RECORD has no hash that can be checked of: pkg.py"),
        ({"pkg.py": "pkg.py,,"}, "RECORD has no hash that can be checked of: pkg.py"),
        ({"pkg.py": "pkg.py,md5=XUFAKrxLKna5cZ2REBfFkg,5"}, "RECORD has a hash that is weaker than sha256 of: pkg.py"),
        ({"gone": "gone.py,sha256=x,1"}, "RECORD names what is not in the archive, left out: gone.py"),
        ({"more": f"pkg.py,{record_hash(b'hello')},5,6"}, "RECORD has a malformed line of: pkg.py"),
    ],
)
def test_what_is_let_pass_is_said(tmp_path: Path, rows: dict[str, str], note: str) -> None:
    path = make_wheel(tmp_path, "pkg", files={"pkg.py": b"hello"}, record=rows)
    assert open_wheel(path).notes == (note,)
    assert record_hash(b"hello").encode() in entries(wheel_layer(path))[f"{SITE}/pkg-1.0.dist-info/RECORD"][1]


def test_the_strongest_of_several_hashes_counts(tmp_path: Path) -> None:
    rows = {"pkg.py": "pkg.py,md5=AAAAAAAAAAAAAAAAAAAAAA,5", "again": f"pkg.py,{record_hash(b'hello')},5"}
    path = make_wheel(tmp_path, "pkg", files={"pkg.py": b"hello"}, record=rows)
    assert open_wheel(path).notes == ()
    wheel_layer(path)


def test_a_weak_hash_is_checked_too(tmp_path: Path) -> None:
    row = {"pkg.py": "pkg.py,md5=XUFAKrxLKna5cZ2REBfFkg,5"}
    with pytest.raises(WheelInvalid, match="md5 is not what RECORD says"):
        wheel_layer(make_wheel(tmp_path, "pkg", files={"pkg.py": b"other"}, record=row))


@pytest.mark.parametrize("path", ["/pkg.py", "./pkg.py", ".\\pkg.py"])
def test_a_path_in_record_that_is_spelled_otherwise_still_vouches(tmp_path: Path, path: str) -> None:
    """selenium 4.1.0 has a slash in front of every path."""
    right = {"pkg.py": f"{path},{record_hash(b'hello')},5"}
    assert open_wheel(make_wheel(tmp_path, "pkg", files={"pkg.py": b"hello"}, record=right)).notes == ()
    with pytest.raises(WheelInvalid, match="sha256 is not what RECORD says"):
        wheel_layer(make_wheel(tmp_path, "pkg", files={"pkg.py": b"other"}, record=right))


def test_metadata_must_name_the_project(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "pkg", metadata=b"Name: gkp\nVersion: 1.0\n")
    with pytest.raises(WheelInvalid, match="METADATA names the project 'gkp'"):
        open_wheel(path)


def test_versions_that_differ_are_said(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "pkg").rename(tmp_path / "pkg-2.0+local.1-7-py3-none-any.whl")
    assert open_wheel(path).version == "1.0"
    assert open_wheel(path).notes == ("METADATA has version 1.0, the file name 2.0+local.1",)


LINES = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(["pkg.py", "./pkg.py", "sha256=", "md5=XUFAKrxLKna5cZ2REBfFkg", "5", "a,b", '"']), max_size=5
    ).map(",".join),
    st.sampled_from(["[console_scripts]", "run = a:b", "x = ", "= a:b", "[", "# c", "../x = a:b", "a:b = c:d [e]"]),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(LINES, max_size=6).map("\n".join))
def test_any_record_and_entry_points_are_read_or_refused(text: str) -> None:
    """No other error than ours, and no row or program that names something else than it says."""
    members = (Member("pkg.py", "pkg.py", 0, 5, 5, 0, 0, False),)
    raw = text.encode(errors="surrogatepass")
    with contextlib.suppress(WheelInvalid):
        rows, _ = read_record(raw, members, "pkg-1.0.dist-info", where="pkg")
        assert rows.keys() <= {"pkg.py"}
        assert all(row.size in (None, 5) for row in rows.values())
    with contextlib.suppress(WheelInvalid):
        for name, entry in read_entry_points(text, "3.12", where="pkg")[0].items():
            assert not name.startswith("/")
            assert ".." not in name.split("/")
            assert len(entry.script("/usr/bin/python3").splitlines()) == 5
