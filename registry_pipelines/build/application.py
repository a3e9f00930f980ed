"""The application folder as a layer: what is taken along, what is left out, what is refused.

Patterns follow ``.dockerignore``: one a line, from the folder's root, ``*`` and ``?`` within a name, ``**`` across
names, ``!`` takes back, a matched folder takes its content along, the last match wins.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.build.content import Item
from registry_pipelines.build.entries import FILE_MODE, FOLDER_MODE, PROGRAM_MODE
from registry_pipelines.errors import InputError

IGNORE_FILES = (".imageignore", ".dockerignore")
"""The first that exists is used."""

ALWAYS_IGNORED = (
    *("**/.git", "**/.hg", "**/.svn", "**/__pycache__", "**/*.pyc", "**/.venv", "**/.DS_Store"),
    *("**/.mypy_cache", "**/.ruff_cache", "**/.pytest_cache", "**/.registry-pipelines", *IGNORE_FILES),
)

MAX_FILES = 100_000
MAX_IGNORE_BYTES = 1024 * 1024
"""A larger folder or pattern file is a mistake (a data set, a virtual environment) and is refused."""


@dataclass(frozen=True)
class Pattern:
    """One compiled line."""

    expression: re.Pattern[str]
    takes_back: bool


def read_patterns(text: str) -> list[Pattern]:
    """Compile the lines of an ignore file."""
    patterns = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        takes_back = line.startswith("!")
        line = line.lstrip("!").strip().strip("/")
        patterns.append(Pattern(re.compile(_translate(line) + r"(/.*)?\Z", re.DOTALL), takes_back))
    return patterns


def _translate(pattern: str) -> str:
    expression = ""
    position = 0
    while position < len(pattern):
        if pattern.startswith("**/", position):
            expression += r"(?:.*/)?"
            position += 3
        elif pattern.startswith("**", position):
            expression += r".*"
            position += 2
        else:
            letter = pattern[position]
            expression += {"*": r"[^/]*", "?": r"[^/]"}.get(letter) or re.escape(letter)
            position += 1
    return expression


def is_ignored(path: str, patterns: list[Pattern]) -> bool:
    """Whether the last pattern that matches leaves the path out."""
    ignored = False
    for pattern in patterns:
        if pattern.expression.match(path):
            ignored = not pattern.takes_back
    return ignored


def application_items(folder: Path, workdir: str) -> list[Item]:
    """The folder's entries below ``workdir``. Owner, times and all but the executable bit are dropped.

    Raises InputError: no folder, a symbolic link that leaves it, a device or socket, a name that is not UTF-8, too many
    files.
    """
    if not folder.is_dir():
        raise InputError("the application folder does not exist", where=str(folder))
    patterns = read_patterns("\n".join(ALWAYS_IGNORED)) + read_patterns(_ignore_text(folder))
    prefix = workdir.strip("/")
    items = [Item(prefix, FOLDER_MODE, folder=True)] if prefix else []
    for relative, entry in _walk(folder, "", patterns):
        if len(items) > MAX_FILES:
            raise InputError(f"more than {MAX_FILES} files", where=str(folder), do="Leave some out in .imageignore")
        items.append(_item(folder, relative, entry, f"{prefix}/{relative}".lstrip("/")))
    return items


def _ignore_text(folder: Path) -> str:
    for name in IGNORE_FILES:
        path = folder / name
        if path.is_file():
            if path.stat().st_size > MAX_IGNORE_BYTES:
                raise InputError(f"the file is larger than {MAX_IGNORE_BYTES} bytes", where=str(path))
            try:
                return path.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"the file cannot be read: {error}", where=str(path)) from error
    return ""


def _walk(folder: Path, prefix: str, patterns: list[Pattern]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"the folder cannot be read: {error.strerror}", where=str(folder)) from error
    takes_back = any(pattern.takes_back for pattern in patterns)
    for entry in entries:
        relative = prefix + entry.name
        ignored = is_ignored(relative, patterns)
        if entry.is_dir(follow_symlinks=False):
            if not ignored:
                yield relative, entry
            if not ignored or takes_back:
                yield from _walk(Path(entry.path), relative + "/", patterns)
        elif not ignored:
            yield relative, entry


def _item(folder: Path, relative: str, entry: os.DirEntry[str], target: str) -> Item:
    path = Path(entry.path)
    try:
        relative.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the name {relative!r} is not UTF-8", where=str(folder)) from error
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        return Item(target, link=_checked_link(folder, path))
    if stat.S_ISDIR(mode):
        return Item(target, FOLDER_MODE, folder=True)
    if not stat.S_ISREG(mode):
        raise InputError(
            "only files, folders and links can be packed", where=str(path), do="Leave it out in .imageignore"
        )
    return Item(target, PROGRAM_MODE if mode & 0o111 else FILE_MODE, source=path)


def _checked_link(folder: Path, path: Path) -> str:
    link = str(path.readlink())
    end = os.path.normpath(os.path.join(path.parent, link))  # noqa: PTH118 - the text decides, not the disk
    root = os.path.normpath(folder)
    if os.path.isabs(link) or not (end == root or end.startswith(root + os.sep)):  # noqa: PTH117
        raise InputError(
            f"the link to {link!r} leaves the application folder",
            where=str(path),
            do="Copy what it names, or leave it out",
        )
    return link
