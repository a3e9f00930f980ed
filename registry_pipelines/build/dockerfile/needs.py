"""What of a Dockerfile and its section an engine does not do, with line and reason.

What the classic engine gives up by itself would only cost time. What it does another way without a word makes another
image: both are rows here, so that a Dockerfile with one of them never gets there. Each row was tried with dockerd
20.10.24 and 28.5.2 (``DOCKER_BUILDKIT=0``) and with Buildah 1.43; ``tests/build/dockerfile/test_needs.py`` tries them
again. What only some versions refuse, with an error of their own (``${NAME#pattern}``, ``HEALTHCHECK
--start-interval``), is no row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from registry_pipelines.build.dockerfile.instructions import Dockerfile, Instruction, Stage
from registry_pipelines.build.dockerfile.model import DockerfileSpec
from registry_pipelines.build.dockerfile.rules import JSON_FORMS
from registry_pipelines.build.dockerfile.variables import REPLACED
from registry_pipelines.errors import PlatformInvalid
from registry_pipelines.oci.platforms import Platform

PLATFORM_ARGUMENTS = frozenset(
    f"{which}{part}" for which in ("BUILD", "TARGET") for part in ("PLATFORM", "OS", "ARCH", "VARIANT")
) | {"TARGETSTAGE"}
"""Build arguments that BuildKit and Buildah give by themselves."""

CLASSIC_FLAGS: Mapping[str, str] = {
    "RUN --mount": "the classic engine has no mounts",
    "RUN --network": "the classic engine has one network for all steps",
    "RUN --security": "the classic engine has no such steps",
    "RUN --device": "the classic engine has no devices",
    "COPY --chmod": "the classic engine keeps the modes of the context",
    "COPY --link": "the classic engine ignores it",
    "COPY --parents": "the classic engine does not know it",
    "COPY --exclude": "the classic engine ignores it, and copies what it leaves out",
    "ADD --chmod": "the classic engine keeps the modes of the context",
    "ADD --link": "the classic engine ignores it",
    "ADD --checksum": "the classic engine ignores it: what is downloaded is not checked",
    "ADD --exclude": "the classic engine ignores it, and copies what it leaves out",
    "ADD --unpack": "the classic engine ignores it",
    "ADD --keep-git-dir": "the classic engine ignores it",
}

BUILDAH_FLAGS: Mapping[str, str] = {
    "RUN --security": "Buildah does not know it",
    "RUN --device": "Buildah does not know it",
}

_OFFICIAL = re.compile(r"(?:docker\.io/)?docker/dockerfile(?::\d[\w.]*)?(?:@sha256:[0-9a-f]{64})?\Z")
"""Docker's own frontend in a released version; Buildah reads the same language. ``labs`` has more."""

_REQUIRED = re.compile(r"\$\{\w+:?\?")

_GIT = re.compile(r"(?:git@|git://|ssh://)|(?:https?://.*\.git(?:#|\?|\Z))")


@dataclass(frozen=True)
class Need:
    """Something that an engine does not do. line: of the Dockerfile; 0 for the section."""

    line: int
    what: str
    """``RUN --mount``."""
    why: str


def beyond_classic(dockerfile: Dockerfile, spec: DockerfileSpec, daemon: Platform | None = None) -> list[Need]:
    """Why the classic engine of Docker would make another image, or none. daemon: its platform; this machine's unless
    told."""
    needs = [*_of_section(spec), *_for_buildkit_alone(spec)]
    if dockerfile.syntax:
        needs.append(Need(dockerfile.syntax_line, f"# syntax={dockerfile.syntax}", "the classic engine ignores it"))
    here = daemon or Platform.here()
    for stage in dockerfile.stages:
        needs += _platform_of(stage, here)
    for instruction in dockerfile.all_instructions():
        needs += _flags(instruction, CLASSIC_FLAGS)
        needs += _classic_forms(instruction)
    needs += _automatic_arguments(dockerfile)
    if any(platform.normal != here.normal for platform in spec.platforms):
        wanted = ", ".join(map(str, spec.platforms))
        needs.append(Need(0, f"platforms: {wanted}", f"the classic engine here builds {here} alone"))
    return sorted(needs, key=lambda need: need.line)


def beyond_buildah(dockerfile: Dockerfile, spec: DockerfileSpec) -> list[Need]:
    """Why Buildah would make another image, or none."""
    needs = [*_for_buildkit_alone(spec)]
    if dockerfile.syntax and not _OFFICIAL.match(dockerfile.syntax):
        why = "Buildah ignores it; it reads the language of docker/dockerfile:1"
        needs.append(Need(dockerfile.syntax_line, f"# syntax={dockerfile.syntax}", why))
    if spec.cache is not None:
        needs.append(Need(0, "cache", "Buildah cannot read or write BuildKit's cache"))
    for instruction in dockerfile.all_instructions():
        needs += _flags(instruction, BUILDAH_FLAGS)
        needs += _buildah_forms(instruction, dockerfile.escape)
    return sorted(needs, key=lambda need: need.line)


def _for_buildkit_alone(spec: DockerfileSpec) -> Iterator[Need]:
    for name in spec.args:
        if name.startswith("BUILDKIT_"):
            yield Need(0, f"args.{name}", "BuildKit alone reads it: the language, or what goes into the image")


def _buildah_forms(instruction: Instruction, escape: str) -> Iterator[Need]:
    if _has_text_behind_json(instruction):
        yield Need(instruction.line, f"{instruction.keyword} with text behind its JSON form", "Buildah drops the text")
    for at, text in enumerate(instruction.source):
        if text.rstrip().endswith(escape * 2) and not instruction.heredocs:
            why = "Buildah takes the next line for a part of it"
            yield Need(instruction.line + at, f"a line that ends with {escape * 2}", why)
    if instruction.keyword in REPLACED and (match := _REQUIRED.search(instruction.value)):
        yield Need(instruction.line_of(match[0]), f"{match[0]}...}}", "Buildah takes the message for the value")
    for word in instruction.words if instruction.keyword == "ARG" else ():
        name, equals, _ = word.partition("=")
        if equals and name in PLATFORM_ARGUMENTS:
            yield Need(instruction.line, f"ARG {name} with a default", "Buildah gives its own value")


def _of_section(spec: DockerfileSpec) -> Iterator[Need]:
    if spec.secrets:
        yield Need(0, f"secrets: {', '.join(spec.secrets)}", "the classic engine has no mounts")
    if spec.cache is not None:
        yield Need(0, "cache", "the classic engine keeps its cache to itself")


def _flags(instruction: Instruction, table: Mapping[str, str]) -> Iterator[Need]:
    for flag in instruction.flags:
        name = f"{instruction.keyword} --{flag.name}"
        if name in table:
            yield Need(instruction.line_of(f"--{flag.name}"), name, table[name])


def _platform_of(stage: Stage, here: Platform) -> Iterator[Need]:
    flag = stage.begin.flag("platform")
    if flag is None or flag.value is None:
        return
    try:
        same = Platform.parse(flag.value).normal == here.normal
    except PlatformInvalid:
        same = False
    if not same:
        yield Need(stage.begin.line, f"FROM {flag.written}", f"the classic engine here builds {here} alone")


def _classic_forms(instruction: Instruction) -> Iterator[Need]:
    inner = instruction.trigger or instruction
    if inner.heredocs:
        line = instruction.line_of("<<")
        yield Need(line, f"{inner.keyword} with a heredoc", "the classic engine drops its lines, and goes on")
    if _has_text_behind_json(inner):
        why = "the classic engine of Docker before 23 drops the text"
        yield Need(instruction.line, f"{inner.keyword} with text behind its JSON form", why)
    if instruction.keyword == "ADD":
        for source in instruction.words[:-1]:
            if _GIT.match(source):
                why = "the classic engine clones nothing: it takes it for a file"
                yield Need(instruction.line, f"ADD {source[:80]}", why)


def _has_text_behind_json(instruction: Instruction) -> bool:
    value = instruction.value
    if instruction.json is not None or instruction.keyword not in JSON_FORMS or not value.startswith("["):
        return False
    try:
        found, end = json.JSONDecoder().raw_decode(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, list) and all(isinstance(each, str) for each in found) and bool(value[end:].strip())


def _automatic_arguments(dockerfile: Dockerfile) -> Iterator[Need]:
    """Arguments that are empty in the classic engine: declared without default, or used in FROM."""
    told = {word.partition("=")[0] for each in dockerfile.arguments for word in each.words if "=" in word}
    told.update(dockerfile.given)
    for stage in dockerfile.stages:
        for name in stage.begin.unknown:
            if name in PLATFORM_ARGUMENTS and stage.begin.flag("platform") is None:
                yield Need(stage.begin.line, f"FROM with ${name}", "it is empty in the classic engine")
        for instruction in stage.instructions:
            if instruction.keyword != "ARG":
                continue
            for word in instruction.words:
                if word in PLATFORM_ARGUMENTS and word not in told:
                    yield Need(instruction.line, f"ARG {word} without default", "it is empty in the classic engine")
