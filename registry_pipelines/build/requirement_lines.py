"""Lines of requirements as pip reads them: joined, without comments, nested files included.

Source: pip's "Requirements File Format". A line that ends with a backslash goes on in the next, unless that is a
comment; a comment begins with ``#`` at the start or behind white space; ``${NAME}`` is a variable of the environment.
"""

from __future__ import annotations

import codecs
import locale
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from registry_pipelines.errors import RequirementsInvalid

MAX_FILE_BYTES = 16 * 1024**2
"""A file of ten thousand requirements with eight hashes each stays below 10 MB."""

MAX_DEPTH = 16
"""Files within files; people use two or three."""

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_CODING = re.compile(rb"coding[:=]\s*([-\w.]+)")
_OPTION = re.compile(r"(--?[a-z-]+)(?:\s*=\s*|\s+|(?<=^-[a-z]))(.*)$", re.DOTALL)
_NESTED = ("-r", "--requirement")
_CONSTRAINT = ("-c", "--constraint")
_EDITABLE = ("-e", "--editable")
_LINKS = ("-f", "--find-links")
_SOURCES = ("-i", "--index-url", "--pypi-url", "--extra-index-url", "--no-index", "--trusted-host", *_LINKS)
_VERSION_CONTROL = re.compile(r"(?:^|@\s*)(git|hg|svn|bzr)\+")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_BEHIND = re.compile(r"\s--[a-z]")
_WHEEL = re.compile(r"(?P<path>[^;]+?\.whl)(?P<rest>(?:\[[^\]]*\])?(?:\s+(?:;|--).*)?)$", re.DOTALL)
"""A wheel by its path: pip takes extras, a marker and options behind it."""


class Line(msgspec.Struct, frozen=True):
    """One logical line. text: joined, without comment, variables as written. folder: what paths are relative to."""

    text: str
    where: str
    folder: Path
    constraint: bool = False
    """Whether it only limits versions."""

    @property
    def option(self) -> tuple[str, str]:
        """Name and value of a line that is an option; two empty texts for a requirement."""
        if not self.text.startswith("-"):
            return "", ""
        match = _OPTION.match(self.text)
        return (match[1], match[2].strip()) if match else (self.text, "")

    @property
    def is_nested(self) -> bool:
        """Whether it names a file of requirements that pip has to fetch."""
        return self.option[0] in _NESTED

    @property
    def is_source(self) -> bool:
        """Whether it says where packages come from."""
        return self.option[0] in _SOURCES

    @property
    def expanded(self) -> str:
        """The text as pip reads it, variables filled in; it may hold passwords."""
        return _expand(self.text)

    @property
    def names_a_file(self) -> bool:
        """Whether it is a requirement with an address or path in place of versions."""
        requirement = _read(_BEHIND.split(self.expanded)[0])
        return not self.option[0] and (requirement is None or bool(requirement.url))

    def pin(self) -> tuple[str, str] | None:
        """Normalised name and version of a requirement with exactly one ``==``; else None."""
        requirement = _read(_expand(_BEHIND.split(self.text)[0]))
        if requirement is None or requirement.url:
            return None
        pins = [part.version for part in requirement.specifier if part.operator == "==" and "*" not in part.version]
        return (str(canonicalize_name(requirement.name)), pins[0]) if len(pins) == 1 else None


def asked_for(lines: Sequence[str], file: Path | None, *, folder: Path) -> list[str]:
    """The requirements themselves, as whoever reads of a build may see them. Raises as :func:`read_lines`."""
    found = read_lines(lines, file, folder=folder)
    return [redacted(line.text) for line in found if not line.option[0] and not line.constraint]


def read_lines(lines: Sequence[str], file: Path | None, *, folder: Path) -> list[Line]:
    """All lines of a specification, those of nested requirement and constraint files in the place of the line that
    names them. Files that a URL names stay a line: pip reads them.

    folder: what paths in ``lines`` are relative to. Raises RequirementsInvalid for files that cannot be read, and for
    what is no wheel and would have to be built (editable ones, version control, folders, source archives), and for the
    name of a file in place of a package.
    """
    parsed = list(_logical(list(lines), "requirements", folder, constraint=False, depth=0))
    if file is not None:
        parsed += _file(file, constraint=False, depth=0)
    for line in parsed:
        _refuse_what_is_no_address(line)
        _refuse_what_names_a_list(line)
        _refuse_what_is_built(line)
    return parsed


def read_constraints(names: Sequence[str], *, folder: Path) -> list[Line]:
    """All lines of constraint files that settings of pip name. Raises RequirementsInvalid."""
    lines = [f"--constraint {name}" for name in names]
    return list(_logical(lines, "PIP_CONSTRAINT", folder, constraint=True, depth=0))


def absolute(lines: Sequence[str], folder: Path) -> list[str]:
    """The lines, fit for a file that lies elsewhere: paths they name are absolute."""
    rewritten = []
    for _, text in _joined(list(lines)):
        line = Line(_COMMENT.sub("", text).strip(), "", folder)
        name, value = line.option
        path = _local(value, folder) if name in _NESTED + _CONSTRAINT + _LINKS else None
        if path is not None and path.exists():
            rewritten.append(f"{name} {path}")
        else:
            wheel = _WHEEL.match(line.expanded)
            there = wheel is not None and (folder / wheel["path"]).is_file()
            rewritten.append(f"{folder / wheel['path']}{wheel['rest']}" if wheel and there else text)
    return rewritten


def local_links(lines: Sequence[Line]) -> list[Path] | None:
    """Local folders and pages that lines take wheels from; None where one is elsewhere, or a line names a file of its
    own: a wheel, or requirements at an address."""
    links = []
    for line in lines:
        name, value = line.option
        if name in ("-i", "--index-url", "--pypi-url", "--extra-index-url", *_NESTED, *_CONSTRAINT):
            return None
        if line.names_a_file:
            return None
        if name in _LINKS:
            path = _local(value, line.folder)
            if path is None:
                return None
            links.append(path)
    return links


def source_options(lines: Sequence[Line]) -> list[str]:
    """Lines that say where packages come from, fit for a file that lies elsewhere."""
    options = []
    for line in lines:
        name, value = line.option
        path = _local(value, line.folder) if name in _LINKS else None
        if line.is_source:
            options.append(f"{name} {path}" if path and path.exists() else line.text)
    return options


def _logical(lines: list[str], where: str, folder: Path, *, constraint: bool, depth: int) -> Iterator[Line]:
    for number, text in _joined(lines):
        text = _COMMENT.sub("", text).strip()
        if not text:
            continue
        line = Line(text, f"{where}, line {number}", folder, constraint)
        name, value = line.option
        if name in _NESTED + _CONSTRAINT and "://" not in _expand(value):
            yield from _file(folder / _expand(value), constraint=constraint or name in _CONSTRAINT, depth=depth + 1)
        else:
            yield line


def _file(path: Path, *, constraint: bool, depth: int) -> Iterator[Line]:
    if depth > MAX_DEPTH:
        raise RequirementsInvalid(f"requirement files name each other more than {MAX_DEPTH} deep", where=str(path))
    yield from _logical(_text(path).splitlines(), str(path), path.parent, constraint=constraint, depth=depth)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise RequirementsInvalid(f"it has more than {MAX_FILE_BYTES} bytes", where=str(path))
        return _decode(raw)
    except (OSError, ValueError, LookupError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequirementsInvalid(f"the requirements file cannot be read: {reason}", where=str(path)) from error


def _decode(raw: bytes) -> str:
    """A byte order mark, else what one of the first two lines says (PEP 263), else UTF-8, else the locale's."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if raw.startswith(mark):
            return raw.removeprefix(mark).decode(encoding)
    for line in raw.split(b"\n")[:2]:
        said = _CODING.search(line) if line.startswith(b"#") else None
        if said:
            return raw.decode(said[1].decode("ascii"))
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode(locale.getpreferredencoding(False))


def _joined(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Logical lines with the number of their first one."""
    begun: list[str] = []
    first = 1
    for number, line in enumerate(lines, 1):
        comment = line.lstrip().startswith("#")
        if not begun:
            first = number
        if not line.endswith("\\") or comment:
            yield first, "".join([*begun, f" {line}" if comment and begun else line])
            begun = []
        else:
            begun.append(line.strip("\\"))
    if begun:
        yield first, "".join(begun)


def _expand(text: str) -> str:
    return _VARIABLE.sub(lambda variable: os.environ.get(variable[1]) or variable[0], text)


def _read(text: str) -> Requirement | None:
    try:
        return Requirement(text.strip())
    except InvalidRequirement:
        return None


def _local(value: str, folder: Path) -> Path | None:
    text = _expand(value)
    parts = urlsplit(text)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in text else folder / text


def _refuse_what_is_no_address(line: Line) -> None:
    for address in _ADDRESS.findall(line.expanded):
        try:
            urlsplit(address)
        except ValueError as error:
            raise RequirementsInvalid(
                f"{redacted(line.text)!r} has an address that cannot be read: {error}", where=line.where
            ) from error


def _refuse_what_names_a_list(line: Line) -> None:
    """pip takes ``requirements.txt`` without ``-r`` for a package, and an index may have one of that name."""
    if line.text.lower().endswith(".txt") and not line.option[0] and not line.names_a_file:
        raise RequirementsInvalid(
            f"{line.text!r} is the name of a file and no package",
            where=line.where,
            do=f"Write -r {line.text}, or `requirements_file`",
        )


def _refuse_what_is_built(line: Line) -> None:
    if line.option[0] in _EDITABLE or (not line.option[0] and _is_built(line)):
        raise RequirementsInvalid(
            f"{redacted(line.text)!r} is no wheel and would have to be built",
            where=line.where,
            do="Build a wheel of it (`pip wheel`) and name that, or its folder in `wheels`",
        )


def refuse_other_sources(lines: Sequence[Line]) -> None:
    """Raise RequirementsInvalid for a line that says where packages come from, where that is told already (``index``):
    an option for it, and an address in place of a project."""
    for line in lines:
        name, value = line.option
        elsewhere = name in (*_NESTED, *_CONSTRAINT) and "://" in _expand(value)
        requirement = None if name else _read(_BEHIND.split(line.expanded)[0])
        address = (requirement.url or "") if requirement else "" if name else line.expanded
        if line.is_source or elsewhere or ("://" in address and not address.startswith("file:")):
            raise RequirementsInvalid(
                f"{redacted(line.text)!r} says where packages come from, and `index` of the build does",
                where=line.where,
                do="Take it out; name an index of `packages` in `index`, and publish there what is at an address",
            )


def _is_built(line: Line) -> bool:
    text = _expand(_BEHIND.split(line.text)[0].partition(" ;")[0]).strip()
    if _VERSION_CONTROL.search(text):
        return True
    requirement = _read(text)
    target = requirement.url if requirement else text
    if not target:
        return False
    path = _local(target.partition("#")[0], line.folder)
    if requirement is None and path is not None and not path.exists():
        return False  # no requirement and no path: pip says what is wrong with it
    return not unquote(urlsplit(target).path).endswith(".whl")


def redacted(text: str) -> str:
    """Without user names and passwords in addresses, and without queries: signed addresses are as good as passwords."""
    return _QUERY.sub(r"\1", CREDENTIALS.sub("://", text))


_QUERY = re.compile(r"(://[^\s?#]+)\?[^\s#]*")

CREDENTIALS = re.compile(r"://(?:[^/\s]+@|[^/@\s:\[]+:(?!\d+/)[^@\s]*@)")
"""User name and password in addresses, as pip prints them; also a password that is not escaped as it should be."""
