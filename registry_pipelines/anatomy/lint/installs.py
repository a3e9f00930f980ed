"""Rules about package managers in RUN: what stays in the layer, what is fetched anew, what is not pinned."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from registry_pipelines.anatomy.lint.commands import Command
from registry_pipelines.anatomy.lint.stages import Lineage, Step, finding
from registry_pipelines.scan.advice.document import Advice
from registry_pipelines.scan.advice.kinds import DockerfileKind

_PIP = re.compile(r"pip3?(?:\.\d+)?\Z")
_PYTHON = re.compile(r"python3?(?:\.\d+)?\Z")
_APT = ("apt-get", "apt", "aptitude")
_DNF = ("dnf", "yum", "microdnf", "zypper", "tdnf")
_CONDA = ("conda", "mamba", "micromamba")
_COMPILERS = re.compile(
    r"(?:build-essential|gcc|g\+\+|clang|llvm|cmake|make|ninja-build|gfortran|golang|golang-go|rustc|cargo|cuda-nvcc|cuda-toolkit"
    r"|nvidia-cuda-toolkit|autoconf|automake|libtool|python3?-dev|build-base|gcc-c\+\+|python3?-devel)(?:[-=:.\d].*)?\Z"
)
_VERSIONED = re.compile(r"[=<>~!@]|\.whl\Z|\A[./$~]|\A[a-z+]+://|\A\"?\$")


def is_pip(command: Command) -> bool:
    """``pip install``, ``python -m pip install``; not ``uv pip``."""
    words = command.words
    if _PIP.match(command.name):
        return "install" in words[1:]
    return bool(_PYTHON.match(command.name)) and words[1:3] == ("-m", "pip") and "install" in words[3:]


def is_uv(command: Command) -> bool:
    """A command of uv that installs."""
    if command.name != "uv":
        return False
    words = command.arguments
    return words[:2] in (("pip", "install"), ("pip", "sync"), ("tool", "install")) or words[:1] in (("sync",), ("add",))


def is_conda(command: Command) -> bool:
    """A command of conda, mamba or micromamba that installs."""
    if command.name not in _CONDA:
        return False
    words = command.arguments
    return words[:1] in (("install",), ("create",), ("update",)) or words[:2] in (("env", "create"), ("env", "update"))


def is_apt(command: Command, *verbs: str) -> bool:
    """apt with one of these verbs."""
    return command.name in _APT and any(verb in command.arguments for verb in verbs)


def is_npm(command: Command) -> bool:
    """A command of npm, Yarn or pnpm that installs."""
    verbs = ("install", "ci", "i", "add")
    return command.name in ("npm", "yarn", "pnpm") and (
        command.arguments[:1] == ()
        if command.name == "yarn"
        else command.arguments[:1] and command.arguments[0] in verbs
    )  # type: ignore[return-value]


def installs(command: Command) -> bool:
    """Whether it installs dependencies."""
    return (
        is_pip(command)
        or is_uv(command)
        or is_conda(command)
        or is_npm(command)
        or is_apt(command, "install")
        or (command.name == "poetry" and command.arguments[:1] == ("install",))
    )


def _removes(step: Step, *fragments: str) -> bool:
    """Whether a command of the step deletes a path with one of these texts."""
    return any(
        each.name in ("rm", "find") and any(text in word for word in each.words[1:] for text in fragments)
        for each in step.commands
    )


def _calls(step: Step, *texts: str) -> bool:
    return any(each.text.startswith(texts) for each in step.commands)


def _mounted(step: Step, *fragments: str) -> bool:
    return any(text in target for target in step.mounts("cache") for text in fragments)


class _Keeper(NamedTuple):
    kind: DockerfileKind
    installs: Callable[[Command], bool]
    cleans: Callable[[Lineage, Step, Command], bool]
    why: str
    do: str


def _pip_cleans(image: Lineage, step: Step, command: Command) -> bool:
    return (
        command.has("--no-cache-dir", "--no-cache")
        or image.sets("PIP_NO_CACHE_DIR")
        or any(word.startswith("PIP_NO_CACHE_DIR=") for word in command.before)
        or _mounted(step, "pip", ".cache")
        or _removes(step, ".cache")
        or _calls(step, "pip cache purge", "pip3 cache purge")
    )


def _uv_cleans(image: Lineage, step: Step, command: Command) -> bool:
    return (
        command.has("--no-cache", "-n", "--no-cache-dir")
        or image.sets("UV_NO_CACHE")
        or any(word.startswith("UV_NO_CACHE=") for word in command.before)
        or _mounted(step, "uv", ".cache")
        or _removes(step, ".cache")
        or _calls(step, "uv cache clean")
    )


def _conda_cleans(image: Lineage, step: Step, command: Command) -> bool:
    cleaned = any(
        each.name in _CONDA
        and "clean" in each.arguments
        and (each.has("--all", "--tarballs", "--packages") or _has_flag(each, "a"))
        for each in step.commands
    )
    return cleaned or _removes(step, "/pkgs") or _mounted(step, "pkgs", "conda", "mamba")


def _has_flag(command: Command, letter: str) -> bool:
    return any(word.startswith("-") and not word.startswith("--") and letter in word for word in command.words[1:])


_KEEPERS = (
    _Keeper(
        "pip-keeps-cache",
        is_pip,
        _pip_cleans,
        "pip keeps each wheel that it fetched in /root/.cache/pip of this layer",
        "RUN --mount=type=cache,target=/root/.cache/pip pip install ..., or `pip install --no-cache-dir ...`",
    ),
    _Keeper(
        "uv-keeps-cache",
        is_uv,
        _uv_cleans,
        "uv keeps each wheel, unpacked, in /root/.cache/uv of this layer",
        "RUN --mount=type=cache,target=/root/.cache/uv uv ... (with ENV UV_LINK_MODE=copy), or `uv ... --no-cache`",
    ),
    _Keeper(
        "conda-keeps-cache",
        is_conda,
        _conda_cleans,
        "conda keeps each archive and each unpacked package in `pkgs` of this layer",
        "`&& conda clean -afy` (micromamba: `micromamba clean -afy`) in the same RUN",
    ),
    _Keeper(
        "apt-keeps-lists",
        lambda command: is_apt(command, "update"),
        lambda image, step, command: _removes(step, "/var/lib/apt") or _mounted(step, "/var/lib/apt"),
        "apt's lists of packages stay in this layer",
        "`&& rm -rf /var/lib/apt/lists/*` in the same RUN, or RUN --mount=type=cache,target=/var/lib/apt",
    ),
    _Keeper(
        "apk-keeps-cache",
        lambda command: command.name == "apk" and "add" in command.arguments,
        lambda image, step, command: (
            command.has("--no-cache") or _removes(step, "/var/cache/apk") or _mounted(step, "apk")
        ),
        "apk's index stays in this layer",
        "`apk add --no-cache ...`",
    ),
    _Keeper(
        "dnf-keeps-cache",
        lambda command: command.name in _DNF and bool({"install", "update", "groupinstall"} & set(command.arguments)),
        lambda image, step, command: (
            any(each.name in _DNF and "clean" in each.arguments for each in step.commands)
            or _removes(step, "/var/cache")
            or _mounted(step, "/var/cache")
        ),
        "metadata and packages that were fetched stay in this layer",
        "`&& dnf clean all` in the same RUN",
    ),
    _Keeper(
        "npm-keeps-cache",
        is_npm,
        lambda image, step, command: (
            any("cache" in each.arguments and "clean" in each.arguments for each in step.commands)
            or _removes(step, ".npm", ".cache", "yarn")
            or _mounted(step, "npm", "yarn", "pnpm", ".cache")
        ),
        "packages that were fetched stay in this layer",
        "RUN --mount=type=cache,target=/root/.npm npm ci",
    ),
)


def keeps_caches(image: Lineage) -> Iterator[Advice]:
    """One finding for each RUN and package manager."""
    for step in image.runs():
        for keeper in _KEEPERS:
            command = next((each for each in step.commands if keeper.installs(each)), None)
            if command is not None and not keeper.cleans(image, step, command):
                yield finding(keeper.kind, command.line, keeper.why, keeper.do, example=command.text)


def fetches_anew(image: Lineage) -> Iterator[Advice]:
    """Installations that keep nothing, neither in the layer nor beside it."""
    for step in image.runs():
        command = next((each for each in step.commands if is_pip(each) or is_uv(each) or is_conda(each)), None)
        if command is None or step.mounts("cache"):
            continue
        listed = is_conda(command) or command.has("-r", "--requirement") or is_uv(command)
        keeper = next(each for each in _KEEPERS if each.installs(command))
        if listed and keeper.cleans(image, step, command):
            folder = {"pip": "/root/.cache/pip", "uv": "/root/.cache/uv"}.get(command.name, "/root/.cache/pip")
            folder = "/opt/conda/pkgs" if is_conda(command) else folder
            yield finding(
                "no-cache-mount",
                command.line,
                "each change above this line, or of the list, fetches all packages again: a cache mount keeps them "
                "beside the layer",
                f"RUN --mount=type=cache,target={folder} ... without --no-cache-dir (needs BuildKit)",
                example=command.text,
            )


def apt_rules(image: Lineage) -> Iterator[Advice]:
    """apt-get: update alone, recommendations, upgrades."""
    for step in image.runs():
        update = next((each for each in step.commands if is_apt(each, "update")), None)
        install = next((each for each in step.commands if is_apt(each, "install")), None)
        upgrade = next(
            (each for each in step.commands if is_apt(each, "upgrade", "dist-upgrade", "full-upgrade")), None
        )
        if update and not install and not upgrade:
            yield finding(
                "apt-update-alone",
                update.line,
                "the lists are kept with this step, so that a later `apt-get install` meets those of the day on which "
                "it was built, and fails or installs what is old",
                "`RUN apt-get update && apt-get install -y --no-install-recommends ...` in one step",
            )
        if (
            install
            and not install.has("--no-install-recommends")
            and "Install-Recommends" not in step.instruction.value
        ):
            yield finding(
                "apt-recommends",
                install.line,
                "packages that are only recommended are installed, too",
                "`apt-get install -y --no-install-recommends ...`",
                example=install.text,
            )
        if upgrade:
            yield finding(
                "apt-upgrade",
                upgrade.line,
                "what it replaces stays below in the base's layer, so the image has it twice, and two builds of one "
                "Dockerfile differ",
                "Take a newer digest of the base (its tag's of today), which holds the same updates",
                example=upgrade.text,
            )


def unpinned(image: Lineage) -> Iterator[Advice]:
    """Names without a version, where no list or constraint has them."""
    for step in image.runs():
        for command in step.commands:
            if not (is_pip(command) or (is_uv(command) and command.arguments[:2] == ("pip", "install"))):
                continue
            lists = ("-r", "--requirement", "-c", "--constraint", "--build-constraint", "-e", "--editable")
            names = [each for each in _package_names(command) if not _VERSIONED.search(each)]
            names = [each for each in names if each not in ("pip", "setuptools", "wheel", "uv", ".")]
            if names and not command.has(*lists):
                yield finding(
                    "unpinned-packages",
                    command.line,
                    f"{', '.join(names[:5])}: whatever is newest on the day of the build",
                    "`-r requirements.txt` with `==` (and `--require-hashes`), or `uv sync --locked`",
                    example=command.text,
                )


_WITH_VALUE = frozenset(
    (
        "-i",
        "--index-url",
        "--extra-index-url",
        "-f",
        "--find-links",
        "-t",
        "--target",
        "--prefix",
        "--root",
        "--python",
        "-p",
    )
)


def _package_names(command: Command) -> Iterator[str]:
    words = command.words
    start = words.index("install") + 1
    skip = False
    for word in words[start:]:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in _WITH_VALUE
        else:
            yield word


def compilers_stay(image: Lineage) -> Iterator[Advice]:
    """Compilers that the last stage installs and does not remove in the same RUN."""
    for step in image.runs():
        if step.stage is not image.last:
            continue
        for command in step.commands:
            manager = command.name in (*_APT, *_DNF, "apk")
            if not manager or not {"install", "add"} & set(command.arguments):
                continue
            names = [each for each in command.arguments if _COMPILERS.match(each)]
            words = {word for each in step.commands for word in each.arguments if each.name in (*_APT, *_DNF, "apk")}
            if names and not words & {"purge", "remove", "autoremove", "del"}:
                yield finding(
                    "compilers-last-stage",
                    command.line,
                    f"{', '.join(names[:5])}: needed to build, and then part of the image (keep a C compiler where "
                    "Triton or torch.compile work when it runs)",
                    "FROM ... AS build, install and build there; `COPY --from=build /venv /venv` in the last stage",
                    example=command.text,
                )
                break
