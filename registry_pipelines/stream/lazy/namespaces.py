"""A user namespace for who is not root: in it this process is, and may mount; outside it can do no more than before
(user_namespaces(7)).

With ``newuidmap`` and a range of numbers for this user in /etc/subuid and /etc/subgid the users of an image are
different users, else there is one: root inside, this user outside.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

from registry_pipelines.errors import LocalError

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWIPC, CLONE_NEWPID = 0x20000, 0x10000000, 0x8000000, 0x20000000

ALL_IDS = 0xFFFFFFFF
"""How many the first user namespace has, and what is none in any."""

_MAPS = {"uid_map": ("newuidmap", Path("/etc/subuid")), "gid_map": ("newgidmap", Path("/etc/subgid"))}
_THREADS_END_S = 1.0
_RESTRICTED = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_FORBIDDEN = {
    Path("/proc/sys/kernel/unprivileged_userns_clone"): "sysctl kernel.unprivileged_userns_clone=1",
    Path("/proc/sys/user/max_user_namespaces"): "sysctl user.max_user_namespaces=10000",
}
_libc = ctypes.CDLL(None, use_errno=True)


class Ids(NamedTuple):
    """Numbers of users, or of groups, that a user namespace has: first ones and counts."""

    ranges: tuple[tuple[int, int], ...]

    def shown(self, number: int) -> int:
        """The number that a file has here: its own, or root's where there is no such one."""
        return number if any(first <= number < first + count for first, count in self.ranges) else 0

    @property
    def every(self) -> bool:
        """Whether this is the machine's own user namespace."""
        return self.ranges == ((0, ALL_IDS),)

    @property
    def single(self) -> bool:
        """Whether there is but one."""
        return sum(count for _, count in self.ranges) == 1


def user_ids() -> Ids:
    """Users of this process's namespace."""
    return _ids("uid_map")


def group_ids() -> Ids:
    """Groups of this process's namespace."""
    return _ids("gid_map")


def _ids(name: str) -> Ids:
    rows = [line.split() for line in Path("/proc/self", name).read_text().splitlines()]
    return Ids(tuple((int(row[0]), int(row[2])) for row in rows))


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    check(_libc.unshare(flags))


def check(result: int) -> int:
    """What a system call returned. Raises OSError where it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def clone_process(flags: int) -> int:
    """As fork(2), the child in namespaces of its own; its number, 0 in the child. This process must have one thread."""
    call = ctypes.PyDLL(None, use_errno=True).syscall  # the child holds the interpreter's lock, as this thread does
    number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    return check(call(ctypes.c_long(number), ctypes.c_ulong(flags | signal.SIGCHLD), *[ctypes.c_ulong(0)] * 4))


def own_mounts() -> None:
    """Give this process mounts of its own; to who may not, in a user namespace in which it is root. It must have one
    thread. Raises LocalError where the kernel, or what guards it, forbids both."""
    try:
        unshare(CLONE_NEWNS)
    except PermissionError:
        _own_users()
    except OSError as error:
        raise _refused(error) from error


def _own_users() -> None:
    _wait_for_threads()
    user, group = os.geteuid(), os.getegid()
    ranges = _sub_ids()
    wait, go = os.pipe()
    helper = os.fork() if ranges else 0
    if ranges and not helper:
        _map_from_outside(wait, go, os.getppid(), user, group, ranges)
    os.close(wait)
    try:
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        mapped = False
        if ranges:
            os.write(go, b"1")
            mapped = os.waitpid(helper, 0)[1] == 0
            helper = 0
        if not mapped:
            write_single_map(0, user, 0, group)
    except OSError as error:
        raise _refused(error) from error
    finally:
        os.close(go)
        if helper:
            os.waitpid(helper, 0)


def _wait_for_threads() -> None:
    """Until those that have ended are gone from the kernel's list, too."""
    end = time.monotonic() + _THREADS_END_S
    while len(list(Path("/proc/self/task").iterdir())) > 1 and time.monotonic() < end:
        time.sleep(0.001)


def write_single_map(user: int, outer_user: int, group: int, outer_group: int) -> None:
    """Say who the one user and group of this process's new user namespace are. Raises OSError."""
    own = Path("/proc/self")
    if (own / "setgroups").read_text().strip() != "deny":
        (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{user} {outer_user} 1")
    (own / "gid_map").write_text(f"{group} {outer_group} 1")


def _sub_ids() -> dict[str, tuple[int, int]]:
    """First number and count of what this user may give out, by map; nothing where it is not all there."""
    import pwd

    try:
        names = {str(os.getuid()), pwd.getpwuid(os.getuid()).pw_name}
    except KeyError:
        names = {str(os.getuid())}
    found: dict[str, tuple[int, int]] = {}
    for kind, (program, table) in _MAPS.items():
        try:
            rows = [line.split(":") for line in table.read_text().splitlines()]
        except OSError:
            return {}
        own = [(int(row[1]), int(row[2])) for row in rows if len(row) == 3 and row[0] in names and row[1].isdecimal()]
        if not own or shutil.which(program) is None:
            return {}
        found[kind] = max(own, key=lambda each: each[1])
    return found


def _map_from_outside(
    wait: int, go: int, process: int, user: int, group: int, ranges: dict[str, tuple[int, int]]
) -> NoReturn:
    """In a forked process, which stays where those programs may do it. Never returns."""
    try:
        os.close(go)
        if os.read(wait, 1):
            for kind, own in (("uid_map", user), ("gid_map", group)):
                first, count = ranges[kind]
                words = [_MAPS[kind][0], str(process), "0", str(own), "1", "1", str(first), str(count)]
                subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            os._exit(0)
    except (OSError, subprocess.SubprocessError):
        pass
    finally:
        os._exit(1)


def _refused(error: OSError) -> LocalError:
    ways = [way for path, way in _FORBIDDEN.items() if _number(path) == 0]
    if _number(_RESTRICTED):
        ways.append("sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns,`")
    allow = f"Have root allow it ({'; '.join(ways)})" if ways else "In a container give it --cap-add SYS_ADMIN"
    return LocalError(
        f"the kernel gives this process no mounts of its own, nor users of its own to have them: {error.strerror}",
        do=f"{allow}, or run it with sudo; `stream mount` needs neither where fusermount3 is installed, and `stream "
        "pull --to DIR` nothing",
    )


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


__all__ = ["Ids", "check", "clone_process", "group_ids", "own_mounts", "unshare", "user_ids", "write_single_map"]
