"""Lint of an image, of a Dockerfile, or of both together: then lines have bytes, and findings of the image lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from registry_pipelines.anatomy.lint.matching import layers_of_lines
from registry_pipelines.anatomy.lint.rules import lint_dockerfile
from registry_pipelines.anatomy.lint.stages import Lineage, lineage
from registry_pipelines.anatomy.report import Anatomy
from registry_pipelines.build.dockerfile.parsing import parse_dockerfile, read_dockerfile
from registry_pipelines.errors import InputError
from registry_pipelines.scan.advice.document import Advice
from registry_pipelines.scan.advice.kinds import SEVERITIES, AdviceKind, DockerfileKind

_SAME: dict[DockerfileKind, tuple[AdviceKind, ...]] = {
    "pip-keeps-cache": ("pip-cache",),
    "uv-keeps-cache": ("uv-cache",),
    "conda-keeps-cache": ("conda-cache",),
    "apt-keeps-lists": ("apt-cache",),
    "apk-keeps-cache": ("apk-cache",),
    "dnf-keeps-cache": ("dnf-cache",),
    "npm-keeps-cache": ("npm-cache",),
    "clone-keeps-git": ("git",),
    "copied-wheels": ("copied-to-install",),
    "add-url": ("copied-to-install",),
    "chmod-after-copy": ("copied-for-metadata",),
    "weights-copied": ("baked-weights",),
    "compilers-last-stage": ("compilers", "headers", "static-libraries"),
}
"""Which bytes of a line's own layer a finding is about."""
_WHOLE: dict[DockerfileKind, tuple[AdviceKind, ...]] = {
    "devel-last-stage": ("devel-base",),
    "copy-before-install": ("application-below-dependencies",),
}
"""Which finding about the whole image has its bytes."""


class Lint(msgspec.Struct, frozen=True, kw_only=True):
    """All findings, errors first, then by bytes."""

    image: str = ""
    """Empty: only a Dockerfile was looked at."""
    digest: str = ""
    dockerfile: str = ""
    """Empty: only an image was looked at."""
    matched: int = 0
    """Lines of the Dockerfile whose layer was found in the image."""
    compressed: int = 0
    """Stored bytes of the image's layers."""
    wasted: int = 0
    """Stored bytes that need not be there, each file once; an estimate."""
    unread: tuple[str, ...] = ()
    findings: tuple[Advice, ...] = ()


def lint(
    *,
    image: Anatomy | None = None,
    dockerfile: Path | None = None,
    target: str = "",
    args: Mapping[str, str] | None = None,
) -> Lint:
    """Findings about an image, a Dockerfile, or both.

    image: its anatomy, with ``files``. dockerfile: the file; its folder is taken for the
    context. target: a stage; the last unless told. args: build arguments. Raises InputError: a Dockerfile that cannot
    be read or parsed, or has no such stage.
    """
    rows = list(image.advice) if image else []
    matched = 0
    if dockerfile is not None:
        parsed = parse_dockerfile(read_dockerfile(dockerfile), args=args, where=str(dockerfile))
        if parsed.stage(target) is None:
            names = ", ".join(each.name or str(each.number) for each in parsed.stages)
            raise InputError(f"it has no stage {target!r}", where=str(dockerfile), do=f"It has {names}")
        stages = lineage(parsed, target)
        found = lint_dockerfile(stages, context=dockerfile.parent)
        if image is not None:
            lines = layers_of_lines(stages, image.layers)
            matched = len(lines)
            found = [_with_bytes(each, stages, lines, image) for each in found]
            rows = [_with_line(each, {layer: line for line, layer in lines.items()}) for each in rows]
        rows += found
    return Lint(
        image=image.image if image else "",
        digest=str(image.digest) if image else "",
        dockerfile=str(dockerfile) if dockerfile else "",
        matched=matched,
        compressed=image.compressed if image else 0,
        wasted=image.wasted if image else 0,
        unread=image.unread if image else (),
        findings=tuple(sorted(rows, key=lambda each: (SEVERITIES.index(each.severity), -each.compressed, each.line))),
    )


def _with_bytes(found: Advice, stages: Lineage, lines: Mapping[int, int], image: Anatomy) -> Advice:
    """A finding of a line with the bytes that its layer has of it."""
    kind: Any = found.kind
    layer = next((lines[step.instruction.line] for step in stages.steps if _within(found.line, step, lines)), 0)
    if names := _WHOLE.get(kind):
        size, stored = _sum(each for each in image.advice if each.kind in names)
        return msgspec.structs.replace(found, size=size, compressed=stored, layers=(layer,) if layer else ())
    if not layer:
        return found
    if kind == "removed-later":
        gone = [each for each in image.files if each.gone_by == layer]
        size, stored = sum(each.size for each in gone), sum(each.compressed for each in gone)
    else:
        rows = [each for each in image.advice if each.kind in _SAME.get(kind, ()) and layer in each.layers]
        size, stored = 0, sum(_of_layer(each, layer) for each in rows)
    return msgspec.structs.replace(found, size=size, compressed=stored, layers=(layer,))


def _within(line: int, step: Any, lines: Mapping[int, int]) -> bool:
    return step.instruction.line in lines and step.instruction.line <= line <= step.instruction.end_line


def _of_layer(row: Advice, layer: int) -> int:
    return row.layer_bytes[row.layers.index(layer)] if row.layer_bytes else row.compressed


def _sum(rows: Any) -> tuple[int, int]:
    found = list(rows)
    return sum(each.size for each in found), sum(each.compressed for each in found)


def _with_line(row: Advice, lines: Mapping[int, int]) -> Advice:
    """A finding about layers with the line of the one that has the most bytes of it."""
    weights = dict(zip(row.layers, row.layer_bytes or (0,) * len(row.layers), strict=True))
    layer = max((each for each in weights if each in lines), key=lambda each: weights[each], default=0)
    return msgspec.structs.replace(row, line=lines[layer]) if layer else row
