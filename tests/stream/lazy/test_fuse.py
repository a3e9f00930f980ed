"""The FUSE server, asked by the real kernel."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry_pipelines.errors import InputError, ToolMissing, Unavailable
from registry_pipelines.stream.lazy.fuse import READ_AHEAD_BYTES, WHOLE_READ_AHEAD_BYTES
from registry_pipelines.stream.lazy.mounting import (
    KIND,
    check_folder,
    mount,
    mount_fuse,
    mounts,
    set_read_ahead,
    unmount,
)
from tests.needs import missing
from tests.patience import patient, until
from tests.stream.lazy.mounts import MemoryTree, Thing, mounted, need_fuse, one_file

DIR, FILE, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o640, stat.S_IFLNK | 0o777

OPEN_TO_ALL = "/var/tmp"
"""Other users reach what lies there; pytest's folders, and a user's own TMPDIR, are closed to them."""


@pytest.fixture(autouse=True)
def _fuse() -> None:
    need_fuse()


def many_kinds() -> MemoryTree:
    names = {b"name-%05d" % number: 3 for number in range(3000)}
    return MemoryTree(
        {
            1: Thing(DIR, names={b"data": 3, b"again": 3, b"empty": 9, b"ordner-\xff": 2, b"n": 7}, nlink=3),
            2: Thing(DIR, names={b"link": 4, b"disk": 5, b"pipe": 6}, uid=1000, gid=50, nlink=2),
            3: Thing(
                FILE,
                os.urandom(300_001),
                xattrs={b"user.note": "größer".encode(), b"user.long": bytes(3000)},
                uid=3_000_000,
                gid=7,
                mtime_ns=1_700_000_000_123_456_789,
                nlink=2,
            ),
            4: Thing(LINK, target=b"../data"),
            5: Thing(stat.S_IFBLK | 0o600, rdev=os.makedev(259, 70_000), mtime_ns=-1_500_000_000, above=2),
            6: Thing(stat.S_IFIFO | 0o644),
            7: Thing(DIR, names=names, nlink=2),
            9: Thing(FILE),
        }
    )


def test_what_the_kernel_shows_is_the_tree(tmp_path: Path) -> None:
    tree, top = many_kinds(), tmp_path / "top"
    with mounted(tree, top):
        for path, number in {"data": 3, "again": 3, "ordner-\udcff": 2, "ordner-\udcff/link": 4}.items():
            thing, found = tree.things[number], (top / path).lstat()
            shown = (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_nlink, found.st_size)
            assert shown == (thing.mode, thing.uid, thing.gid, thing.mtime_ns, thing.nlink, thing.size), path
        assert (top / "data").lstat().st_ino == (top / "again").lstat().st_ino
        disk = (top / "ordner-\udcff" / "disk").lstat()
        assert (disk.st_rdev, disk.st_mtime_ns) == (os.makedev(259, 70_000), -1_500_000_000)
        assert (top / "data").read_bytes() == (top / "ordner-\udcff/link").read_bytes() == tree.things[3].content
        with (top / "data").open("rb") as file:
            for offset in (0, 4095, 299_999, 300_001, 400_000):
                assert os.pread(file.fileno(), 5000, offset) == tree.things[3].content[offset : offset + 5000]
        assert (top / "empty").read_bytes() == b""
        assert os.getxattr(top / "data", "user.note").decode() == "größer"
        assert len(os.getxattr(top / "data", "user.long")) == 3000
        assert os.listxattr(top / "data") == ["user.note", "user.long"]
        assert sorted(each.name for each in (top / "n").iterdir()) == [f"name-{number:05}" for number in range(3000)]
        with os.scandir(top / "n") as entries:
            assert {entry.inode() for entry in entries} == {3}
        assert not (top / "nothing").exists() and not (top / "nothing").exists()
        told = os.statvfs(top)
        assert (told.f_blocks * told.f_frsize, told.f_files) == (1 << 20, 8)
    assert list(top.iterdir()) == []


@pytest.mark.parametrize(("alone", "told"), [(False, errno.ENODATA), (True, errno.EOPNOTSUPP)])
def test_an_overlay_is_told_once_that_there_are_no_attributes_where_only_its_program_sees_the_mount(
    tmp_path: Path, alone: bool, told: int
) -> None:
    tree = one_file(b"content")
    tree.any_xattrs = False
    lower, upper, work, root = (tmp_path / name for name in ("lower", "upper", "work", "root"))
    for each in (upper, work, root):
        each.mkdir()
    with mounted(tree, lower, alone=alone):
        with pytest.raises(OSError) as raised:
            os.getxattr(lower / "file", "user.note")
        assert raised.value.errno == told
        try:
            mount("overlay", root, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
        except OSError as error:
            missing(f"the tests' folder cannot be the upper one of an overlay: {error}")
        try:
            assert (root / "file").read_bytes() == b"content"
            with (root / "file").open("ab") as file:
                file.write(b", and more")
            assert (root / "file").read_bytes() == b"content, and more" and (upper / "file").is_file()
        finally:
            unmount(root)


@pytest.mark.parametrize("change", ["touch", "mkdir", "mv", "rm", "chmod", "append", "xattr"])
def test_nothing_can_be_written(tmp_path: Path, change: str) -> None:
    top = tmp_path / "top"
    with mounted(one_file(b"content"), top), pytest.raises(OSError) as raised:
        match change:
            case "touch":
                (top / "new").touch()
            case "mkdir":
                (top / "new").mkdir()
            case "mv":
                (top / "file").rename(top / "other")
            case "rm":
                (top / "file").unlink()
            case "chmod":
                (top / "file").chmod(0o600)
            case "append":
                (top / "file").open("ab")
            case "xattr":
                os.setxattr(top / "file", "user.x", b"")
    assert raised.value.errno == errno.EROFS


def test_rights_are_those_of_the_tree() -> None:
    tree = one_file(b"content")
    tree.things[2].mode, tree.things[2].uid = stat.S_IFREG | 0o600, 1000
    with tempfile.TemporaryDirectory(dir=OPEN_TO_ALL) as folder:
        Path(folder).chmod(0o755)
        with mounted(tree, Path(folder, "top")):
            for user, code in ((1000, 0), (1001, 1)):
                command = ["setpriv", f"--reuid={user}", "cat", f"{folder}/top/file"]
                assert subprocess.run(command, capture_output=True, check=False).returncode == code, user


def test_of_a_file_read_from_one_end_to_the_other_the_next_bytes_are_asked_for_early(tmp_path: Path) -> None:
    content = os.urandom(8 << 20)
    tree = one_file(content)
    with mounted(tree, tmp_path / "top"):
        with (tmp_path / "top" / "file").open("rb") as file:
            for number in (7, 1, 5, 3):
                os.pread(file.fileno(), 4096, number << 20)
        assert not tree.told
        assert (tmp_path / "top" / "file").read_bytes() == content
    until(lambda: bool(tree.told))
    assert tree.told[0][1] < 1 << 20 and all(number == 2 for number, _, _ in tree.told)
    assert max(offset + size for _, offset, size in tree.told) == len(content)
    assert sum(size for _, _, size in tree.told) < 2 * len(content)


def test_the_whole_of_an_image_is_read_further_ahead(tmp_path: Path) -> None:
    need_fuse()
    top = tmp_path / "top"
    with mounted(one_file(b"content"), top):
        device = top.stat().st_dev
        bdi = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        assert int(bdi.read_text()) == READ_AHEAD_BYTES >> 10
        set_read_ahead(top, WHOLE_READ_AHEAD_BYTES)
        assert int(bdi.read_text()) == WHOLE_READ_AHEAD_BYTES >> 10


def test_a_read_that_fails_is_eio_and_the_next_one_is_not(tmp_path: Path) -> None:
    there = threading.Event()

    def fetch(content: bytes) -> bytes:
        if not there.is_set():
            raise Unavailable("the registry does not answer")
        return content

    with mounted(one_file(b"content" * 9000, fetch), tmp_path / "top") as server:
        with pytest.raises(OSError) as raised:
            (tmp_path / "top" / "file").read_bytes()
        assert raised.value.errno == errno.EIO and server.failed_reads
        there.set()
        assert (tmp_path / "top" / "file").read_bytes() == b"content" * 9000


MAPPED = """
import mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as found:
    found.madvise(mmap.MADV_RANDOM)  # the page is asked for by who waits for it, and not by the read-ahead
    print("mapped", flush=True)
    print(found[5000:5007])
"""


@contextmanager
def waiting_reader(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], threading.Event]]:
    """A process that waits for a page of a file, and what lets it come."""
    asked, there = threading.Event(), threading.Event()

    def fetch(content: bytes) -> bytes:
        asked.set()
        assert there.wait(patient(60))
        return content

    command = [sys.executable, "-c", MAPPED, str(folder / "file")]
    with (
        mounted(one_file(b"content" * 1000, fetch), folder),
        subprocess.Popen(command, stdout=subprocess.PIPE) as reader,
    ):
        try:
            assert reader.stdout is not None and reader.stdout.readline() == b"mapped\n"
            assert asked.wait(patient(20))
            yield reader, there
        finally:
            there.set()


def test_who_is_killed_while_it_waits_is_let_go(tmp_path: Path) -> None:
    with waiting_reader(tmp_path / "top") as (reader, there):
        reader.kill()
        assert reader.wait(patient(20)) == -signal.SIGKILL
        there.set()
        assert (tmp_path / "top" / "file").read_bytes() == b"content" * 1000


def test_slow_reads_stop_nobody_else(tmp_path: Path) -> None:
    """More of them than there are threads that answer."""
    there = threading.Event()
    names = {b"%d" % number: number + 2 for number in range(20)}
    files = {number: Thing(FILE, b"content of %d" % number) for number in names.values()}

    def fetch(content: bytes) -> bytes:
        assert there.wait(patient(60))
        return content

    with mounted(MemoryTree({1: Thing(DIR, names=names), **files}, fetch), tmp_path / "top"):
        readers = [
            subprocess.Popen(["cat", str(tmp_path / "top" / name.decode())], stdout=subprocess.PIPE) for name in names
        ]
        assert len(list((tmp_path / "top").iterdir())) == 20
        there.set()
        found = [reader.communicate(timeout=patient(30))[0] for reader in readers]
    assert found == [b"content of %d" % number for number in names.values()]


def test_folders_that_cannot_be_mounted_on(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for path, says in (("full", "is not empty"), ("full/file", "no folder")):
        with pytest.raises(InputError, match=says):
            check_folder(tmp_path / path)
    check_folder(tmp_path / "new" / "folder")
    with mounted(one_file(b""), tmp_path / "top"), pytest.raises(InputError, match="mounted there already"):
        check_folder(tmp_path / "top")


SERVE = """
import sys
from pathlib import Path
from tests.stream.lazy.mounts import mounted, one_file
with mounted(one_file(b"content"), Path(sys.argv[1])) as server:
    print("mounted", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_server_left_is_taken_away(tmp_path: Path) -> None:
    top = tmp_path / "top"
    command = [sys.executable, "-c", SERVE, str(top)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline() == b"mounted\n"
        assert (top / "file").read_bytes() == b"content"
        with (top / "file").open("rb") as file:
            server.kill()
            server.wait()
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with pytest.raises(OSError) as raised:
                file.read()
            assert raised.value.errno == errno.ENOTCONN
    check_folder(top)
    assert not any(each.folder == top and each.kind == KIND for each in mounts())
    with mounted(one_file(b"other"), top):
        assert (top / "file").read_bytes() == b"other"


AS_A_USER = """
import errno, os, sys
from pathlib import Path
from tests.stream.lazy.mounts import mounted, one_file
os.setgroups([]), os.setgid(1000), os.setuid(1000)
top = Path(sys.argv[1], "top")
with mounted(one_file(b"content"), top):
    print((top / "file").read_text(), flush=True)
    sys.stdin.readline()
print(list(top.iterdir()))
"""


OPEN_DEVICE = 'mknod $1/fuse c 10 229; chmod 666 $1/fuse; mount --bind $1/fuse /dev/fuse; exec $2 -c "$3" $1'
"""Systems let every user open the device; containers often do not."""


def test_another_user_mounts_by_the_helper() -> None:
    if shutil.which("fusermount3") is None:
        missing("fusermount3 is not installed (Debian package fuse3)")
    with tempfile.TemporaryDirectory(dir=OPEN_TO_ALL) as folder:
        os.chown(folder, 1000, 1000)
        command = ["unshare", "-m", "sh", "-ec", OPEN_DEVICE, "sh", folder, sys.executable, AS_A_USER]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
            assert user.stdout is not None and user.stdout.readline() == b"content\n"
            assert user.communicate(b"\n", timeout=patient(30))[0] == b"[]\n"


def test_without_the_helper_another_user_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ToolMissing, match="needs root, or the program fusermount3"):
        mount_fuse(tmp_path, "x")


def test_fuse_loads_nothing_that_only_other_carriers_need() -> None:
    script = "import sys, registry_pipelines.stream.lazy.serving; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    others = {f"registry_pipelines.stream.lazy.{name}" for name in ("backing", "erofs", "fanotify", "guard", "holder")}
    assert not others & set(loaded)
