"""Shell text of RUN as commands: words between ``&&``, ``;``, ``|`` and line ends, as far as a reader needs it.

No shell: what stands in quotes, substitutions and loops is words like all others.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from registry_pipelines.build.dockerfile.instructions import Instruction

MAX_SHELL_CHARACTERS = 100_000
"""Of one RUN; what stands behind is not looked at."""

_ENDS = frozenset(("&&", "||", ";", "|", "&", "|&", ";;", "(", ")", "\n"))
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_BEFORE = frozenset(("sudo", "exec", "time", "command", "env", "nice", "if", "then", "do", "else", "!", "{"))


@dataclass(frozen=True)
class Command:
    """One command of a RUN. line: of the Dockerfile."""

    words: tuple[str, ...]
    line: int
    before: tuple[str, ...] = ()
    """``sudo``, variables that are set for it alone."""
    into: str = ""
    """``|`` where its output goes into the next one."""

    @property
    def name(self) -> str:
        """Without folders: ``/opt/venv/bin/pip`` is ``pip``."""
        return self.words[0].rpartition("/")[2]

    @property
    def text(self) -> str:
        """Words with blanks between them."""
        return " ".join(self.words)

    def has(self, *options: str) -> bool:
        """Whether one of these words is there, or ``--option=value`` of one."""
        return any(word in options or word.partition("=")[0] in options for word in self.words[1:])

    @property
    def arguments(self) -> tuple[str, ...]:
        """Words that are no options."""
        return tuple(word for word in self.words[1:] if not word.startswith("-"))


def commands_of(run: Instruction) -> list[Command]:
    """The commands of a RUN, in order; of one in JSON form the single one."""
    if run.json is not None and not run.heredocs:
        return [Command(run.json, run.line)] if run.json and run.json[0] else []
    if run.heredocs:
        return [each for heredoc in run.heredocs for each in _in_heredoc(heredoc.body, heredoc.line)]
    return [
        Command(each.words, _line(run, each.words), each.before, each.into)
        for each in _commands(run.value[:MAX_SHELL_CHARACTERS])
    ]


def _in_heredoc(body: str, first: int) -> Iterator[Command]:
    text = body[:MAX_SHELL_CHARACTERS].replace("\\\n", "  ")
    line = first
    for each in text.split("\n"):
        if not each.lstrip().startswith("#"):
            for found in _commands(each):
                yield Command(found.words, line, found.before, found.into)
        line += 1


def _commands(text: str) -> Iterator[Command]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();|&")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        tokens = list(lexer)
    except ValueError:  # a quote that is not closed: the shell would refuse it, and so ends what is known
        tokens = re.sub(r"(&&|\|\||[;|])", r" \1 ", text.replace('"', " ").replace("'", " ")).split()
    for token in [*tokens, ";"]:
        if token in _ENDS or (token and not token.strip("();|&")):
            if made := _command(words, token):
                yield made
            words = []
        else:
            words.append(token)


def _command(words: list[str], end: str) -> Command | None:
    start = 0
    while start < len(words) and (words[start] in _BEFORE or _ASSIGNMENT.match(words[start])):
        start += 1
    if start == len(words) or not words[start]:
        return None
    into = "|" if end in ("|", "|&") else ""
    return Command(tuple(words[start:]), 0, tuple(words[:start]), into)


def _line(run: Instruction, words: tuple[str, ...]) -> int:
    """The line where a command stands, by its first words."""
    for count in (3, 2, 1):
        fragment = " ".join(words[:count])
        if any(fragment in text for text in run.source):
            return run.line_of(fragment)
    return run.line
