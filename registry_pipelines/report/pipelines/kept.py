"""Generated files in which people may write: what stands between the marks is kept when the file is written again.

The first lines hold the digest of everything else, so that a line which was changed outside of the marks is found
before it is lost.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry_pipelines.errors import InputError

COMMAND = "registry-pipelines report pipelines"
_HEAD = f"# Written by `{COMMAND}` from "
_DIGEST = re.compile(r"# sha256:([0-9a-f]{64})\Z")
_BEGIN = re.compile(r"\s*# >>> yours: ([a-z-]+)\b")
_END = re.compile(r"\s*# <<< yours\b")
MAX_BYTES = 4 << 20
MOST_SHOWN = 3


@dataclass(frozen=True)
class Yours:
    """A place for lines of people's own. name: of it in the file. column: of its marks. what: what may stand there."""

    name: str
    column: int
    what: str


Line = str | Yours


@dataclass(frozen=True)
class Existing:
    """A file as it is. kept: lines of each place that has any. changed: whether somebody wrote outside of the marks."""

    kept: Mapping[str, Sequence[str]]
    generated: Sequence[str]
    changed: bool


def written(lines: Sequence[Line], configuration: str, kept: Mapping[str, Sequence[str]]) -> str:
    """The file. configuration: its name, for the first line. kept: of each place, what people wrote there."""
    body: list[str] = []
    bare: list[str] = []
    for line in lines:
        if isinstance(line, str):
            body.append(line)
            bare.append(line)
            continue
        begin = f"{' ' * line.column}# >>> yours: {line.name} ({line.what}; kept when this file is written again)"
        end = f"{' ' * line.column}# <<< yours"
        body += [begin, *kept.get(line.name, ()), end]
        bare += [begin, end]
    head = [
        f"{_HEAD}{configuration}: change that, or write between the marks `yours`.",
        f"# sha256:{_digest(bare)}",
    ]
    return "\n".join([*head, *body]) + "\n"


def read(text: str, *, where: str) -> Existing:
    """Take a file apart. Raises InputError: nobody of ours wrote it, or its marks are broken."""
    lines = text.removesuffix("\n").split("\n")  # no other end of a line: people may have any in theirs
    found = _DIGEST.match(lines[1]) if len(lines) > 1 and lines[0].startswith(_HEAD) else None
    if found is None:
        raise InputError(
            "the file was not written by this command", where=where, do="Move it away, or write elsewhere with --to"
        )
    kept: dict[str, list[str]] = {}
    bare: list[str] = []
    place: str | None = None
    for number, line in enumerate(lines[2:], 3):
        if begin := _BEGIN.match(line):
            if place is not None or begin[1] in kept:
                raise InputError(f"line {number}: a mark `yours` begins inside another, or twice", where=where)
            place = begin[1]
            kept[place] = []
            bare.append(line)
        elif _END.match(line):
            if place is None:
                raise InputError(f"line {number}: a mark ends that never began", where=where)
            place = None
            bare.append(line)
        elif place is None:
            bare.append(line)
        else:
            kept[place].append(line)
    if place is not None:
        raise InputError(f"the mark `yours: {place}` never ends", where=where, do="Write `# <<< yours` behind it")
    return Existing({name: own for name, own in kept.items() if own}, bare, _digest(bare) != found[1])


def renewed(lines: Sequence[Line], configuration: str, before: str | None, *, where: str, over: bool = False) -> str:
    """The file as it should be now, with what people wrote in the one before. over: lines that they changed outside of
    the marks go. Raises InputError: such lines, or a place that is no more."""
    if before is None:
        return written(lines, configuration, {})
    existing = read(before, where=where)
    fresh = written(lines, configuration, {}).split("\n")
    if existing.changed and not over:
        lost = [line.strip() for line in existing.generated if line.strip() and line not in fresh]
        named = f", for instance: {' | '.join(lost[:MOST_SHOWN])}" if lost else ""
        raise InputError(
            f"lines outside of the marks `yours` were changed by hand{named}",
            where=where,
            do="Move what is yours between the marks, or give --over to lose it",
        )
    places = {line.name for line in lines if isinstance(line, Yours)}
    if homeless := sorted(existing.kept.keys() - places):
        raise InputError(
            f"the place `yours: {homeless[0]}` is no more, and has lines of yours",
            where=where,
            do="Move them to another place of the file",
        )
    return written(lines, configuration, existing.kept)


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


__all__ = ["MAX_BYTES", "Existing", "Line", "Yours", "read", "renewed", "written"]
