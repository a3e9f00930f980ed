"""Limits of memory and processes of all that a program starts, together.

By a control group where this user may make one (version 2, or the two controllers of version 1). Elsewhere, as in most
containers, somebody has to look: :meth:`Limits.exceeded` counts what lives in the program's process numbers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from registry_pipelines.progress import count_text
from registry_pipelines.settings import Size

GROUPS = Path("/sys/fs/cgroup")
_PREFIX = "registry-pipelines-"
_CONTROLLERS = ("memory", "pids")
_END_S = 2.0
_LOOK_EVERY_S = 0.02


class Limits:
    """Made before the program starts, while the context lasts; see the module. memory: bytes, with pages of files that
    are read (the kernel takes those back first) where a control group holds it."""

    def __init__(self, memory: Size, processes: int) -> None:
        self._memory, self._processes = memory, processes
        self._folders: dict[str, Path] = {}
        """By controller."""
        self._process = 0

    def __enter__(self) -> Limits:
        parents = {each: found for each in _CONTROLLERS if (found := _parent(each))}
        if len(parents) == len(_CONTROLLERS):
            try:
                for controller, parent in parents.items():
                    self._folders[controller] = _make(parent)
                self._write()
            except OSError:
                self.__exit__()
        return self

    def __exit__(self, *_: object) -> None:
        end = time.monotonic() + _END_S
        for folder in {*self._folders.values()}:
            while folder.exists() and time.monotonic() < end:  # what was killed is not gone at once
                with suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(_LOOK_EVERY_S)
        self._folders.clear()

    @property
    def together(self) -> bool:
        """Whether the kernel holds the limits, for all processes together."""
        return bool(self._folders)

    def hold(self, process: int) -> None:
        """From now on they hold for it, and what it starts: the first process of process numbers of its own. Raises
        OSError."""
        self._process = process
        for folder in {*self._folders.values()}:
            (folder / "cgroup.procs").write_text(str(process))

    def exceeded(self) -> str:
        """Which limit was gone beyond, in a sentence; empty for none. Where the kernel holds none, whoever asks is to
        end the program then."""
        memory = f"it wanted more than {self._memory} of memory"
        processes = f"it wanted more than {count_text(self._processes, 'process', 'processes')} and threads"
        if self._folders:
            counted = _events(self._folders["memory"], ("memory.events", "memory.oom_control"), "oom_kill")
            if counted:
                return memory
            return processes if _events(self._folders["pids"], ("pids.events",), "max") else ""
        used, threads = _measured(self._process)
        if used > self._memory:
            return memory
        return processes if threads > self._processes else ""

    def _write(self) -> None:
        memory, pids = self._folders["memory"], self._folders["pids"]
        if (memory / "memory.max").exists():
            (memory / "memory.max").write_text(str(int(self._memory)))
            with suppress(OSError):  # where there is no swap there is no such file
                (memory / "memory.swap.max").write_text("0")
        else:
            (memory / "memory.limit_in_bytes").write_text(str(int(self._memory)))
        (pids / "pids.max").write_text(str(self._processes))


def _parent(controller: str) -> Path | None:
    """Where a group with this controller may be made, as far below as possible; None: nowhere."""
    own = [line.split(":", 2) for line in _text(Path("/proc/self/cgroup")).splitlines()]
    for number, names, path in own:
        if controller in names.split(","):  # version 1: each controller has a tree
            return _below(GROUPS / names, path, "tasks")
        if number == "0" and not names and (GROUPS / "cgroup.controllers").exists():
            found = GROUPS / path.lstrip("/")
            while found.is_relative_to(GROUPS):
                given = _text(found / "cgroup.subtree_control").split()
                if {*_CONTROLLERS} <= {*given} and os.access(found, os.W_OK):
                    return found
                found = found.parent
            return None
    return None


def _below(top: Path, path: str, file: str) -> Path | None:
    """Where this process is, as far as it is seen from here."""
    found = top / path.lstrip("/")
    while not (found / file).exists() and found != top:
        found = found.parent
    return found if (found / file).exists() and os.access(found, os.W_OK) else None


def _make(parent: Path) -> Path:
    """A group; those that killed processes of ours left go. Raises OSError."""
    for left in parent.glob(f"{_PREFIX}*"):
        if not Path("/proc", left.name.removeprefix(_PREFIX)).exists():
            with suppress(OSError):
                left.rmdir()
    folder = parent / f"{_PREFIX}{os.getpid()}"
    folder.mkdir(exist_ok=True)
    return folder


def _events(folder: Path, names: tuple[str, ...], key: str) -> int:
    """A counter of a group."""
    for name in names:
        for line in _text(folder / name).splitlines():
            if line.startswith(f"{key} "):
                return int(line.split()[1])
    return 0


def _measured(process: int) -> tuple[int, int]:
    """Bytes of memory that is of no file, and threads, of all in the process numbers whose first one is this."""
    used = threads = 0
    for text in _statuses(process):
        rows = dict(line.partition(":")[::2] for line in text.splitlines())
        used += sum(int(rows.get(name, "0 kB").split()[0]) << 10 for name in ("RssAnon", "RssShmem"))
        threads += int(rows.get("Threads", "0"))
    return used, threads


def _statuses(process: int) -> Iterator[str]:
    """What the kernel says of each."""
    own = _numbers(Path("/proc", str(process)))
    for each in Path("/proc").iterdir():
        if own and each.name.isdecimal() and _numbers(each) == own:
            yield _text(each / "status")


def _numbers(process: Path) -> str:
    """Names the process numbers that a process has; empty where that is none of ours to know."""
    try:
        return str((process / "ns" / "pid").readlink())
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


__all__ = ["Limits"]
