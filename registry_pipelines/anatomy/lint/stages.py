"""What rules ask about a Dockerfile: the stages that become the image, in the order of their instructions."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field

from registry_pipelines.anatomy.lint.commands import Command, commands_of
from registry_pipelines.build.dockerfile.instructions import Dockerfile, Instruction, Stage
from registry_pipelines.scan.advice.document import Advice
from registry_pipelines.scan.advice.kinds import DOCKERFILE_RULES, DockerfileKind, Severity
from registry_pipelines.scan.redacting import redacted


@dataclass(frozen=True)
class Step:
    """One instruction of the image, with its commands where it is a RUN."""

    instruction: Instruction
    stage: Stage
    commands: tuple[Command, ...] = ()

    @property
    def is_copy(self) -> bool:
        """COPY or ADD of files; not from another stage or image."""
        return self.instruction.keyword in ("COPY", "ADD") and self.instruction.flag("from") is None

    @property
    def paths(self) -> tuple[tuple[str, ...], str]:
        """Of COPY and ADD: sources and target; both empty where there are none."""
        filled = self.instruction.filled or self.instruction.value
        words = self.instruction.json if self.instruction.json is not None else tuple(filled.split())
        words = words + tuple(f"<<{each.name}" for each in self.instruction.heredocs) if len(words) == 1 else words
        return (words[:-1], words[-1]) if len(words) > 1 else ((), "")

    def mounts(self, kind: str) -> list[str]:
        """Targets (``dst``, ``destination``) of its mounts of one type."""
        targets = []
        for flag in self.instruction.flags:
            fields = dict(part.partition("=")[::2] for part in (flag.value or "").split(","))
            if flag.name == "mount" and fields.get("type", "bind") == kind:
                names = ("target", "dst", "destination")
                targets.append(next((fields[name] for name in names if name in fields), ""))
        return targets


@dataclass(frozen=True)
class Lineage:
    """The stages that the image stands on, the lowest first, and what is set in them."""

    dockerfile: Dockerfile
    stages: tuple[Stage, ...]
    steps: tuple[Step, ...]
    folders: tuple[str, ...] = field(default=(), repr=False)
    """Working folder of each step, empty where it is not known."""

    @property
    def last(self) -> Stage:
        """The stage that becomes the image."""
        return self.stages[-1]

    def runs(self) -> Iterator[Step]:
        """Its RUN steps."""
        return (each for each in self.steps if each.instruction.keyword == "RUN")

    def sets(self, name: str) -> bool:
        """Whether an ENV or ARG gives this variable a value."""
        return any(
            each.instruction.keyword in ("ENV", "ARG")
            and any(word.partition("=")[0] == name for word in each.instruction.words)
            for each in self.steps
        )

    def target_of(self, step: Step) -> str:
        """Where a COPY or ADD puts its files, as an absolute path without a slash at the end."""
        folder = self.folders[self.steps.index(step)] or "/"
        return posixpath.normpath(posixpath.join(folder, step.paths[1] or "."))


def lineage(dockerfile: Dockerfile, target: str = "") -> Lineage:
    """The stages below ``target``, a name or number; the last stage unless told. Raises nothing for a parsed file whose
    target is there."""
    stage = dockerfile.stage(target) or dockerfile.stages[-1]
    stages = [stage]
    while stages[0].base_stage is not None:
        stages.insert(0, dockerfile.stages[stages[0].base_stage])
    steps, folders, folder = [], [], ""
    for each in stages:
        for instruction in each.instructions:
            if instruction.keyword == "WORKDIR":
                folder = posixpath.join(folder or "/", instruction.filled or instruction.value)
            made = tuple(commands_of(instruction)) if instruction.keyword == "RUN" else ()
            steps.append(Step(instruction, each, made))
            folders.append(folder)
    return Lineage(dockerfile, tuple(stages), tuple(steps), tuple(folders))


def finding(
    kind: DockerfileKind, line: int, why: str, do: str, *, severity: Severity | None = None, example: str = ""
) -> Advice:
    """A finding at a line of the Dockerfile. What it repeats of the file is without secrets."""
    told = DOCKERFILE_RULES[kind]
    return Advice(
        kind=kind,
        severity=severity or told.severity,
        line=line,
        why=redacted(why),
        do=redacted(do),
        examples=(redacted(example),) if example else (),
    )
