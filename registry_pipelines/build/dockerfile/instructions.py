"""A Dockerfile as plain data: stages and their instructions, with line numbers. ``parsing`` makes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

BLANK = re.compile(r"[\t\v\f\r ]+")
"""What divides words; other white space of Unicode is a part of them."""


@dataclass(frozen=True)
class Heredoc:
    """Lines that stand below an instruction and belong to it: ``<<EOF`` up to ``EOF``."""

    name: str
    body: str
    """As the file has it; with ``strips_tabs`` an engine takes leading tabs off each line."""
    line: int
    """Of its first line, 1-based; of its end where it is empty."""
    expands: bool
    """Whether variables are replaced in it (in COPY and ADD; in RUN the shell does): its name has no quotes."""
    strips_tabs: bool = False


@dataclass(frozen=True)
class Flag:
    """``--name=value`` of an instruction. value: None where there is no ``=``."""

    name: str
    value: str | None = None

    @property
    def written(self) -> str:
        """``--name=value``."""
        return f"--{self.name}" if self.value is None else f"--{self.name}={self.value}"


@dataclass(frozen=True)
class Instruction:
    """One instruction."""

    keyword: str
    """In capitals."""
    value: str
    """What stands behind keyword and flags: continued lines joined, comments between them left out, no heredocs."""
    line: int
    """Its first line, 1-based."""
    end_line: int
    """Its last one, which may be the end of a heredoc."""
    flags: tuple[Flag, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    json: tuple[str, ...] | None = None
    """The strings of the JSON form; None for the shell form."""
    filled: str = ""
    """``value`` with the variables that are known replaced, for the instructions in which engines do that; of RUN, CMD,
    ENTRYPOINT and other ones as ``value`` is."""
    unknown: tuple[str, ...] = ()
    """Variables in ``value`` or a flag that nothing in the file or the arguments gives a value: a base image may."""
    trigger: Instruction | None = None
    """What ONBUILD asks for."""
    source: tuple[str, ...] = field(default=(), repr=False)
    """Its lines as the file has them, from ``line`` to ``end_line``."""

    def flag(self, name: str) -> Flag | None:
        """The flag of this name, the last where it stands several times."""
        return next((flag for flag in reversed(self.flags) if flag.name == name), None)

    @property
    def flag_text(self) -> str:
        """Its flags as one text, without the quotes they may have had; with a space behind each."""
        return "".join(f"{flag.written} " for flag in self.flags)

    @property
    def words(self) -> tuple[str, ...]:
        """Words of the value: of the JSON form its strings, else what white space divides."""
        return self.json if self.json is not None else tuple(each for each in BLANK.split(self.value) if each)

    def line_of(self, fragment: str) -> int:
        """The first line that has this text; the instruction's first one where none has it."""
        return next((self.line + at for at, text in enumerate(self.source) if fragment in text), self.line)


@dataclass(frozen=True)
class Stage:
    """What one FROM begins."""

    number: int
    """From 0."""
    name: str
    """Behind AS, in small letters; empty without."""
    base: str
    """As written: an image, a stage, ``scratch``."""
    image: str
    """``base`` with variables replaced; empty where one has no value, or where it names a stage."""
    base_stage: int | None
    """The stage that it goes on from."""
    begin: Instruction
    """The FROM."""
    instructions: tuple[Instruction, ...] = ()
    """Behind it."""


@dataclass(frozen=True)
class Dockerfile:
    """A whole file."""

    stages: tuple[Stage, ...]
    arguments: tuple[Instruction, ...] = ()
    """ARG before the first FROM."""
    syntax: str = ""
    """The frontend that ``# syntax=`` asks for."""
    syntax_line: int = 0
    escape: str = "\\"
    where: str = "Dockerfile"
    """The file, for errors."""
    given: tuple[str, ...] = ()
    """Names of the arguments that the caller gave."""

    def all_instructions(self) -> Iterator[Instruction]:
        """In the file's order, FROM and ARG included."""
        yield from self.arguments
        for stage in self.stages:
            yield stage.begin
            yield from stage.instructions

    def declares(self, name: str) -> bool:
        """Whether an ARG names it."""
        arguments = (each for each in self.all_instructions() if each.keyword == "ARG")
        return any(word.partition("=")[0] == name for each in arguments for word in each.words)

    def stage(self, name: str) -> Stage | None:
        """A stage by name (the last of that name) or number; the last stage for no name."""
        if not name:
            return self.stages[-1]
        named = [stage for stage in self.stages if name.lower() in (stage.name, str(stage.number))]
        return named[-1] if named else None
