"""What this machine's kernel does of what lazy images are mounted by: each part is tried, and nothing is told by a name
or a number of a kernel.

``node probe`` asks. Most needs root; who is not root is told what came. A try takes milliseconds, leaves nothing
behind, and changes nothing that is mounted.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.stream.lazy import owners, watch_proof
from registry_pipelines.stream.lazy import probing_fuse as tried
from registry_pipelines.stream.lazy.kept import make_own
from registry_pipelines.stream.lazy.mounting import (
    EROFS_KIND,
    MS_RDONLY,
    end_mount,
    mount,
    mount_fuse,
    mounts,
    unmount,
)
from registry_pipelines.stream.lazy.sharing import share_blocks

FIRST_USER = 100_000
"""Of the machine's, root of the user namespace that is tried."""
_USERS = 65_536
_WAIT_S = 10.0


class Part(NamedTuple):
    """One part, tried."""

    name: str
    works: bool
    tried: str
    """What was done, for a person."""
    came: str
    """What the kernel said to it."""
    without: str
    """What follows where it does not work."""


class Probe(NamedTuple):
    """All of a machine."""

    kernel: str
    file_system: str
    """Of the folder where layers and files of images are."""
    parts: tuple[Part, ...]

    def works(self, name: str) -> bool:
        """Whether a part does."""
        return any(part.works for part in self.parts if part.name == name)

    @property
    def carriers(self) -> tuple[str, ...]:
        """Those that can be used, the one that `auto` takes first: see ``carriers.open_carrier``."""
        return tuple(name for name in ("fanotify", "fuse") if self.works(name))


class _No(Exception):
    """It does not work: what came."""


def probe(folder: Path) -> Probe:
    """Try everything. folder: on the disk that is asked about, made where it is not there; files are there for the
    moment of the try.

    Raises what ``kept.make_own`` does.
    """
    make_own(folder)
    found: list[Part] = []
    with ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="probe-", dir=folder))
        stack.callback(shutil.rmtree, place, ignore_errors=True)

        def part(name: str, what: str, without: str, run: Callable[[], str]) -> None:
            found.append(_tried(name, what, without, run))

        users = stack.enter_context(user_namespace())
        part("user namespaces", "a process in one, with 65,536 users of its own", _NO_USERS, users.told)
        _probe_fuse(place, users, part, stack)
        _probe_erofs(place, users, part, stack)
        part(
            "fanotify",
            "a file with a hole mounted as EROFS, refused and then filled when it was read",
            _NO_FANOTIFY,
            lambda: _fanotify(place),
        )
        part("reflink", "a block of the disk in two files", _NO_REFLINK, lambda: _reflink(place))
        return Probe(os.uname().release, _file_system(place), tuple(found))


_NO_USERS = "containers cannot have users of their own"
_NO_FUSE = "images are mounted by fanotify alone, or pulled"
_NO_FANOTIFY = "images are mounted by FUSE, or pulled"
_NO_REFLINK = "what fanotify serves stands on the disk twice while it is mounted"
_PLAIN_FILES = "fanotify needs it"


def _tried(name: str, what: str, without: str, run: Callable[[], str]) -> Part:
    try:
        return Part(name, True, what, run() or "it works", "")
    except _No as no:
        return Part(name, False, what, str(no), without)
    except RegistryPipelinesError as error:
        return Part(name, False, what, error.what, without)
    except OSError as error:
        return Part(name, False, what, error.strerror or repr(error), without)


def _probe_fuse(place: Path, users: Users, part: Callable[..., None], stack: ExitStack) -> None:
    folder = place / "fuse"
    folder.mkdir()
    server: list[tried.TriedFuse] = []

    def served() -> tried.TriedFuse:
        if not server:
            raise _No("no tree of FUSE is mounted")
        return server[0]

    def begin() -> str:
        device = mount_fuse(folder, "probe")
        begun = tried.TriedFuse(device, place)
        stack.callback(_end_fuse, folder, begun, device)
        if not begun.ready.wait(_WAIT_S):
            raise _No("the kernel says nothing")
        if tried.first_bytes(folder / tried.PASSED) not in (tried.ASKED, tried.COPIED):
            raise _No("a file has other content")
        server.append(begun)
        return f"protocol {begun.version}"

    def kept() -> str:
        (folder / tried.KEPT).stat()
        served().keep()
        return _content(folder / tried.KEPT, tried.GIVEN)

    def again() -> str:
        with suppress(FileNotFoundError):
            (served(), (folder / tried.AGAIN).stat())
        if not served().was_resent:
            raise _No(served().resent or "it does not ask again")
        return ""

    part("fuse", "a tree mounted, and a file of it read", _NO_FUSE, begin)
    part("fuse notify_store", "a page given before it was read", "each page of a hot pack is asked for", kept)
    part(
        "fuse passthrough",
        "a file that the kernel reads from another",
        "large files are read by questions",
        lambda: _content(folder / tried.PASSED, tried.COPIED) if served() else "",
    )
    part(
        "fuse resend",
        "a question that was left unanswered is asked again",
        "reads under way when the agent is killed end with EIO",
        again,
    )
    part(
        "overlay on fuse",
        "a file written above the tree, and one read through it",
        "containers need fanotify, or a pull",
        lambda: _overlay(place / "over-fuse", folder, tried.KEPT) if served() else "",
    )
    part(
        "idmapped fuse",
        "the tree seen with other users",
        "pods with user namespaces fail on FUSE",
        lambda: users.see(folder, tried.KEPT) if served() else "",
    )


def _end_fuse(folder: Path, server: tried.TriedFuse, device: int) -> None:
    end_mount(folder)
    server.join()
    os.close(device)


def _probe_erofs(place: Path, users: Users, part: Callable[..., None], stack: ExitStack) -> None:
    folder, state = place / "erofs", {"mounted": False}
    folder.mkdir()

    def begin() -> str:
        data, _ = watch_proof.small_file(place / "whole", stack)
        os.fsync(data)
        try:
            mount(str(place / "whole"), folder, EROFS_KIND, MS_RDONLY)
        except OSError as error:
            raise _No(watch_proof.why_no_mount(error)) from error
        stack.callback(unmount, folder, detach=True)
        state["mounted"] = True
        return _content(folder / "file", bytes(4))

    def mounted() -> Path:
        if not state["mounted"]:
            raise _No("no EROFS is mounted")
        return folder

    part("erofs", "a plain file mounted, without a loop device", _PLAIN_FILES, begin)
    part(
        "overlay on erofs",
        "a file written above the tree, and one read through it",
        "containers need FUSE, or a pull",
        lambda: _overlay(place / "over-erofs", mounted(), "file"),
    )
    part(
        "idmapped erofs",
        "the tree seen with other users",
        "pods with user namespaces fail on fanotify",
        lambda: users.see(mounted(), "file"),
    )


def _content(path: Path, wanted: bytes) -> str:
    if not tried.first_bytes(path).startswith(wanted):
        raise _No("the file has other content")
    return ""


def _overlay(place: Path, lower: Path, name: str) -> str:
    upper, work, top = (place / each for each in ("upper", "work", "top"))
    for each in (upper, work, top):
        each.mkdir(parents=True)
    mount("overlay", top, "overlay", data=f"lowerdir={lower},upperdir={upper},workdir={work}")
    try:
        (top / "written").write_bytes(b"written")
        tried.first_bytes(top / name)
        if not (upper / "written").exists():
            raise _No("what is written does not come to the upper folder")
    finally:
        unmount(top, detach=True)
    return ""


def _fanotify(place: Path) -> str:
    watch_proof.self_test(place / "watched")
    return ""


def _reflink(place: Path) -> str:
    with (place / "one").open("w+b") as one, (place / "two").open("w+b") as two:
        one.write(os.urandom(4096))
        one.flush()
        if not share_blocks(one.fileno(), 0, 4096, two.fileno(), 0):
            raise _No(f"{_file_system(place)} cannot")
    return ""


def _file_system(folder: Path) -> str:
    """Its name in the list of mounts."""
    found = [each for each in mounts() if folder.resolve().is_relative_to(each.folder)]
    return max(found, key=lambda each: len(each.folder.parts)).kind if found else "unknown"


class Users:
    """A user namespace, or why there is none."""

    def __init__(self, namespace: int, why: str) -> None:
        self._namespace, self._why = namespace, why

    def told(self) -> str:
        """What came of it."""
        if self._why:
            raise _No(self._why)
        return ""

    def see(self, folder: Path, name: str) -> str:
        """Show a mount with the namespace's users (mount_setattr(2), since Linux 5.12): its root's are those."""
        self.told()
        try:
            with owners.mapped_tree(folder, self._namespace) as tree:
                owner = os.stat(name, dir_fd=tree).st_uid
        except OSError as error:
            raise _No(error.strerror or repr(error)) from error
        if owner != FIRST_USER:
            raise _No(f"root is user {owner} there, not {FIRST_USER}")
        return ""


@contextmanager
def user_namespace() -> Iterator[Users]:
    """One that lasts as long as the context."""
    lines = f"0 {FIRST_USER} {_USERS}\n"
    with ExitStack() as stack:
        try:
            users = Users(stack.enter_context(owners.user_namespace(lines, lines)), "")
        except OSError as error:
            users = Users(-1, error.strerror or repr(error))
        yield users


__all__ = ["Part", "Probe", "Users", "probe", "user_namespace"]
