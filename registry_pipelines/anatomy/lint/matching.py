"""Which line of a Dockerfile made which layer of an image: by the image's history, from its last step back.

Histories of the classic builder (``/bin/sh -c #(nop) COPY dir:... in /app``), of BuildKit (``COPY . /app # buildkit``)
and of Buildah are read. A line without a fitting step has no layer: an image of another Dockerfile has none at all.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from registry_pipelines.anatomy.lint.stages import Lineage, Step
from registry_pipelines.anatomy.report import LayerPart
from registry_pipelines.scan.redacting import redacted

_ARGUMENTS = re.compile(r"\A\|\d+ ")
_NOP = re.compile(r"\A#\(nop\)\s+")
_COMPARED = 400
"""Characters of a command that are compared."""


class _Made(NamedTuple):
    keyword: str
    text: str


def layers_of_lines(image: Lineage, layers: Sequence[LayerPart]) -> Mapping[int, int]:
    """First line of each instruction that made a layer, and the layer's number from 1."""
    made = [_read(each.made_by) for each in layers]
    found: dict[int, int] = {}
    at = len(made) - 1
    for step in reversed(image.steps):
        if step.instruction.keyword not in ("RUN", "COPY", "ADD", "WORKDIR"):
            continue
        place = next((number for number in range(at, -1, -1) if _fits(image, step, made[number])), None)
        if place is None:
            continue
        found[step.instruction.line] = layers[place].number
        at = place - 1
    return found


def _read(text: str) -> _Made:
    text = text.removesuffix(" # buildkit").strip()
    keyword, _, rest = text.partition(" ")
    if keyword in ("COPY", "ADD", "WORKDIR"):
        return _Made(keyword, rest.strip())
    text = rest.strip() if keyword == "RUN" else text
    if _ARGUMENTS.match(text):
        text = text[text.find("/bin/sh -c") :] if "/bin/sh -c" in text else text
    text = re.sub(r"\A(?:/bin/(?:ba)?sh|\S*/bash)(?: -[a-z]+| -o \w+)* ", "", text).strip()
    if _NOP.match(text):
        keyword, _, rest = _NOP.sub("", text).partition(" ")
        return _Made(keyword.upper(), rest.strip())
    return _Made("RUN", text)


def _fits(image: Lineage, step: Step, made: _Made) -> bool:
    instruction = step.instruction
    if instruction.keyword != made.keyword:
        return False
    if instruction.keyword == "RUN":
        ours = (instruction.json and " ".join(instruction.json)) or instruction.value
        if instruction.heredocs:
            ours = instruction.heredocs[0].body
            theirs = made.text.partition("\n")[2] or made.text
            return _plain(redacted(ours))[:80] in _plain(theirs)[:_COMPARED]
        ours = _plain(redacted(str(ours)))
        return bool(ours) and _plain(made.text).endswith(ours[-_COMPARED:])
    if instruction.keyword == "WORKDIR":
        return posixpath.normpath(made.text).endswith(
            posixpath.normpath(instruction.filled or instruction.value).lstrip("/")
        )
    target = image.target_of(step)
    theirs = made.text.split(" in ")[-1] if " in " in made.text else made.text.split(" ")[-1]
    theirs = theirs.strip().strip('"[]').rstrip("/") or "/"
    if posixpath.isabs(theirs):
        return posixpath.normpath(theirs) == target
    return posixpath.normpath(step.paths[1]).rstrip("/") == posixpath.normpath(theirs) or theirs == "."


def _plain(text: str) -> str:
    """Without white space, continuations and quotes' forms: builders join lines in different ways."""
    return re.sub(r"[\s\\]+", "", text)
