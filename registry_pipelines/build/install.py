"""Where a wheel's files go in the image, and the files an installer writes beside them.

Sources: PyPA "Binary distribution format" (spreading .data, rewriting ``#!python``), "Entry points specification".
"""

from __future__ import annotations

import configparser
import posixpath
import re
from dataclasses import dataclass
from itertools import pairwise

from registry_pipelines.build.entries import FILE_MODE, PROGRAM_MODE
from registry_pipelines.build.wheel import Member, Wheel, check_path
from registry_pipelines.errors import WheelInvalid

INSTALLER = b"registry-pipelines\n"
"""Content of INSTALLER: who put the files there."""

MAX_SCRIPT_BYTES = 4 * 1024**2
"""A script whose first line must be rewritten is held in memory."""

_OBJECT_REFERENCE = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<attr>[\w.]+)\s*(\[[\w\s,.-]*\])?\s*\Z", re.ASCII)
_SCRIPT = """\
#!{interpreter}
import sys
from {module} import {first}
if __name__ == "__main__":
    sys.exit({attr}())
"""


@dataclass(frozen=True)
class Scheme:
    """Folders of a Python installation in the image, without leading slash (PyPA "Installation schemes")."""

    prefix: str
    site_packages: str
    python: str
    """Minor version, ``3.12``."""
    interpreter: str
    """Absolute path of the Python program, for the first line of scripts."""

    @classmethod
    def of(cls, python: str, *, site_packages: str = "", interpreter: str = "") -> Scheme:
        """The official images' scheme (``/usr/local``), or what a base has instead."""
        site = (site_packages or f"/usr/local/lib/python{python}/site-packages").strip("/")
        head, marker, _ = site.partition(f"/lib/python{python}/")
        prefix = head if marker else "usr/local"
        return cls(prefix, site, python, interpreter or f"/{prefix}/bin/python{python}")

    @property
    def scripts(self) -> str:
        """Where scripts go."""
        return f"{self.prefix}/bin"

    def of_data(self, wheel: Wheel, key: str) -> str | None:
        """Target of ``<name>.data/<key>``, None for an unknown key."""
        return {
            "purelib": self.site_packages,
            "platlib": self.site_packages,
            "scripts": self.scripts,
            "headers": f"{self.prefix}/include/site/python{self.python}/{wheel.name}",
            "data": self.prefix,
        }.get(key)

    def record_path(self, path: str) -> str:
        """An image path as RECORD writes it: relative to site-packages."""
        return posixpath.relpath(path, self.site_packages)


@dataclass(frozen=True)
class Planned:
    """A file to install. ``path``: in the image, without leading slash. Either ``member`` (its content is taken over,
    or rewritten when ``rewrite``) or ``content`` (written by us)."""

    path: str
    mode: int
    member: Member | None = None
    content: bytes = b""
    rewrite: bool = False


def plan(wheel: Wheel, scheme: Scheme) -> list[Planned]:
    """Everything to install except byte code and RECORD, sorted by path. Raises WheelInvalid."""
    where = wheel.path.name
    skipped = {f"{wheel.dist_info}/{name}" for name in ("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER")}
    files = [_placed(wheel, member, scheme, where) for member in wheel.members if member.name not in skipped]
    files += _console_scripts(wheel, scheme, where)
    files.append(Planned(f"{scheme.site_packages}/{wheel.dist_info}/INSTALLER", FILE_MODE, content=INSTALLER))
    files.sort(key=lambda file: file.path)
    for one, following in pairwise(files):
        if one.path == following.path:
            raise WheelInvalid(f"two files of the wheel go to /{one.path}", where=where)
    return files


def _placed(wheel: Wheel, member: Member, scheme: Scheme, where: str) -> Planned:
    mode = PROGRAM_MODE if member.executable else FILE_MODE
    if not member.name.startswith(wheel.data_folder + "/"):
        return Planned(f"{scheme.site_packages}/{member.name}", mode, member)
    key, _, rest = member.name.removeprefix(wheel.data_folder + "/").partition("/")
    root = scheme.of_data(wheel, key)
    if root is None or not rest:
        raise WheelInvalid(f"{member.name} belongs to no known installation folder", where=where)
    is_script = key == "scripts"
    return Planned(f"{root}/{rest}", PROGRAM_MODE if is_script else mode, member, rewrite=is_script)


def _console_scripts(wheel: Wheel, scheme: Scheme, where: str) -> list[Planned]:
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(wheel.entry_points)
        sections = ("console_scripts", "gui_scripts")
        entries = {
            name: target
            for section in sections
            if parser.has_section(section)
            for name, target in parser[section].items()
        }
    except configparser.Error as error:
        raise WheelInvalid(f"entry_points.txt cannot be read: {error.message}", where=where) from error
    return [_script(name, target, scheme, where) for name, target in entries.items()]


def _script(name: str, target: str, scheme: Scheme, where: str) -> Planned:
    check_path(name, where=f"{where}, entry_points.txt")
    found = _OBJECT_REFERENCE.match(target.strip())
    if "/" in name or not found:
        raise WheelInvalid(f"entry point {name[:100]!r} = {target[:200]!r} is not module:attribute", where=where)
    attr = found["attr"]
    text = _SCRIPT.format(
        interpreter=scheme.interpreter, module=found["module"], first=attr.partition(".")[0], attr=attr
    )
    return Planned(f"{scheme.scripts}/{name}", PROGRAM_MODE, content=text.encode())


def rewrite_script(content: bytes, scheme: Scheme) -> bytes:
    """A script of ``.data/scripts`` with ``#!python`` replaced by the image's interpreter."""
    if not content.startswith(b"#!python"):
        return content
    _, newline, rest = content.partition(b"\n")
    return b"#!" + scheme.interpreter.encode() + newline + rest
