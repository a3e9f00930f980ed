"""Random stacks of layers, and what they unpack to: by a plain unpacker that knows nothing of trees."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.needs import missing
from tests.stream.layers import pack

Entry = tuple[tarfile.TarInfo, bytes]

NAMES = ("a", "a/b", "a/b/c", "a/d", "e", "e/a", "f/no/parent", "ä/" + "n" * 120)
HIDDEN = ("a/.wh.b", ".wh.a", "a/.wh..wh..opq", "a/b/.wh..wh..opq", ".wh.e", "e/.wh.a", "f/no/.wh.parent")


def need_root() -> None:
    """To give files away and to make devices."""
    if os.geteuid() != 0:
        missing("this needs root")


def entry(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **more: Any) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in more.items():
        setattr(info, field, value)
    return info, content


@st.composite
def layers(draw: st.DrawFn) -> list[Entry]:
    """One layer that tar can unpack: nothing stands below what is no directory of it."""
    found: list[Entry] = []
    there: dict[str, bytes] = {}
    replaced: set[str] = set()
    for _ in range(draw(st.integers(0, 9))):
        if draw(st.integers(0, 4)) == 0:
            name, kind = draw(st.sampled_from(HIDDEN)), tarfile.REGTYPE
        else:
            name = draw(st.sampled_from(NAMES))
            kind = draw(st.sampled_from((b"0", b"0", b"5", b"5", b"2", b"1", b"6", b"3")))
        above = [str(each) for each in Path(name).parents][:-1]
        if any(there.get(each, tarfile.DIRTYPE) != tarfile.DIRTYPE for each in above):
            continue
        # A directory in place of a file of its own layer: overlayfs shows what is below it, plain unpacking does not.
        if kind == tarfile.DIRTYPE and name in replaced:
            continue
        made = _entry(draw, name, kind, [each for each, what in there.items() if what != tarfile.DIRTYPE])
        if made is None:
            continue
        found.append(made)
        if ".wh." in name:
            there |= dict.fromkeys(above, tarfile.DIRTYPE)
            continue
        if kind != tarfile.DIRTYPE:
            replaced.add(name)
            there = {each: what for each, what in there.items() if not each.startswith(f"{name}/")}
        there |= dict.fromkeys(above, tarfile.DIRTYPE) | {name: kind}
    return found


def _entry(draw: st.DrawFn, name: str, kind: bytes, files: list[str]) -> Entry | None:
    content = b""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = draw(st.sampled_from([0o644, 0o755, 0o4711, 0o1777, 0]))
    info.mtime = draw(st.sampled_from([0, 1, 1_700_000_000, 1_700_000_000.75]))
    info.uid, info.gid = draw(st.sampled_from([(0, 0), (1000, 50), (3_000_000, 7)]))
    if kind == tarfile.REGTYPE and ".wh." not in name:
        size = draw(st.sampled_from([0, 1, 511, 512, 1000, 9000]))
        content = (draw(st.binary(min_size=3, max_size=9)) * (size // 3 + 1))[:size]
        info.size = size
    if kind in (tarfile.REGTYPE, tarfile.DIRTYPE) and draw(st.booleans()):
        info.pax_headers["SCHILY.xattr.user.note"] = draw(st.sampled_from(["x", "größer"]))
    elif kind == tarfile.SYMTYPE:
        info.linkname = draw(st.sampled_from(["one", "../b/c", "/a", "y" * 120]))
    elif kind == tarfile.CHRTYPE:
        info.devmajor, info.devminor = draw(st.sampled_from([(1, 3), (259, 70_000)]))
    elif kind == tarfile.LNKTYPE:
        targets = [each for each in files if each != name and not each.startswith(f"{name}/")]
        if not targets:
            return None
        info.linkname = draw(st.sampled_from(targets))
    return info, content


def unpack(stack: list[list[Entry]], folder: Path) -> dict[str, tuple[Any, ...]]:
    """What is in the folder when the layers were unpacked one above the other, by path."""
    folder.mkdir()
    times: dict[Path, float] = {}
    for entries in stack:
        tar = tarfile.open(fileobj=io.BytesIO(pack(entries)))  # noqa: SIM115
        members = tar.getmembers()
        for member in members:
            _hide(folder, member.name)
        for member in members:
            _make_above(folder, folder / member.name, times)
            if ".wh." not in member.name:
                _make(folder, tar, member, times)
    for path in [folder, *folder.rglob("*")]:
        if stat.S_ISDIR(path.lstat().st_mode):
            time = times.get(path, 0.0)
            os.utime(path, ns=(0, int(time * 100) * 10**7))
    return {path.relative_to(folder).as_posix(): described(path) for path in folder.rglob("*")}


def described(path: Path) -> tuple[Any, ...]:
    """All that is seen of a file: mode, owner, time, device, links, content, attributes."""
    status = path.lstat()
    kind = stat.S_IFMT(status.st_mode)
    content = (
        path.read_bytes() if kind == stat.S_IFREG else os.fsencode(path.readlink()) if kind == stat.S_IFLNK else b""
    )
    names: list[str] = []
    with suppress(OSError):  # a mount of an image without any says that it knows none
        names = sorted(os.listxattr(path, follow_symlinks=False))
    xattrs = {os.fsencode(name): os.getxattr(path, name, follow_symlinks=False) for name in names}
    links = 0 if kind == stat.S_IFDIR else status.st_nlink
    owner = (status.st_mode, status.st_uid, status.st_gid)
    return *owner, status.st_mtime_ns, status.st_rdev, links, content, xattrs


def _hide(folder: Path, name: str) -> None:
    path = folder / name
    if not all(_is_folder(each) for each in path.parents if folder in each.parents):
        return
    if path.name == ".wh..wh..opq":
        for child in path.parent.iterdir():
            _remove(child)
    elif path.name.startswith(".wh."):
        _remove(path.with_name(path.name[4:]))


def _remove(path: Path) -> None:
    if _is_folder(path):
        for child in path.iterdir():
            _remove(child)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _is_folder(path: Path) -> bool:
    return not path.is_symlink() and path.is_dir()


def _make_above(folder: Path, path: Path, times: dict[Path, float]) -> None:
    """Also above a whiteout, as containerd does."""
    for above in reversed([each for each in path.parents if folder in each.parents]):
        if not _is_folder(above):
            _remove(above)
            above.mkdir(mode=0o755)
            times.pop(above, None)


def _make(folder: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, times: dict[Path, float]) -> None:
    path = folder / member.name
    if not (member.isdir() and _is_folder(path)):
        _remove(path)
    if member.isdir():
        path.mkdir(exist_ok=True)
        times[path] = member.mtime
    elif member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        os.link(folder / member.linkname, path, follow_symlinks=False)
    elif member.isfifo():
        os.mkfifo(path)
    elif member.ischr():
        os.mknod(path, stat.S_IFCHR, os.makedev(member.devmajor, member.devminor))
    else:
        content = tar.extractfile(member)
        assert content is not None
        path.write_bytes(content.read())
    _set(path, member)


def _set(path: Path, member: tarfile.TarInfo) -> None:
    os.lchown(path, member.uid, member.gid)
    if not path.is_symlink():
        path.chmod(member.mode)
        if not member.islnk():
            for name in os.listxattr(path):
                os.removexattr(path, name)
    for key, value in member.pax_headers.items():
        if key.startswith("SCHILY.xattr."):
            os.setxattr(path, key[13:], value.encode(), follow_symlinks=False)
    os.utime(path, ns=(0, int(float(member.mtime) * 100) * 10**7), follow_symlinks=False)
