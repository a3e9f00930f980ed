"""The kinds of findings about an image and about a Dockerfile: how heavy each is, and whether its bytes are waste.

Policies name the kinds of images (``image_advice.deny``), and signed advice says which of them were looked for, so the
names stay what they are. Read by ``promote``, too. What to do is said where the finding is made (``advice``,
``image_findings``, ``lint.rules``).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Severity = Literal["error", "warning", "note"]
"""SARIF's words. ``error``: dangerous. ``warning``: it costs bytes or time, or does otherwise than one thinks.
``note``: worth a look; there are good reasons to leave it as it is."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

AdviceKind = Literal[
    "secrets",
    "secrets-in-config",
    "published-secrets",
    "copied-to-install",
    "hidden",
    "copied-for-metadata",
    "pip-cache",
    "uv-cache",
    "poetry-cache",
    "conda-cache",
    "apt-cache",
    "apk-cache",
    "dnf-cache",
    "npm-cache",
    "cargo-go-cache",
    "git",
    "devel-base",
    "compilers",
    "headers",
    "static-libraries",
    "test-suites",
    "baked-weights",
    "equal-files",
    "slimmer-base",
    "musl-wheels",
    "application-below-dependencies",
    "repeated-layer",
    "empty-layer",
    "too-large-layer",
    "moving-base",
    "expires-by-label",
    "root-user",
]
ADVICE_KINDS: tuple[AdviceKind, ...] = get_args(AdviceKind)

DockerfileKind = Literal[
    "not-pinned",
    "devel-last-stage",
    "compilers-last-stage",
    "copy-before-install",
    "copied-wheels",
    "removed-later",
    "chmod-after-copy",
    "pip-keeps-cache",
    "uv-keeps-cache",
    "conda-keeps-cache",
    "apt-keeps-lists",
    "apk-keeps-cache",
    "dnf-keeps-cache",
    "npm-keeps-cache",
    "no-cache-mount",
    "apt-update-alone",
    "apt-recommends",
    "apt-upgrade",
    "unpinned-packages",
    "weights-copied",
    "clone-keeps-git",
    "secret-argument",
    "secret-copied",
    "secret-in-run",
    "index-credentials",
    "download-piped",
    "add-url",
    "add-not-copy",
    "pipe-hides-failure",
    "cd-is-lost",
    "relative-workdir",
    "sudo",
    "no-user",
    "shell-form",
    "several-cmds",
    "no-dockerignore",
]


class Kind(NamedTuple):
    """What all findings of one kind have in common."""

    severity: Severity
    what: str
    """For a list of rules."""
    wasted: bool = False
    """Whether its bytes would be away, and nothing else would change."""


KINDS: dict[AdviceKind, Kind] = {
    "secrets": Kind("error", "private keys, tokens and passwords in files of any layer, deleted ones too"),
    "secrets-in-config": Kind("error", "tokens and passwords in environment, labels, commands or build arguments"),
    "published-secrets": Kind("note", "keys and passwords that a package brings, so that everybody has them"),
    "copied-to-install": Kind("warning", "wheels, packages and archives that were copied only to be installed", True),
    "hidden": Kind("warning", "overwritten or deleted by a later layer", True),
    "copied-for-metadata": Kind("warning", "the same content again, for another mode, owner or time"),
    "pip-cache": Kind("warning", "pip's cache", True),
    "uv-cache": Kind("warning", "uv's cache", True),
    "poetry-cache": Kind("warning", "Poetry's cache", True),
    "conda-cache": Kind("warning", "package archives and unpacked packages of conda", True),
    "apt-cache": Kind("warning", "apt's lists and archives", True),
    "apk-cache": Kind("warning", "apk's cache", True),
    "dnf-cache": Kind("warning", "cache of dnf, yum or zypper", True),
    "npm-cache": Kind("warning", "cache of npm, Yarn or pnpm", True),
    "cargo-go-cache": Kind("warning", "caches of Cargo and Go", True),
    "git": Kind("warning", "a repository's history", True),
    "devel-base": Kind("warning", "development packages of CUDA, which a runtime base does not have", True),
    "compilers": Kind("warning", "compilers, linkers and build tools", True),
    "headers": Kind("note", "headers", True),
    "static-libraries": Kind("note", "static libraries", True),
    "test-suites": Kind("note", "test suites of packages and of the interpreter", True),
    "baked-weights": Kind("warning", "weights of 1 MiB and more"),
    "equal-files": Kind("warning", "files with the same content", True),
    "slimmer-base": Kind("note", "what a smaller base would not have"),
    "musl-wheels": Kind("note", "wheels for glibc, which an Alpine base cannot load"),
    "application-below-dependencies": Kind("warning", "dependencies above code: each change of code moves them again"),
    "repeated-layer": Kind("warning", "a layer that is there twice"),
    "empty-layer": Kind("warning", "a layer without files"),
    "too-large-layer": Kind("warning", "a layer that some registry refuses"),
    "moving-base": Kind("note", "built on a tag that moves, and nobody wrote down which digest it was"),
    "expires-by-label": Kind("error", "Quay deletes it at the time its label says, mirrored copies too"),
    "root-user": Kind("note", "it starts as root"),
}

DOCKERFILE_RULES: dict[DockerfileKind, Kind] = {
    "not-pinned": Kind("warning", "a base by a tag that moves, not by digest"),
    "devel-last-stage": Kind("warning", "the last stage stands on a `-devel` image"),
    "compilers-last-stage": Kind("warning", "compilers are installed in the last stage and stay there"),
    "copy-before-install": Kind("warning", "all of the context is copied before dependencies are installed"),
    "copied-wheels": Kind("warning", "wheels or packages are copied to be installed by a later step"),
    "removed-later": Kind("warning", "a step deletes what an earlier one wrote"),
    "chmod-after-copy": Kind("warning", "mode or owner is changed behind COPY, which stores all files again"),
    "pip-keeps-cache": Kind("warning", "pip keeps what it fetched in the layer"),
    "uv-keeps-cache": Kind("warning", "uv keeps what it fetched in the layer"),
    "conda-keeps-cache": Kind("warning", "conda keeps archives and packages in the layer"),
    "apt-keeps-lists": Kind("warning", "apt's lists stay in the layer"),
    "apk-keeps-cache": Kind("warning", "apk's index stays in the layer"),
    "dnf-keeps-cache": Kind("warning", "cache of dnf, yum or zypper stays in the layer"),
    "npm-keeps-cache": Kind("warning", "cache of npm, Yarn or pnpm stays in the layer"),
    "no-cache-mount": Kind("note", "a step fetches large packages anew whenever it runs"),
    "apt-update-alone": Kind("warning", "lists of packages that are as old as the build cache"),
    "apt-recommends": Kind("note", "apt installs what packages only recommend"),
    "apt-upgrade": Kind("note", "a step upgrades the packages of the base, which are then there twice"),
    "unpinned-packages": Kind("note", "packages without a version"),
    "weights-copied": Kind("note", "weights become part of the image"),
    "clone-keeps-git": Kind("note", "a repository's history stays in the layer"),
    "secret-argument": Kind("error", "a secret is passed by ARG or ENV"),
    "secret-copied": Kind("error", "a file that holds secrets is copied"),
    "secret-in-run": Kind("error", "a token, key or password stands in the file"),
    "index-credentials": Kind("error", "a package index's credentials stand in a command or variable"),
    "download-piped": Kind("warning", "a script from the network runs without being checked"),
    "add-url": Kind("warning", "ADD fetches from the network without a checksum"),
    "add-not-copy": Kind("note", "ADD where COPY does"),
    "pipe-hides-failure": Kind("note", "a pipe's failure does not end the build"),
    "cd-is-lost": Kind("warning", "cd in a RUN of its own does nothing"),
    "relative-workdir": Kind("note", "a working folder that depends on the base"),
    "sudo": Kind("note", "sudo in a build step"),
    "no-user": Kind("note", "the image starts as root"),
    "shell-form": Kind("warning", "a shell stands between the container and its program, and takes the signals"),
    "several-cmds": Kind("warning", "more than one CMD or ENTRYPOINT in a stage"),
    "no-dockerignore": Kind("warning", "the whole folder is copied, and nothing is left out"),
}
