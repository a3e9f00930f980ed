"""Read a Dockerfile as BuildKit does: lines, directives, heredocs, flags; what is wrong with its file and line.

Sources: Docker's Dockerfile reference and what BuildKit's own parser takes. Ours, because no parser of the package
index holds: ``dockerfile-parse`` 2.0.1 takes the lines of a heredoc for instructions and ends an instruction at an
empty line within; ``dockerfile`` 3.4.0 is BuildKit's own in Go, which gives no line with an error, loses flags and
heredocs of ONBUILD, does not go on in a forked process, and has no wheels for Linux on arm64 or with musl. The tests
hold this one against it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from registry_pipelines.build.dockerfile.instructions import BLANK, Dockerfile, Flag, Heredoc, Instruction, Stage
from registry_pipelines.build.dockerfile.rules import JSON_FORMS, Wrong, check_instruction
from registry_pipelines.build.dockerfile.variables import with_values
from registry_pipelines.build.from_lines import MAX_DOCKERFILE_BYTES
from registry_pipelines.build.ignorefile import MAX_LINE_BYTES, WHITE_SPACE
from registry_pipelines.errors import InputError

MAX_STAGES = 1000
MAX_FLAGS = 1000
"""Of one instruction; more of either is no Dockerfile of people, and takes minutes to look through."""

HEREDOCS = frozenset(("ADD", "COPY", "RUN"))

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*\Z")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]+)\Z")


def read_dockerfile(path: Path) -> str:
    """The text of a file. Raises InputError: it cannot be read, or is larger than MAX_DOCKERFILE_BYTES."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_DOCKERFILE_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"the Dockerfile cannot be read: {error.strerror}", where=str(path), do="Name it with `file`"
        ) from error
    if len(raw) > MAX_DOCKERFILE_BYTES:
        raise InputError(f"the Dockerfile is larger than {MAX_DOCKERFILE_BYTES} bytes", where=str(path))
    # What is no UTF-8 stands in comments and names; the engine gets the bytes.
    return raw.decode(errors="replace")


def parse_dockerfile(text: str, *, args: Mapping[str, str] | None = None, where: str = "Dockerfile") -> Dockerfile:
    """Parse and check a whole file. args: build arguments that are given, by name. where: its name, for errors.

    Raises InputError with file and line: what BuildKit refuses before it asks for an image. Paths, images and mounts
    are the engine's to check.
    """
    lines = text.removeprefix("\ufeff").split("\n")
    reader = _Lines(lines if lines[-1] else lines[:-1], where)
    instructions = _instructions(reader)
    arguments, stages = _staged(instructions, where)
    filled_arguments, filled_stages = with_values(arguments, stages, args or {}, reader.escape)
    _check_sources(filled_stages, where)
    return Dockerfile(
        stages=filled_stages,
        arguments=filled_arguments,
        syntax=reader.directives.get("syntax", ("", 0))[0],
        syntax_line=reader.directives.get("syntax", ("", 0))[1],
        escape=reader.escape,
        where=where,
        given=tuple(args or {}),
    )


class _Lines:
    """The file's lines, and what its first ones say of the others."""

    def __init__(self, lines: list[str], where: str) -> None:
        self.lines, self.where = lines, where
        self.next = 0
        self.escape = "\\"
        self.directives: dict[str, tuple[str, int]] = {}
        self._read_directives()
        mark = re.escape(self.escape)
        self.continued = re.compile(rf"(?:(?<!{mark})|(?<=^)){mark}[ \t]*\Z")

    def take(self) -> str:
        """The next line, as it is."""
        line = self.lines[self.next]
        self.next += 1
        if len(line.encode()) >= MAX_LINE_BYTES:
            raise self.wrong(self.next, f"the line is longer than {MAX_LINE_BYTES} bytes, which BuildKit refuses")
        return line

    def is_at_end(self) -> bool:
        return self.next >= len(self.lines)

    def wrong(self, line: int, what: str, do: str = "") -> InputError:
        return InputError(what, where=f"{self.where}:{line}", do=do)

    def _read_directives(self) -> None:
        start = 1 if self.lines and self.lines[0].startswith("#!") else 0
        for number, line in enumerate(self.lines[start:], start + 1):
            match = _DIRECTIVE.match(line.lstrip(WHITE_SPACE).rstrip("\r\n"))
            name = match[1].lower() if match else ""
            if not match or name not in _DIRECTIVES:
                return
            if name in self.directives:
                raise self.wrong(number, f"the directive {name} stands twice", "Remove one")
            self.directives[name] = (match[2], number)
            if name == "escape":
                if match[2] not in ("\\", "`"):
                    raise self.wrong(number, f"{match[2]!r} cannot be the escape character", "Write ` or \\")
                self.escape = match[2]


def _instructions(reader: _Lines) -> list[Instruction]:
    found = []
    while not reader.is_at_end():
        start = reader.next
        text = _logical_line(reader)
        if text is None:
            continue
        if not text.strip(WHITE_SPACE):
            raise reader.wrong(start + 1, "nothing stands before the escape character", "Remove the line")
        try:
            instruction = _parsed(text, start + 1)
            instruction = _with_heredocs(reader, instruction, text)
            check_instruction(instruction, reader.escape)
        except Wrong as error:
            raise reader.wrong(start + 1, str(error), error.do) from error
        source = tuple(line.rstrip("\r") for line in reader.lines[start : reader.next])
        found.append(replace(instruction, end_line=reader.next, source=source))
    return found


def _logical_line(reader: _Lines) -> str | None:
    """A line with those that continue it; None for comments and empty lines."""
    line = reader.take().rstrip("\r").lstrip(WHITE_SPACE)
    if not line or line.startswith("#"):
        return None
    joined, count = reader.continued.subn("", line)
    while count and not reader.is_at_end():
        line = reader.take().rstrip("\r")
        stripped = line.lstrip(WHITE_SPACE)
        if stripped and not stripped.startswith("#"):
            piece, count = reader.continued.subn("", line)
            joined += piece
    return joined


def _parsed(text: str, line: int, *, is_trigger: bool = False) -> Instruction:
    """Keyword, flags, value and JSON form of a logical line; heredocs come later."""
    keyword, *rest = BLANK.split(text.strip(WHITE_SPACE), maxsplit=1)
    flags, value = _flags(rest[0] if rest else "")
    instruction = Instruction(keyword.upper(), value, line, line, flags=flags)
    if instruction.keyword in JSON_FORMS:
        return replace(instruction, json=_json(value))
    if instruction.keyword == "HEALTHCHECK":
        kind, *command = value.split(maxsplit=1)[:2] or [""]
        return replace(instruction, json=_json(command[0]) if command and kind.upper() == "CMD" else None)
    if instruction.keyword == "ONBUILD" and value and not is_trigger:
        return replace(instruction, trigger=_parsed(value, line, is_trigger=True))
    return instruction


def _flags(text: str) -> tuple[tuple[Flag, ...], str]:
    """``--name=value`` words at the beginning, with quotes and escapes taken off; and the rest."""
    flags: list[Flag] = []
    position = 0
    while True:
        while position < len(text) and text[position] in WHITE_SPACE:
            position += 1
        if not text.startswith("--", position):
            return tuple(flags), text[position:].strip(WHITE_SPACE)
        word, position = _flag_word(text, position)
        if word == "--":
            return tuple(flags), text[position:].strip(WHITE_SPACE)
        if len(flags) == MAX_FLAGS:
            raise Wrong(f"it has more than {MAX_FLAGS} flags")
        name, equals, value = word.removeprefix("--").partition("=")
        flags.append(Flag(name, value if equals else None))


def _flag_word(text: str, position: int) -> tuple[str, int]:
    word, quote = "", ""
    while position < len(text):
        letter = text[position]
        if not quote and letter in WHITE_SPACE:
            break
        position += 1
        if letter == "\\":
            word += text[position : position + 1]
            position += 1
        elif letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
        else:
            word += letter
    return word, position


def _json(value: str) -> tuple[str, ...] | None:
    if not value.lstrip(WHITE_SPACE).startswith("["):
        return None
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
    if not all(isinstance(each, str) for each in found):
        raise Wrong("the JSON form takes strings alone", 'Write `["program", "argument"]`, numbers in quotes, too')
    return tuple(found)


def _with_heredocs(reader: _Lines, instruction: Instruction, text: str) -> Instruction:
    """With the lines below that belong to it."""
    inner = instruction.trigger or instruction
    if inner.keyword not in HEREDOCS or inner.json is not None or "<<" not in text:
        return instruction
    found = []
    for word in _shell_words(text):
        heredoc = _heredoc(word)
        if heredoc is None:
            continue
        body, first = "", reader.next + 1
        while True:
            if reader.is_at_end():
                raise Wrong(
                    f"the heredoc <<{heredoc.name} has no end", f"Write {heredoc.name} on a line of its own below it"
                )
            line = reader.take()
            end = line.rstrip("\r")
            if (end.lstrip("\t") if heredoc.strips_tabs else end) == heredoc.name:
                break
            body += line + "\n"
        found.append(replace(heredoc, body=body, line=first))
    if instruction.trigger:
        return replace(instruction, trigger=replace(instruction.trigger, heredocs=tuple(found)))
    return replace(instruction, heredocs=tuple(found))


def _heredoc(word: str) -> Heredoc | None:
    match = _HEREDOC.match(word)
    if not match:
        return None
    name = _unquoted(match[3])
    return Heredoc(name, "", 0, expands=name == match[3], strips_tabs=match[2] == "-")


def _shell_words(text: str) -> list[str]:
    """Words with their quotes; none where a quote is open at the end."""
    words, word, quote, position = [], "", "", 0
    while position < len(text):
        letter = text[position]
        if letter == "\\" and quote != "'":
            word += text[position : position + 2]
            position += 2
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in WHITE_SPACE:
            words.append(word)
            word, position = "", position + 1
            continue
        word += letter
        position += 1
    return [] if quote else [each for each in [*words, word] if each]


def _unquoted(word: str) -> str:
    plain, quote, position = "", "", 0
    while position < len(word):
        letter = word[position]
        if letter == "\\" and quote != "'":
            kept = quote and word[position + 1 : position + 2] not in ('"', "$", "\\")
            plain += ("\\" if kept else "") + word[position + 1 : position + 2]
            position += 2
            continue
        if letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
        else:
            plain += letter
        position += 1
    return plain


def _staged(instructions: Sequence[Instruction], where: str) -> tuple[list[Instruction], list[Stage]]:
    arguments: list[Instruction] = []
    stages: list[Stage] = []
    contents: list[list[Instruction]] = []
    for instruction in instructions:
        if instruction.keyword == "FROM":
            if len(stages) == MAX_STAGES:
                raise InputError(f"there are more than {MAX_STAGES} stages", where=f"{where}:{instruction.line}")
            words = instruction.words
            name = words[2].lower() if len(words) > 2 else ""
            stages.append(Stage(len(stages), name, words[0], "", None, instruction))
            contents.append([])
        elif stages:
            contents[-1].append(instruction)
        elif instruction.keyword == "ARG":
            arguments.append(instruction)
        else:
            raise InputError(
                f"{instruction.keyword} stands before the first FROM",
                where=f"{where}:{instruction.line}",
                do="Begin with FROM; only ARG may stand before it",
            )
    if not stages:
        raise InputError("there is no FROM line", where=where, do="Give a Dockerfile")
    return arguments, [
        replace(stage, instructions=tuple(content)) for stage, content in zip(stages, contents, strict=True)
    ]


def _check_sources(stages: Sequence[Stage], where: str) -> None:
    """``--from=3`` names an earlier stage."""
    for stage in stages:
        for instruction in stage.instructions:
            flag = instruction.flag("from")
            if flag and flag.value and flag.value.isdecimal() and int(flag.value) >= stage.number:
                raise InputError(
                    f"--from={flag.value} names no stage above this one",
                    where=f"{where}:{instruction.line}",
                    do=f"The stages above are 0 to {stage.number - 1}" if stage.number else "This is the first stage",
                )
