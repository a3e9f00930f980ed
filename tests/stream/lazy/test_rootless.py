"""``stream run`` by a user who is not root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.mounting import mount, unmount
from registry_pipelines.stream.lazy.program_root import Kinds, writable_root
from tests.needs import missing
from tests.patience import patient
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.lazy.test_fuse import OPEN_TO_ALL

USER = 1000
OPEN_DEVICE = "mknod $1/fuse c 10 229; chmod 666 $1/fuse; mount --bind $1/fuse /dev/fuse"
"""Systems let every user open the device; containers often do not."""
AS_A_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
MAIN = "from registry_pipelines.cli import main; main()"
REPOSITORY = Path(__file__).parents[3]


def opened_to_all(home: Path) -> str:
    """Shell commands that let every user reach this Python and this repository, where a home above them is closed."""
    trees = sorted({Path(sys.base_prefix), Path(sys.prefix), REPOSITORY})
    closed = {each for tree in trees for each in tree.parents if not each.stat().st_mode & 1}
    closed = {each for each in closed if not closed & set(each.parents)}
    inside = [tree for tree in trees if closed & set(tree.parents)]
    lines = []
    for number, tree in enumerate(inside):
        lines += [f"mkdir {home}/tree{number}", f"mount --bind {tree} {home}/tree{number}"]
    lines += [f"mount -t tmpfs -o mode=755 none {each}" for each in closed]
    for number, tree in enumerate(inside):
        lines += [f"mkdir -p {tree}", f"mount --bind {home}/tree{number} {tree}"]
    return "\n".join(lines)


class Person:
    """A user with a home, who types commands."""

    def __init__(self, home: Path, address: str, *, root: bool = False) -> None:
        self.home, self.address = home, address
        self._become = [] if root else AS_A_USER
        self._opened = "true" if root else opened_to_all(home)
        """Root may go everywhere; what hides a closed folder would hide this checkout, too, where it lies in it."""
        (home / "files").mkdir()
        os.chown(home / "files", USER, USER)

    def run(self, *words: str, before: str = "true", within: Sequence[str] = ()) -> tuple[int, str, str]:
        """Exit code, output, errors. before: what root does first, in the same mounts. within: a command that the user
        starts it with."""
        files = self.home / "files"
        command = f'{OPEN_DEVICE}\n{self._opened}\n{before}\nshift\nexec "$@"'
        own_mounts = ["unshare", "-m", "sh", "-ec", command, "sh", str(self.home)]
        ran = subprocess.run(
            [*own_mounts, *self._become, *within, sys.executable, "-c", MAIN, "stream", *words],
            env={"PATH": os.environ["PATH"], "HOME": str(files), "XDG_STATE_HOME": str(files / "state")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patient(60),
            check=False,
        )
        for each in self.home.iterdir():
            if each.name == "fuse" or each.name.startswith("tree"):
                each.unlink() if each.name == "fuse" else each.rmdir()
        return ran.returncode, ran.stdout, ran.stderr

    def sh(self, tag: str, script: str, **how: Any) -> tuple[int, str, str]:
        """What a shell of an image says."""
        return self.run("run", f"{self.address}/team/app:{tag}", "--", "sh", "-c", script, **how)


@pytest.fixture
def person() -> Iterator[Person]:
    need_fuse()
    with tempfile.TemporaryDirectory(dir=OPEN_TO_ALL) as folder, EmbeddedServer(Path(folder, "registry")) as server:
        Path(folder).chmod(0o755)
        registry = DistributionRegistry(server.address)
        image(Place(registry, "team/app"), tag="v1", more_mib=1)
        image(Place(registry, "team/app"), tag="me", more_mib=1, user="me")
        registry.close()
        yield Person(Path(folder), server.address)


def test_a_program_is_root_in_its_image_and_only_its_user_outside(person: Person) -> None:
    script = "id -u; cat /motd; echo new >/etc/motd; cat /motd; echo /proc/[0-9]*; ls -ln /bin/sh; echo >/sys/x"
    code, output, errors = person.sh("v1", script)
    lines = output.splitlines()
    assert code == 2 and lines[:3] == ["0", "hello", "new"] and "Read-only file system" in errors
    assert lines[3] == "/proc/1" and lines[4].split()[2:4] == ["0", "0"]
    assert "all files are of the one it runs as" in errors


def test_an_image_with_a_user_is_run_by_that_user(person: Person) -> None:
    code, output, _ = person.sh("me", "id -u; id -g; echo new >/etc/motd; cat /motd; ls -ln /etc/passwd")
    lines = output.splitlines()
    assert (code, lines[:3]) == (0, ["7", "8", "new"]) and lines[3].split()[2:4] == ["7", "8"]


def test_with_a_range_of_numbers_users_are_different_ones(person: Person) -> None:
    if shutil.which("newuidmap") is None:
        missing("newuidmap is not installed (Debian package uidmap)")
    range_of = f"for each in subuid subgid; do echo {USER}:300000:65536 >{person.home}/$each; touch /etc/$each; "
    before = range_of + f"mount --bind {person.home}/$each /etc/$each; done"
    code, output, errors = person.sh("me", "id -u; id -g; ls -ln /etc/passwd; echo new >/etc/motd", before=before)
    lines = output.splitlines()
    assert code == 2 and lines[:2] == ["7", "8"] and lines[2].split()[2:4] == ["0", "0"]
    assert "Permission denied" in errors and "all files are" not in errors


def test_where_proc_is_masked_the_machine_s_is_shown(person: Person) -> None:
    code, output, _ = person.sh("v1", "cat /proc/self/comm", before="mount -t tmpfs none /proc/irq")
    assert (code, output) == (0, "cat\n")


def test_where_users_of_its_own_are_forbidden_it_says_what_to_do(person: Person) -> None:
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all "$@"'
    code, _, errors = person.sh("v1", "id", within=["unshare", "--map-root-user", "sh", "-ec", forbid, "sh"])
    assert code == 9 and "users of its own" in errors
    assert "sysctl user.max_user_namespaces" in errors and "sudo" in errors and "stream pull --to DIR" in errors


def test_a_root_above_which_nothing_can_be_laid_has_places_to_write(tmp_path: Path) -> None:
    need_fuse()
    below = tmp_path / "0"
    for name in ("0/proc", "0/sys", "0/dev", "0/tmp", "0/etc", "run"):
        (tmp_path / name).mkdir(parents=True)
    (below / "etc" / "hosts").write_text("the image's")
    for depth in ("1", "2"):  # the kernel lays no more than two above each other
        for name in (depth, f"{depth}u", f"{depth}w"):
            (tmp_path / name).mkdir()
        options = f"lowerdir={below},upperdir={tmp_path / depth}u,workdir={tmp_path / depth}w"
        below = tmp_path / depth
        mount("overlay", below, "overlay", 0, options)
    said: list[str] = []
    try:
        with writable_root(below, tmp_path / "run", _kinds(below), said.append) as root:
            (root / "tmp" / "x").write_text("x")
            assert (root / "etc" / "hosts").read_bytes() == Path("/etc/hosts").read_bytes()
        assert said and "/tmp, /run, /var/tmp" in said[0]
        assert not (below / "tmp" / "x").exists() and (below / "etc" / "hosts").read_text() == "the image's"
    finally:
        for depth in ("2", "1"):
            unmount(tmp_path / depth)


def _kinds(top: Path) -> Kinds:
    def kinds(path: str) -> tuple[int, int, int] | None:
        try:
            status = (top / path).lstat()
        except FileNotFoundError:
            return None
        return status.st_mode, status.st_uid, status.st_gid

    return kinds
