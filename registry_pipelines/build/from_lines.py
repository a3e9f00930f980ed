"""The images that a Dockerfile names, in ``FROM`` and ``COPY --from=``: found, and written otherwise.

Source: Docker's Dockerfile reference ("FROM", "ARG", "COPY --from", "Parser directives"). Variables are those of
``ARG`` lines before the first ``FROM``, with their defaults. What stays as it is: ``scratch``, stages of the file and
what a variable without default decides, which is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from registry_pipelines.errors import InputError

MAX_DOCKERFILE_BYTES = 1024 * 1024
"""Of a file that is read; large ones have some hundred lines."""

_FROM = re.compile(r"(\s*FROM\s+(?:--[a-z]+=\S+\s+)*)(\S+)((?:\s+AS\s+(\S+))?\s*)\Z", re.IGNORECASE)
_ARG = re.compile(r"\s*ARG\s+([A-Za-z_]\w*)(?:=(\"[^\"]*\"|'[^']*'|\S*))?\s*\Z", re.IGNORECASE)
_COPY = re.compile(r"(\s*(?:COPY|ADD)\s+(?:--[a-z]+(?:=\S+)?\s+)*?--from=)(\S+)(\s.*)\Z", re.IGNORECASE | re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::-([^}]*))?\}|([A-Za-z_]\w*))")


class FromLine(msgspec.Struct, frozen=True):
    """One image that is named. line: 1-based. written: as the file has it. image: with variables replaced; empty where
    one has no value. now: what stands there afterwards."""

    line: int
    written: str
    image: str
    now: str = ""
    why: str = ""
    """Why it stays."""


def rewrite(text: str, change: Callable[[str], str]) -> tuple[str, list[FromLine]]:
    """A Dockerfile with its images as ``change`` says, and what became of each. Everything else stays byte for byte.
    Raises what ``change`` raises, and InputError for a file without ``FROM``."""
    arguments: dict[str, str | None] = {}
    stages: set[str] = set()
    found: list[FromLine] = []
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        body = line.rstrip("\r\n")
        ending = line[len(body) :]
        if not stages and (argument := _ARG.match(body)):
            arguments[argument[1]] = argument[2].strip("\"'") if argument[2] is not None else None
        elif match := _FROM.match(body):
            one = _named(number + 1, match[2], arguments, stages, change)
            found.append(one)
            lines[number] = f"{match[1]}{one.now or one.written}{match[3]}{ending}"
            stages |= {str(len(stages)), *([match[4].lower()] if match[4] else [])}
        elif stages and (match := _COPY.match(body)):
            one = _named(number + 1, match[2], arguments, stages, change)
            if one.image and not one.why:
                found.append(one)
                lines[number] = f"{match[1]}{one.now or one.written}{match[3]}{ending}"
    if not stages:
        raise InputError("there is no FROM line", do="Give a Dockerfile")
    return "".join(lines), found


def _named(
    line: int, written: str, arguments: dict[str, str | None], stages: set[str], change: Callable[[str], str]
) -> FromLine:
    image = _filled(written, arguments)
    if not image:
        return FromLine(line, written, "", why="a variable in it has no value")
    if image == "scratch" or image.lower() in stages:
        return FromLine(line, written, image, why="scratch" if image == "scratch" else "a stage of the file")
    return FromLine(line, written, image, now=change(image))


def _filled(text: str, arguments: dict[str, str | None]) -> str:
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        known = arguments.get(match[1] or match[3]) or match[2]
        missing = missing or not known
        return known or ""

    filled = _VARIABLE.sub(value, text)
    return "" if missing else filled
