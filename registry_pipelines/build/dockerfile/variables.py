"""Which value ARG and ENV give to each variable of a Dockerfile, stage by stage. ``parsing`` asks.

Source: Docker's Dockerfile reference ("Understand how ARG and FROM interact", "Environment replacement"): an ARG before
the first FROM counts in FROM lines, and in a stage that names it; ENV goes on into stages that stand on this one, and
wins over ARG. What a base image sets is not known here, nor what an engine gives by itself (TARGETARCH and the like).
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import replace

from registry_pipelines.build.dockerfile.instructions import Instruction, Stage
from registry_pipelines.build.dockerfile.rules import arguments, pairs
from registry_pipelines.build.dockerfile.substitution import fill

REPLACED = frozenset(
    ("ADD", "ARG", "COPY", "ENV", "EXPOSE", "FROM", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
)
"""Instructions in which an engine replaces variables; in others a shell of the image does."""


def with_values(
    global_arguments: Sequence[Instruction], stages: Sequence[Stage], given: Mapping[str, str], escape: str
) -> tuple[tuple[Instruction, ...], tuple[Stage, ...]]:
    """The same with ``filled``, ``unknown``, ``image`` and ``base_stage``. given: build arguments by name."""
    known: dict[str, str] = {}
    filled_arguments = []
    for instruction in global_arguments:
        filled_arguments.append(_filled(instruction, known, escape))
        _take_arguments(instruction, known, known, given, escape)
    done: list[Stage] = []
    environments: list[dict[str, str]] = []
    numbers: dict[str, int] = {}
    for stage in stages:
        begin = _filled(stage.begin, known, escape)
        base = fill(stage.base, known, escape)
        image = "" if base.unknown else base.text
        base_stage = numbers.get(image.lower())
        environment = dict(environments[base_stage]) if base_stage is not None else {}
        instructions = _stage_values(stage.instructions, environment, known, given, escape)
        done.append(
            replace(
                stage,
                begin=begin,
                image="" if base_stage is not None else image,
                base_stage=base_stage,
                instructions=instructions,
            )
        )
        environments.append(environment)
        if stage.name:
            numbers[stage.name] = stage.number
    return tuple(filled_arguments), tuple(done)


def _stage_values(
    instructions: Sequence[Instruction],
    environment: dict[str, str],
    global_values: Mapping[str, str],
    given: Mapping[str, str],
    escape: str,
) -> tuple[Instruction, ...]:
    """Of one stage. environment: what ENV set; grows."""
    own: dict[str, str] = {}
    filled = []
    for instruction in instructions:
        known = ChainMap(environment, own)
        filled.append(_filled(instruction, known, escape))
        if instruction.keyword == "ARG":
            _take_arguments(instruction, own, known, {**global_values, **given}, escape, defaults=given)
        elif instruction.keyword == "ENV":
            for name, value in pairs(instruction, escape):
                answer = fill(value, known, escape)
                if answer.unknown:
                    environment.pop(name, None)
                    own.pop(name, None)
                else:
                    environment[name] = answer.text
    return tuple(filled)


def _take_arguments(
    instruction: Instruction,
    into: dict[str, str],
    known: Mapping[str, str],
    given: Mapping[str, str],
    escape: str,
    defaults: Mapping[str, str] | None = None,
) -> None:
    """Add what an ARG declares. given: counts for names without default; defaults: also before a default."""
    before_default = given if defaults is None else defaults
    for name, default in arguments(instruction, escape):
        if default is None:
            if name in given:
                into[name] = given[name]
        elif name in before_default:
            into[name] = before_default[name]
        else:
            answer = fill(default, known, escape)
            if not answer.unknown:
                into[name] = answer.text


def _filled(instruction: Instruction, known: Mapping[str, str], escape: str) -> Instruction:
    inner = instruction.trigger
    if inner is not None:
        # It runs in another build, which has other values.
        return replace(instruction, filled=instruction.value)
    if instruction.keyword not in REPLACED:
        return replace(instruction, filled=instruction.value)
    value = fill(instruction.value, known, escape, keep_quotes=True)
    unknown = [*value.unknown]
    for flag in instruction.flags:
        unknown += fill(flag.value or "", known, escape).unknown
    for heredoc in instruction.heredocs:
        if heredoc.expands:
            unknown += fill(heredoc.body, known, escape).unknown
    return replace(instruction, filled=value.text, unknown=tuple(dict.fromkeys(unknown)))
