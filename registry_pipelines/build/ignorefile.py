"""``.dockerignore`` as Docker reads it: which paths of a folder stay out of an image.

Sources: the Dockerfile reference (".dockerignore file"), and what Docker's own reader and matcher do
(``moby/patternmatcher`` 0.6 with the walk of BuildKit, the builder of Docker since 23.0): one pattern a line, made a
clean path, ``*`` and ``?`` in a name, ``**`` across, ``[a-z]``, ``[^a]``, ``\\`` before a special character, ``!``
takes back, a matched folder takes its content along, the last match wins. A line that is not understood is an error: it
usually names a secret.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from registry_pipelines.errors import InputError

MAX_LINE_BYTES = 65_535
"""Docker refuses longer lines too."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""White space of Unicode, which Go trims; Python's own set has four more."""

Matches = tuple[bool, ...]
"""For each pattern whether it matched a folder, or a folder above it."""


@dataclass(frozen=True)
class Pattern:
    """One compiled line."""

    expression: re.Pattern[str]
    """Matches a whole path, relative to the folder."""
    takes_back: bool
    literal: str = ""
    """The one path it names, when it has no wildcard."""


@dataclass(frozen=True)
class Patterns:
    """All lines, in their order."""

    lines: tuple[Pattern, ...]

    def __add__(self, other: Patterns) -> Patterns:
        return Patterns(self.lines + other.lines)

    def ignores(self, path: str, above: Matches = ()) -> tuple[bool, Matches]:
        """Whether the path stays out, and what to hand on as ``above`` for the content of this folder.

        above: the answer for the folder it stands in; nothing at the top. As in BuildKit, a line that could not change
        the answer for a folder is not remembered as matching it.
        """
        ignored = False
        matches = [*above] or [False] * len(self.lines)
        for number, pattern in enumerate(self.lines):
            # A line that would only repeat the answer is skipped; one that matched above holds in any case.
            if not matches[number] and pattern.takes_back == ignored:
                matches[number] = pattern.expression.match(path) is not None
            if matches[number]:
                ignored = not pattern.takes_back
        return ignored, tuple(matches)

    def leaves_out(self, path: str) -> bool:
        """Whether the path stays out, by itself or with a folder above it."""
        answer = False
        above: Matches = ()
        end = -1
        while end < len(path):
            end = path.find("/", end + 1)
            end = len(path) if end < 0 else end
            answer, above = self.ignores(path[:end], above)
        return answer

    def may_take_back_below(self, folder: str) -> bool:
        """Whether something inside an ignored folder may be taken: else nobody needs to look."""
        return any(
            pattern.takes_back and (not pattern.literal or pattern.literal.startswith(folder + "/"))
            for pattern in self.lines
        )


def read_patterns(raw: bytes, where: str) -> Patterns:
    """Compile an ignore file.

    where: its name, for errors. Raises InputError with line number, text and what to do: for what Docker refuses, and
    for the few forms that Docker's matcher reads in another way than its reference says.
    """
    lines = []
    for number, line in enumerate(raw.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), 1):
        if line.startswith(b"#"):
            continue
        try:
            pattern = _read_line(line)
        except _NotUnderstood as error:
            shown = line[:200].decode(errors="backslashreplace").strip()
            raise InputError(
                f"line {number} is not understood: {shown!r}: {error}",
                where=where,
                do=f"{error.do}; a line that is passed over may be the one that keeps a secret out of the image",
            ) from error
        if pattern is not None:
            lines.append(pattern)
    return Patterns(tuple(lines))


class _NotUnderstood(Exception):
    def __init__(self, reason: str, do: str) -> None:
        super().__init__(reason)
        self.do = do


def _read_line(raw: bytes) -> Pattern | None:
    if len(raw) > MAX_LINE_BYTES:
        raise _NotUnderstood(f"it is longer than {MAX_LINE_BYTES} bytes", "Shorten it")
    try:
        line = raw.decode().strip(WHITE_SPACE)
    except UnicodeDecodeError as error:
        raise _NotUnderstood("it is not UTF-8", "Save the file as UTF-8") from error
    if not line:
        return None
    mark = "!" if line.startswith("!") else ""
    cleaned = _clean(line.removeprefix(mark).strip(WHITE_SPACE))
    if len(cleaned) > 1:
        cleaned = cleaned.removeprefix("/")
    # Docker cleans the line once more, with its "!": "/!name" arrives here as an exception.
    cleaned = _clean((mark + cleaned).strip(WHITE_SPACE) or ".")
    if cleaned == "!":
        raise _NotUnderstood('nothing stands behind "!"', "Name what is taken back, or remove the line")
    return _compiled(cleaned.removeprefix("!"), takes_back=cleaned.startswith("!"))


def _clean(path: str) -> str:
    """Go's ``path.Clean``."""
    cleaned = posixpath.normpath(path) if path else ""
    return "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned


def _compiled(pattern: str, *, takes_back: bool) -> Pattern:
    tokens = _tokens(pattern)
    wild = [index for index, (kind, _) in enumerate(tokens) if kind != "text"]
    if not wild:
        expression, literal = re.escape(pattern), pattern
    elif wild == [0] and tokens[0][0] == "all":
        # "**name" and "**/name": whatever ends so.
        ending = pattern[2:]
        expression, literal = r"[\s\S]*" + re.escape(ending), ""
        if ending.startswith("/"):
            expression = rf"(?:{expression}|{re.escape(ending[1:])})"
    elif wild == [len(tokens) - 1] and tokens[-1][0] == "all":
        expression, literal = re.escape(pattern[:-2]) + r"[\s\S]*", ""
    else:
        expression, literal = _expression(tokens), ""
    return Pattern(re.compile(expression + r"\Z"), takes_back, literal)


def _expression(tokens: list[tuple[str, str]]) -> str:
    expression = ""
    for index, (kind, text) in enumerate(tokens):
        if kind == "text" and text == "^":
            raise _NotUnderstood('"^" beside a wildcard has no meaning of its own', r'Write "\^"')
        if kind == "all":
            # Docker's matcher: "." is no line break, and "**" in the middle ends at a folder.
            expression += r"[^\n]*" if index == len(tokens) - 1 else r"(?:[^\n]*/)?"
        else:
            expression += re.escape(text) if kind in ("text", "escaped") else text
    return expression


def _tokens(pattern: str) -> list[tuple[str, str]]:
    """(kind, text) of every part: ``text``, ``escaped`` (a character after a backslash, or ``]``), ``all`` (``**`` with
    the slash behind it), ``part`` (an expression for ``*``, ``?`` or a class)."""
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(pattern):
        letter = pattern[position]
        if pattern.startswith("**", position):
            position += 3 if pattern.startswith("**/", position) else 2
            tokens.append(("all", ""))
        elif letter in "*?":
            tokens.append(("part", "[^/]*" if letter == "*" else "[^/]"))
            position += 1
        elif letter == "[":
            part, position = _class(pattern, position + 1)
            tokens.append(("part", part))
        elif letter == "\\":
            tokens.append(("escaped", _escaped(pattern, position + 1)))
            position += 2
        else:
            # A "]" alone means itself, but makes Docker read the line as an expression.
            tokens.append(("escaped" if letter == "]" else "text", letter))
            position += 1
    return tokens


def _class(pattern: str, position: int) -> tuple[str, int]:
    """The expression of a ``[...]`` that was opened, and where it ends.

    Go's ``filepath.Match``: at least one member or range, no bare ``-`` or ``]`` among them."""
    negated = pattern.startswith("^", position)
    position += negated
    members = ""
    while not (members and pattern.startswith("]", position)):
        low, position = _member(pattern, position)
        members += re.escape(low)
        if pattern.startswith("-", position):
            high, position = _member(pattern, position + 1)
            if high < low:
                raise _NotUnderstood(f"the range {low}-{high} is empty", "Name the lower end first")
            members += "-" + re.escape(high)
    return f"[{'^' if negated else ''}{members}]", position + 1


def _member(pattern: str, position: int) -> tuple[str, int]:
    letter = pattern[position : position + 1]
    if letter == "\\":
        return _escaped(pattern, position + 1), position + 2
    if letter in ("", "-", "]"):
        raise _NotUnderstood('a "[" that does not begin a class of characters', r'Write "\[" for the character itself')
    if letter in "*?" or pattern.startswith("[:", position):
        raise _NotUnderstood(
            f'"{letter}" inside brackets is read differently by Docker and its reference',
            f'Write "\\{letter}" without them',
        )
    return letter, position + 1


def _escaped(pattern: str, position: int) -> str:
    letter = pattern[position : position + 1]
    if not letter:
        raise _NotUnderstood("it ends with a backslash", r'Write "\\" for the character itself')
    if letter.isalnum() or not letter.isascii():
        raise _NotUnderstood(
            f'"\\{letter}" is read differently by Docker and its reference',
            'Write "/" between folders, and letters alone',
        )
    return letter
