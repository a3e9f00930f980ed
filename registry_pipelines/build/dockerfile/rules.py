"""What each instruction of a Dockerfile takes: flags, number of words, forms. ``parsing`` asks.

Source: Docker's Dockerfile reference, and what BuildKit refuses while it reads a file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from registry_pipelines.build.dockerfile.instructions import BLANK, Instruction
from registry_pipelines.build.ignorefile import WHITE_SPACE

FLAGS: Mapping[str, frozenset[str]] = {
    "ADD": frozenset(("chown", "chmod", "link", "keep-git-dir", "checksum", "exclude", "unpack")),
    "COPY": frozenset(("chown", "chmod", "from", "link", "parents", "exclude")),
    "FROM": frozenset(("platform",)),
    "HEALTHCHECK": frozenset(("interval", "timeout", "start-period", "start-interval", "retries")),
    "RUN": frozenset(("mount", "network", "security", "device")),
}

KEYWORDS = frozenset(
    (
        *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
        *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
    )
)

JSON_FORMS = frozenset(("ADD", "CMD", "COPY", "ENTRYPOINT", "RUN", "SHELL", "VOLUME"))
"""Instructions that take ``["a", "b"]``; HEALTHCHECK has it behind CMD."""

REPEATED_FLAGS = frozenset(("mount", "exclude", "device"))
SWITCHES = frozenset(("link", "parents", "keep-git-dir", "unpack"))
"""Flags that are true without a value."""

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*\Z")


class Wrong(Exception):
    """An instruction that an engine refuses. do: what to write instead."""

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(what)
        self.do = do


def check_instruction(instruction: Instruction, escape: str) -> None:
    """Raises Wrong."""
    keyword = instruction.keyword
    if keyword not in KEYWORDS:
        raise Wrong(f"there is no instruction {keyword[:60]}", _meant(keyword))
    _check_flags(instruction)
    if keyword in ("ENV", "LABEL"):
        pairs(instruction, escape)
    elif keyword == "ARG":
        arguments(instruction, escape)
    elif keyword == "FROM":
        _check_from(instruction)
    elif keyword in ("ADD", "COPY"):
        _check_copy(instruction)
    elif keyword == "ONBUILD":
        _check_trigger(instruction, escape)
    elif keyword == "SHELL":
        if not instruction.json:
            raise Wrong("SHELL takes the JSON form alone", 'Write `SHELL ["/bin/bash", "-c"]`')
    elif keyword == "HEALTHCHECK":
        _check_health(instruction)
    elif keyword in ("EXPOSE", "MAINTAINER", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR") and not instruction.words:
        raise Wrong(f"{keyword} says nothing", "Give its value, or remove the line")


def _meant(keyword: str) -> str:
    close = difflib.get_close_matches(keyword[:60], KEYWORDS, n=1)
    continued = "if it belongs to the line above, end that with the escape character"
    return f"Is {close[0]} meant? Else, {continued}" if close else continued.capitalize()


def _check_flags(instruction: Instruction) -> None:
    allowed = FLAGS.get(instruction.keyword, frozenset())
    seen = set()
    for flag in instruction.flags:
        if flag.name not in allowed:
            known = ", ".join(f"--{name}" for name in sorted(allowed))
            raise Wrong(
                f"{instruction.keyword} knows no flag --{flag.name[:60]}",
                f"It knows {known}" if known else "It has no flags",
            )
        if flag.name in seen and flag.name not in REPEATED_FLAGS:
            raise Wrong(f"--{flag.name} stands twice", "Remove one")
        seen.add(flag.name)
        if flag.name in SWITCHES:
            if flag.value is not None and flag.value.lower() not in ("true", "false"):
                raise Wrong(f"{flag.written[:60]} is neither true nor false")
        elif flag.value is None:
            raise Wrong(f"--{flag.name} has no value", f"Write --{flag.name}=VALUE")


def _check_from(instruction: Instruction) -> None:
    words = instruction.words
    if len(words) != 1 and not (len(words) == 3 and words[1].lower() == "as"):
        raise Wrong("FROM takes an image, or an image and a name", "Write `FROM image` or `FROM image AS name`")
    if len(words) == 3 and not _STAGE_NAME.match(words[2].lower()):
        raise Wrong(f"{words[2]!r} cannot be the name of a stage", "Begin with a letter; then letters, digits, -, _, .")


def _check_copy(instruction: Instruction) -> None:
    words = instruction.words
    if len(words) < 2:
        raise Wrong(f"{instruction.keyword} takes at least one source and a destination")
    if instruction.heredocs and re.match(r"\d*<<-?[^<]", words[-1]):
        raise Wrong(f"{instruction.keyword} has a heredoc for its destination", "Write the path last")


def _check_trigger(instruction: Instruction, escape: str) -> None:
    if instruction.trigger is None:
        raise Wrong("ONBUILD says nothing", "Write the instruction behind it")
    if instruction.trigger.keyword in ("ONBUILD", "FROM", "MAINTAINER"):
        raise Wrong(f"{instruction.trigger.keyword} cannot stand behind ONBUILD")
    check_instruction(instruction.trigger, escape)


def _check_health(instruction: Instruction) -> None:
    kind, *command = instruction.value.split(maxsplit=1) or [""]
    if kind.upper() == "NONE" and not command:
        return
    if kind.upper() != "CMD" or not command or instruction.json == ():
        raise Wrong("HEALTHCHECK takes CMD with a command, or NONE", "Write `HEALTHCHECK CMD command`")


def pairs(instruction: Instruction, escape: str) -> tuple[tuple[str, str], ...]:
    """Name and value of ENV and LABEL, quotes kept. Raises Wrong."""
    words = quoted_words(instruction.value, escape)
    if not words:
        raise Wrong(f"{instruction.keyword} says nothing", "Write NAME=value")
    if "=" not in words[0]:
        name, *rest = BLANK.split(instruction.value, maxsplit=1)
        if not rest:
            raise Wrong(f"{instruction.keyword} has a name without value", f"Write {words[0]}=value")
        return ((name, rest[0]),)
    divided = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Wrong(f"there is no = in {word[:60]!r}", "Write NAME=value, and quotes around spaces")
        if not name:
            raise Wrong(f"{instruction.keyword} has a value without name", "Write NAME=value")
        divided.append((name, value))
    return tuple(divided)


def arguments(instruction: Instruction, escape: str) -> tuple[tuple[str, str | None], ...]:
    """Name and default of ARG, quotes kept; None without default. Raises Wrong."""
    words = quoted_words(instruction.value, escape)
    if not words:
        raise Wrong("ARG names nothing", "Write ARG NAME or ARG NAME=default")
    divided = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise Wrong("ARG has a value without name", "Write ARG NAME=default")
        divided.append((name, value if equals else None))
    return tuple(divided)


def quoted_words(text: str, escape: str) -> list[str]:
    """Words as white space divides them outside quotes, with quotes and escapes kept."""
    words: list[str] = []
    word, quote, position, is_word = "", "", 0, False
    while position < len(text):
        letter = text[position]
        if not quote and letter in WHITE_SPACE:
            if is_word:
                words.append(word)
            word, is_word, position = "", False, position + 1
            continue
        is_word = True
        if letter == escape and quote != "'":
            if position + 1 < len(text):
                word += text[position : position + 2]
            position += 2
            continue
        if letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
        word += letter
        position += 1
    return [*words, word] if word else words
