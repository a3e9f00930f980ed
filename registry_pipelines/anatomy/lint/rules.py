"""Rules about a Dockerfile beside its package managers: bases, order, copies, secrets, downloads, how it starts."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from registry_pipelines.anatomy.lint.commands import Command
from registry_pipelines.anatomy.lint.installs import (
    apt_rules,
    compilers_stay,
    fetches_anew,
    installs,
    keeps_caches,
    unpinned,
)
from registry_pipelines.anatomy.lint.secret_rules import RULES as SECRET_RULES
from registry_pipelines.anatomy.lint.stages import Lineage, Step, finding
from registry_pipelines.scan.advice.document import Advice

_WEIGHTS = re.compile(
    r"\.(?:safetensors|gguf|ckpt|pth|pt|onnx|h5|bin|engine)\Z|(?:\A|/)(?:weights|checkpoints?|models?)/?\Z"
)
_WHEELS = re.compile(r"\.(?:whl|deb|rpm|conda)\Z|(?:\A|/)(?:wheels?|wheelhouse|dist)/?(?:\*[^/]*)?\Z")
_ARCHIVE = re.compile(r"\.(?:tar|tar\.\w+|tgz|tbz2|txz)\Z")
_LISTS = re.compile(r"(?:-r|--requirement)[ =]?(\S+)")


def bases(image: Lineage) -> Iterator[Advice]:
    """FROM by tag, and a `-devel` base of the last stage."""
    for stage in image.dockerfile.stages:
        name = stage.image
        if not name or name == "scratch" or "@" in name:
            continue
        tag = name.rpartition("/")[2].partition(":")[2]
        moves = tag in ("", "latest", "main", "master", "edge", "nightly")
        yield finding(
            "not-pinned",
            stage.begin.line,
            f"`{name}` names another image tomorrow" + ("" if tag else ": without a tag it is `latest`"),
            f"FROM {name}@sha256:...; `registry-pipelines pin` writes the digest",
            severity="warning" if moves else "note",
        )
    first = image.stages[0]
    tag = first.image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    if re.search(r"(?:\A|-)devel(?:-|\Z)", tag):
        yield finding(
            "devel-last-stage",
            first.begin.line,
            f"the image stands on `{first.image}`: compilers, headers and static libraries of CUDA go to every node",
            f"Build in a stage FROM it, and let the last one be FROM {first.image.replace('-devel', '-runtime')}",
        )


def order(image: Lineage) -> Iterator[Advice]:
    """`COPY .` above what installs dependencies."""
    for number, step in enumerate(image.steps):
        if not (step.is_copy and any(posixpath.normpath(source) in (".", "/") for source in step.paths[0])):
            continue
        for later in image.steps[number + 1 :]:
            command = next((each for each in later.commands if installs(each)), None)
            if command is not None and later.stage is step.stage:
                lists = _LISTS.findall(command.text) or ["the list of dependencies"]
                yield finding(
                    "copy-before-install",
                    step.instruction.line,
                    f"each change of any file runs line {command.line} (`{_short(command.text)}`) and all below it "
                    "again, and moves those layers to every node",
                    f"COPY {' '.join(lists)} ./ here, and `{_short(step.instruction.source[0])}` below line "
                    f"{command.line}",
                    example=command.text,
                )
                break


def copies(image: Lineage) -> Iterator[Advice]:
    """What is copied only to be installed, changed or deleted later."""
    for number, step in enumerate(image.steps):
        if step.instruction.keyword not in ("COPY", "ADD") or not step.paths[1]:
            continue
        target = image.target_of(step)
        sources = step.paths[0]
        for later in image.steps[number + 1 :]:
            for command in later.commands:
                named = _names(command, target, sources)
                if named and command.name in ("chmod", "chown", "chgrp"):
                    option = "--chmod" if command.name == "chmod" else "--chown"
                    yield finding(
                        "chmod-after-copy",
                        command.line,
                        f"the files of line {step.instruction.line} are stored a second time, for their mode or owner",
                        f"{step.instruction.keyword} {option}=... at line {step.instruction.line}, without this",
                        example=command.text,
                    )
                if named and command.name == "rm":
                    yield finding(
                        "removed-later",
                        command.line,
                        f"what line {step.instruction.line} copied stays in its layer, hidden: every pull moves it",
                        f"`RUN --mount=type=bind,source=...` where it is needed, without line {step.instruction.line}",
                        example=command.text,
                    )
                if named and installs(command) and any(_WHEELS.search(each) for each in (*sources, target)):
                    origin = step.instruction.flag("from")
                    mount = f"from={origin.value}," if origin and origin.value else ""
                    yield finding(
                        "copied-wheels",
                        step.instruction.line,
                        f"line {command.line} installs them, and the image has them twice: copied and installed",
                        f"`RUN --mount=type=bind,{mount}source={sources[0]},target={target} ...` at line "
                        f"{command.line}, without this line",
                        example=command.text,
                    )


def _names(command: Command, target: str, sources: tuple[str, ...]) -> bool:
    """Whether a command is about what was copied: its folder, or a file in it."""
    if target == "/":
        targets = {posixpath.join("/", posixpath.basename(each)) for each in sources}
    else:
        targets = {target, *(posixpath.join(target, posixpath.basename(each)) for each in sources if "*" not in each)}
    for word in command.arguments:
        path = word.rstrip("/*") or "/"
        for each in targets:
            if path == each or (each != "/" and path.startswith(f"{each}/")):
                return True
    return False


def removals(image: Lineage) -> Iterator[Advice]:
    """A RUN that does nothing but delete: caches of steps before it."""
    for step in image.runs():
        deleting = [each for each in step.commands if each.name == "rm" or _cleans(each)]
        if deleting and len(deleting) == len(step.commands):
            first = deleting[0]
            yield finding(
                "removed-later",
                first.line,
                "a step of its own deletes what other layers keep: nothing becomes smaller",
                "Delete in the RUN that wrote it",
                example=first.text,
            )


def _cleans(command: Command) -> bool:
    return command.name in ("conda", "mamba", "micromamba", "apt-get", "dnf", "yum", "apk") and bool(
        {"clean", "autoclean"} & set(command.arguments)
    )


def fetched(image: Lineage) -> Iterator[Advice]:
    """What comes from the network: ADD, scripts, repositories, weights."""
    for step in image.steps:
        instruction, (sources, _) = step.instruction, step.paths
        if instruction.keyword == "ADD":
            remote = [each for each in sources if re.match(r"(?:https?|git|ssh)://|git@", each)]
            if remote and instruction.flag("checksum") is None and not re.search(r"\.git(?:#|\Z)|\Agit@", remote[0]):
                yield finding(
                    "add-url",
                    instruction.line,
                    "whatever the server gives on that day becomes a layer, which stays when the file is deleted later",
                    "ADD --checksum=sha256:... URL, or fetch, check and delete it in one RUN",
                    example=remote[0],
                )
            elif sources and not remote and not any(_ARCHIVE.search(each) for each in sources):
                yield finding(
                    "add-not-copy",
                    instruction.line,
                    "ADD unpacks archives and fetches URLs by their names; COPY does not",
                    re.sub(r"(?i)\A\s*ADD", "COPY", instruction.source[0] if instruction.source else "COPY ..."),
                )
        if step.instruction.keyword in ("COPY", "ADD") and any(_WEIGHTS.search(each) for each in sources):
            yield _baked(instruction.line, " ".join(sources))
        for command in step.commands:
            yield from _of_command(step, command)


def _of_command(step: Step, command: Command) -> Iterator[Advice]:
    if command.name in ("curl", "wget") and command.into == "|":
        following = step.commands[step.commands.index(command) + 1 :]
        if following and following[0].name in ("sh", "bash", "python", "python3", "zsh", "dash"):
            yield finding(
                "download-piped",
                command.line,
                "what the server gives on that day runs unchecked, and an aborted download runs in part",
                "Fetch a file of a version, compare its sha256 (`echo 'SUM  FILE' | sha256sum -c`), then run it",
                example=command.text,
            )
    deletes = any(each.name == "rm" and ".git" in each.text for each in step.commands)
    if command.name == "git" and command.arguments[:1] == ("clone",) and not deletes:
        yield finding(
            "clone-keeps-git",
            command.line,
            "the history of the repository becomes part of the layer",
            "ADD https://HOST/REPOSITORY.git#COMMIT /path, or `git clone --depth 1` and `rm -rf .git` in one RUN",
            example=command.text,
        )
    hub = command.name in ("huggingface-cli", "hf") and command.arguments[:1] == ("download",)
    if hub or (command.name in ("curl", "wget") and any(_WEIGHTS.search(each) for each in command.arguments)):
        yield _baked(command.line, command.text)
    if command.name == "cd" and len(step.commands) == 1:
        yield finding(
            "cd-is-lost", command.line, "the next instruction begins in WORKDIR again", f"WORKDIR {command.words[-1]}"
        )
    if "sudo" in command.before:
        yield finding(
            "sudo",
            command.line,
            "build steps are root unless USER says otherwise; sudo is a package more, and a way to root",
            "Without sudo; `USER root` before the step and `USER 65532` behind it where it is not",
            example=command.text,
        )


def _baked(line: int, example: str) -> Advice:
    return finding(
        "weights-copied",
        line,
        "weights change apart from code, and each copy of the image carries them",
        "Mount them as a volume or an image of their own; else in a layer of their own, below the code",
        example=example,
    )


def pipes(image: Lineage) -> Iterator[Advice]:
    """Pipes in shells that tell the last command's end only."""
    strict = False
    for step in image.steps:
        if step.instruction.keyword == "SHELL":
            strict = "pipefail" in step.instruction.value
        if step.instruction.keyword != "RUN" or strict or "pipefail" in _text(step):
            continue
        piped = next(
            (each for each in step.commands if each.into == "|" and each.name not in ("echo", "printf", "yes")), None
        )
        if piped is not None:
            yield finding(
                "pipe-hides-failure",
                piped.line,
                f"when `{piped.name}` fails, the step goes on with what came until then",
                'SHELL ["/bin/bash", "-o", "pipefail", "-c"] above it, or `set -o pipefail &&` (bash) in the RUN',
                example=piped.text,
            )


def _text(step: Step) -> str:
    return step.instruction.value + "".join(each.body for each in step.instruction.heredocs)


def starts(image: Lineage) -> Iterator[Advice]:
    """How the container begins: USER, WORKDIR, CMD, ENTRYPOINT."""
    users = [each.instruction for each in image.steps if each.instruction.keyword == "USER"]
    name = (users[-1].filled or users[-1].value).partition(":")[0] if users else ""
    if not users or name in ("root", "0"):
        last = image.last.instructions[-1] if image.last.instructions else image.last.begin
        yield finding(
            "no-user",
            users[-1].line if users else last.line,
            "the program starts as root, which clusters with the restricted Pod Security Standard refuse"
            + ("" if users else "; a base may set another user, which is not seen here"),
            "USER 65532 before ENTRYPOINT",
        )
    absolute = image.stages[0].image == "scratch"
    for step in image.steps:
        path = step.instruction.filled or step.instruction.value
        if step.instruction.keyword == "WORKDIR":
            if not absolute and not path.startswith(("/", "$", "\\")) and not re.match(r"[A-Za-z]:", path):
                yield finding(
                    "relative-workdir",
                    step.instruction.line,
                    "it is below whatever WORKDIR the base has",
                    f"WORKDIR /{path}",
                )
            absolute = True
    for keyword in ("CMD", "ENTRYPOINT"):
        own = [each for each in image.last.instructions if each.keyword == keyword]
        for each in own[:-1]:
            yield finding(
                "several-cmds", each.line, f"the {keyword} of line {own[-1].line} takes its place", "Remove it"
            )
        if own and own[-1].json is None and not own[-1].value.lstrip().startswith("exec "):
            words = ", ".join(f'"{word}"' for word in own[-1].value.split())
            yield finding(
                "shell-form",
                own[-1].line,
                "`/bin/sh -c` gets SIGTERM in place of the program, so that a Pod takes its whole grace period to end; "
                "images without a shell do not start",
                f"{keyword} [{words}]",
            )


def ignores(image: Lineage, context: Path | None) -> Iterator[Advice]:
    """`COPY .` of a folder without `.dockerignore`."""
    if context is None:
        return
    name = Path(image.dockerfile.where).name
    if (context / ".dockerignore").exists() or (context / f"{name}.dockerignore").exists():
        return
    for step in image.steps:
        if step.is_copy and any(posixpath.normpath(source) == "." for source in step.paths[0]):
            yield finding(
                "no-dockerignore",
                step.instruction.line,
                "all of the folder is sent and copied: .git, caches, local data and `.env` too",
                "Write `.dockerignore` with .git, .venv, __pycache__, .env and data folders",
            )
            return


RULES: tuple[Callable[[Lineage], Iterator[Advice]], ...] = (
    bases,
    order,
    copies,
    removals,
    keeps_caches,
    fetches_anew,
    apt_rules,
    unpinned,
    compilers_stay,
    fetched,
    pipes,
    starts,
    *SECRET_RULES,
)


def lint_dockerfile(image: Lineage, *, context: Path | None = None) -> list[Advice]:
    """All findings about the stages that become the image, by line. context: its folder, where it is known."""
    found = [each for rule in RULES for each in rule(image)] + list(ignores(image, context))
    unique = {(each.kind, each.line): each for each in reversed(found)}
    return sorted(unique.values(), key=lambda each: (each.line, each.kind))


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= 60 else f"{one[:57]}..."
