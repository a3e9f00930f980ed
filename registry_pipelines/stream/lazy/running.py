"""A program started from a mounted image: its own mounts and process numbers, and what the image's config says of it.

Without a ``Sandbox`` the program has the machine's network and, unless the image names a user, it is root with the
capabilities that Docker leaves. It sees none of the machine's files. Who is not root runs it in a user namespace
(``namespaces``), where it can do no more than its user.

The process that will be the program is forked before anything else runs (threads do not survive a fork), and waits
until the image is mounted.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from msgspec.structs import asdict

from registry_pipelines import interrupts
from registry_pipelines.errors import InputError, LocalError, ManifestInvalid
from registry_pipelines.stream.lazy import mounting
from registry_pipelines.stream.lazy.mounting import mount
from registry_pipelines.stream.lazy.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    check,
    clone_process,
    own_mounts,
    unshare,
    user_ids,
    write_single_map,
)
from registry_pipelines.stream.lazy.program_root import machine_mounts
from registry_pipelines.stream.lazy.sandbox import FEW_CAPABILITIES, NAMESPACES, Sandbox, give_up_rights, start_loopback

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the image's Env has no PATH; Docker's."""

LOOK_EVERY_S = 0.02
"""Whether a program that was told to end has."""

CAPABILITIES = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31))
"""By number, those that Docker gives, less MKNOD (27), for nothing here keeps it from the machine's disks: CHOWN,
DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, AUDIT_WRITE,
SETFCAP."""

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24
_MOST_CAPABILITIES = 64
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Program:
    """What is started."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    folder: str
    """Where it starts."""
    user: str
    """``user[:group]``, by name or number, as the image's config says; empty for root."""


def program_of(config: Mapping[str, Any] | None, command: Sequence[str], entrypoint: str | None) -> Program:
    """What an image starts, as Docker reads its config (image-spec, config.md): its entrypoint with the command given,
    or with its own. entrypoint: in place of the image's; then its command counts no more.

    Raises InputError: neither says what to start; ManifestInvalid: a field has another type.
    """
    found = config or {}
    own, said = _texts(found, "Entrypoint"), _texts(found, "Cmd")
    if entrypoint is not None:
        own, said = [entrypoint], []
    arguments = [*own, *(command or said)]
    if not arguments:
        raise InputError(
            "the image's config names no program, and no command was given", do="Write it after --: `... REF -- CMD`"
        )
    environment = {"PATH": DEFAULT_PATH, "HOME": "/root"}
    environment |= dict(text.partition("=")[::2] for text in _texts(found, "Env"))
    folder, user = found.get("WorkingDir") or "/", found.get("User") or ""
    if not isinstance(folder, str) or not isinstance(user, str):
        raise ManifestInvalid("WorkingDir and User of the image's config are no texts")
    return Program(tuple(arguments), environment, folder, user)


class Started:
    """A process that waits to become the program. To be made in the main thread, before any other is started.

    Without root, this process is then root in a user namespace: what it mounts only the program sees.
    """

    def __init__(self) -> None:
        """Raises LocalError where the kernel gives no namespaces."""
        with interrupts.one_thread():
            self._begin()

    def _begin(self) -> None:
        self._ended = False
        wait, self._go = os.pipe()
        self._said, say = os.pipe()
        self.output, output = os.pipe()
        own_mounts()
        self.single_user = user_ids().single
        """Whether the program's files can have but one owner."""
        try:
            mount("none", "/", "", mounting.MS_REC | mounting.MS_PRIVATE)
            self.process = clone_process(CLONE_NEWPID)
        except OSError as error:
            raise LocalError(
                f"the kernel gives this process no processes of its own: {error.strerror}",
                do="Run it as root with CAP_SYS_ADMIN; in a container give it that (--cap-add SYS_ADMIN)",
            ) from error
        if not self.process:
            _become(wait, say, output, (self._go, self._said, self.output))
        for descriptor in (wait, say, output):
            os.close(descriptor)

    def start(self, program: Program, root: Path, *, piped: bool, sandbox: Sandbox | None = None) -> None:
        """Let it become the program, in the tree at ``root``. piped: its output comes through ``output``. sandbox: what
        it may not; its errors then come through ``output``, too, and it has no input. Raises InputError: there is no
        such program, user or folder in the image; LocalError."""
        told = {"program": vars(program), "root": str(root), "piped": piped, "sandbox": sandbox and asdict(sandbox)}
        word, self._go = self._go, -1
        with os.fdopen(word, "wb") as go:
            go.write(json.dumps(told).encode())
        with os.fdopen(self._said, "rb") as said:
            problem = said.read()
        if problem:
            kind, what = json.loads(problem)
            raise (InputError if kind == "input" else LocalError)(what)

    def wait(self) -> int:
        """Its exit code; 128 and the signal's number for one that was killed."""
        _, status = os.waitpid(self.process, 0)
        self._ended = True
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def end(self, patience_s: float) -> None:
        """End it, and everything it started: with a word first. Nothing happens where it has ended."""
        if self._ended:  # its number may be another's by now
            return
        self._ended = True
        if self._go >= 0:  # without the word it ends by itself
            os.close(self._go)
            self._go = -1
        deadline = time.monotonic() + patience_s
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.process, signal.SIGTERM)
            while time.monotonic() < deadline:
                if os.waitpid(self.process, os.WNOHANG)[0]:
                    return
                time.sleep(LOOK_EVERY_S)
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)


def _become(wait: int, say: int, output: int, others: Sequence[int]) -> NoReturn:
    """In the forked process: wait for the word, then be the program. Never returns."""
    try:
        _end_with_parent()
        for each in others:
            os.close(each)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        with os.fdopen(wait, "rb") as told:
            text = told.read()
        if text:
            told_of = json.loads(text)
            sandbox = Sandbox(**told_of["sandbox"]) if told_of["sandbox"] else None
            program, root = Program(**told_of["program"]), Path(told_of["root"])
            _execute(program, root, output if told_of["piped"] else None, sandbox)
    except InputError as error:
        os.write(say, json.dumps(("input", error.what)).encode())
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        why = " (it is for another platform, or a script without `#!`)" if error.errno == errno.ENOEXEC else ""
        os.write(say, json.dumps(("local", f"the program cannot be started: {name}{error.strerror}{why}")).encode())
    except BaseException as error:
        os.write(say, json.dumps(("local", f"the program cannot be started: {error!r}")).encode())
    finally:
        os._exit(127)


def _execute(program: Program, root: Path, output: int | None, sandbox: Sandbox | None) -> NoReturn:
    unshare(CLONE_NEWNS | CLONE_NEWIPC | (NAMESPACES if sandbox else 0))
    if sandbox:
        start_loopback()
        machine_mounts(root, gpus=sandbox.gpus, shm_bytes=sandbox.memory_bytes)
    else:
        machine_mounts(root)
    os.chdir(root)
    # The old root ends up above the new one, and is let go (pivot_root(2), "pivot_root(".", ".")").
    check(_libc.syscall(_pivot_root_number(), b".", b"."))
    mounting.unmount(".", detach=True)
    os.chdir("/")
    for capability in range(_MOST_CAPABILITIES):
        if capability not in (FEW_CAPABILITIES if sandbox else CAPABILITIES):
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # those that this kernel does not know fail
    environment = dict(program.environment)
    user, group, groups, home = find_user(program.user)
    if home:
        environment["HOME"] = home
    if user_ids().single:
        _enter(program.folder, 0, 0)
        _be_alone(user, group)
    else:
        os.setgroups(groups)
        os.setgid(group)
        _enter(program.folder, user, group)
        os.setuid(user)
    _end_with_parent()  # a change of the user took that away
    if output is not None:
        os.dup2(output, 1)
    if sandbox:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(1, 2)
        give_up_rights(sandbox)
    file = _find_program(program.arguments[0], environment["PATH"])
    os.execve(file, program.arguments, environment)  # noqa: S606 - that is what was asked for


def _be_alone(user: int, group: int) -> None:
    """Be that user where there is but one: the same one, and the owner of all files, under another number."""
    if user or group:
        unshare(CLONE_NEWUSER)
        write_single_map(user, 0, group, 0)


def _enter(folder: str, user: int, group: int) -> None:
    """Go to the folder where the program starts, made where it is not there, as Docker does."""
    if not Path(folder).is_dir():
        Path(folder).mkdir(parents=True, exist_ok=True)
        os.chown(folder, user, group)
    os.chdir(folder)


def _find_program(name: str, path: str) -> str:
    """Raises InputError."""
    for folder in [""] if "/" in name else path.split(":"):
        found = Path(folder, name)
        if found.is_file() and os.access(found, os.X_OK):
            return str(found)
    raise InputError(f"{name}: there is no such program in the image")


def find_user(text: str) -> tuple[int, int, list[int], str]:
    """Number of a user and its group, its further groups and its home, from the files of the image that is the root
    here. text: ``user[:group]``. Raises InputError for a name that the image does not have."""
    name, colon, group_name = text.partition(":")
    name = name or "0"
    users, groups = _table("/etc/passwd", 7), _table("/etc/group", 4)
    row = next((each for each in users if name in (each[0], each[2])), None)
    if row is None and not name.isdecimal():
        raise InputError(f"the image's config names the user {name!r}, which the image does not have")
    user, group, home = (int(row[2]), int(row[3]), row[5]) if row else (int(name), 0, "")
    further = [int(each[2]) for each in groups if row and row[0] in each[3].split(",")]
    if colon and group_name:
        found = next((each for each in groups if group_name in (each[0], each[2])), None)
        if found is None and not group_name.isdecimal():
            raise InputError(f"the image's config names the group {group_name!r}, which the image does not have")
        group, further = int(found[2]) if found else int(group_name), []
    return user, group, [group, *further], home


def _table(path: str, columns: int) -> list[list[str]]:
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            rows = [line.rstrip("\n").split(":") for line in file.read(1 << 20).splitlines()]
    except OSError:
        return []
    numbers = (2, 3) if columns == 7 else (2,)
    return [row for row in rows if len(row) == columns and all(row[index].isdecimal() for index in numbers)]


def _texts(config: Mapping[str, Any], name: str) -> list[str]:
    found = config.get(name) or []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ManifestInvalid(f"{name} of the image's config is no list of texts")
    return found


def _pivot_root_number() -> int:
    """Of the system call, which C libraries have no function for."""
    return 155 if os.uname().machine == "x86_64" else 41


def _end_with_parent() -> None:
    """Be killed when the process that serves our files is gone."""
    check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
