"""The kinds of findings about an image and about a Dockerfile: how heavy each is, and whether its bytes are waste.

Policies name the kinds of images (``image_advice.deny``), and signed advice says which of them were looked for, so the
names stay what they are. Read by ``promote``, too. What to do is said where the finding is made (``advice``,
``image_findings``, ``dockerfile_rules``).
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
    "syntax",
    "not-pinned",
    "unknown-stage",
    "copy-before-install",
    "single-stage-build",
    "devel-last-stage",
    "pip-keeps-cache",
    "uv-keeps-cache",
    "conda-keeps-cache",
    "apt-keeps-lists",
    "apt-update-alone",
    "apt-recommends",
    "apt-upgrade",
    "apk-keeps-cache",
    "dnf-keeps-cache",
    "npm-keeps-cache",
    "removed-later",
    "copied-wheels",
    "chmod-after-copy",
    "add-url",
    "add-not-copy",
    "clone-keeps-git",
    "secret-argument",
    "secret-copied",
    "secret-in-run",
    "pip-credentials",
    "download-piped",
    "pipe-hides-failure",
    "cd-is-lost",
    "relative-workdir",
    "sudo",
    "no-user",
    "shell-form",
    "several-cmds",
    "maintainer",
    "no-dockerignore",
    "weights-copied",
    "unpinned-packages",
]
DOCKERFILE_KINDS: tuple[DockerfileKind, ...] = get_args(DockerfileKind)


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


def severity_of(kind: str) -> Severity:
    """Of an image's finding; ``warning`` for a kind of a later build."""
    found = KINDS.get(kind)  # type: ignore[call-overload]
    return found.severity if found else "warning"
