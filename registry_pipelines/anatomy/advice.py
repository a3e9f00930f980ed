"""Bytes that need not be in an image, and what to write instead. A file counts in one kind at most, those that a later
layer hides first; equal files and layers are beside that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from registry_pipelines.anatomy.report import Advice, Equal, FilePart
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.repeats import EMPTY_DIFF_IDS, repeated_layers
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import size_text
from registry_pipelines.transfer.limits.rules import KNOWN

EXAMPLES = 5
"""Paths named for one kind."""


class _Kind(NamedTuple):
    name: str
    path: re.Pattern[str]
    why: str
    do: str


def _kind(name: str, path: str, why: str, do: str) -> _Kind:
    return _Kind(name, re.compile(path), why, do)


_CACHE = "a package manager's cache: nothing reads it when the image runs"
KINDS = (
    _kind("pip-cache", r"(?:^|/)\.cache/pip/", _CACHE, "`pip install --no-cache-dir`, or RUN --mount=type=cache"),
    _kind("uv-cache", r"(?:^|/)\.cache/uv/", _CACHE, "`uv pip install --no-cache`, or RUN --mount=type=cache"),
    _kind("poetry-cache", r"(?:^|/)\.cache/pypoetry/", _CACHE, "RUN --mount=type=cache,target=/root/.cache/pypoetry"),
    _kind(
        "conda-cache",
        r"(?:^|/)(?:(?:ana|mini|micro)?(?:conda|forge|mamba)\d?|\.conda|\.mamba)/pkgs/",
        _CACHE,
        "`conda clean -afy` in the same RUN as the installation",
    ),
    _kind(
        "apt-cache",
        r"^var/(?:cache/apt/|lib/apt/lists/|cache/debconf/[^/]*-old$)",
        _CACHE,
        "`rm -rf /var/lib/apt/lists/* && apt-get clean` in the same RUN",
    ),
    _kind("apk-cache", r"^(?:var/cache/apk/|etc/apk/cache/)", _CACHE, "`apk add --no-cache`"),
    _kind("dnf-cache", r"^var/cache/(?:dnf|yum|libdnf5|zypp)/", _CACHE, "`dnf clean all` in the same RUN"),
    _kind(
        "npm-cache", r"(?:^|/)(?:\.npm/_cacache|\.cache/(?:yarn|pnpm)|\.yarn/cache)/", _CACHE, "`npm cache clean -f`"
    ),
    _kind(
        "cargo-go-cache", r"(?:^|/)(?:\.cargo/registry|go/pkg/mod/cache|\.cache/go-build)/", _CACHE, "Build in a stage"
    ),
    _kind("git", r"(?:^|/)\.git/", "a repository's history came with `COPY .`", "Put `.git` into `.dockerignore`"),
    _kind(
        "test-suites",
        r"(?:^|/)(?:site-packages|dist-packages)/(?:[^/]+/)*tests?/|(?:^|/)lib/python3\.\d+/(?:test|[^/]+/tests?)/",
        "test suites of packages, which few programs import",
        "Delete them in the RUN that installs, or build with one layer a wheel that leaves them out",
    ),
    _kind(
        "static-libraries",
        r"\.a\Z|_static[^/]*\.lib\Z",
        "static libraries are for linking at build time",
        "Take the `-runtime` base instead of `-devel`, or copy from a build stage",
    ),
    _kind(
        "headers",
        r"(?:^|/)include/.*|\.(?:h|hpp|hh|hxx|cuh|inl)\Z",
        "headers are for compiling; keep them only where programs compile when they run (Triton, torch extensions)",
        "Take the `-runtime` base instead of `-devel`, or copy from a build stage",
    ),
)
_HIDDEN_WHY = "a later layer overwrites or deletes it: every pull moves it, and no container sees it"
_COPIED_WHY = "the same content again: a later layer changed nothing but mode, owner or times, and carries all of it"


def advice(files: Sequence[FilePart], copied: Sequence[FilePart], equal: Sequence[Equal]) -> list[Advice]:
    """What files tell, the most bytes first. copied: those that overwrite the same content."""
    kinds: dict[str, list[FilePart]] = {}
    for each in files:
        if each.gone:
            kinds.setdefault("hidden", []).append(each)
        elif each.class_ == "weights":
            kinds.setdefault("baked-weights", []).append(each)
        elif found := next((kind for kind in KINDS if kind.path.search(each.path)), None):
            kinds.setdefault(found.name, []).append(each)
    told = {kind.name: (kind.why, kind.do) for kind in KINDS} | {
        "hidden": (_HIDDEN_WHY, "Delete in the RUN that wrote it, or copy what is wanted from a build stage"),
        "baked-weights": (
            "weights change apart from code, gzip does not make them smaller, and every release moves those that share "
            "a layer with anything else",
            "Mount them as a volume or an image of their own, or COPY each file in a layer of its own",
        ),
    }
    rows = [_row(name, *told[name], parts) for name, parts in kinds.items()]
    if copied:
        rows.append(_row("copied-for-metadata", _COPIED_WHY, "Use COPY --chmod and --chown, not RUN chmod", copied))
    if equal:
        rows.append(_equal_row(equal))
    return sorted(rows, key=lambda row: (-row.compressed, row.kind))


def _row(kind: str, why: str, do: str, parts: Iterable[FilePart]) -> Advice:
    parts = sorted(parts, key=lambda each: -each.size)
    return Advice(
        kind=kind,
        files=len(parts),
        size=sum(each.size for each in parts),
        compressed=sum(each.compressed for each in parts),
        layers=tuple(sorted({each.layer for each in parts})),
        why=why,
        do=do,
        examples=tuple(each.path for each in parts[:EXAMPLES]),
    )


def _equal_row(equal: Sequence[Equal]) -> Advice:
    return Advice(
        kind="equal-files",
        files=sum(each.copies - 1 for each in equal),
        size=sum(each.wasted for each in equal),
        compressed=sum(each.wasted_compressed for each in equal),
        layers=tuple(sorted({layer for each in equal for layer in each.layers})),
        why="files with the same content stand in the image several times",
        do="Install a package once, and make links instead of copies",
        examples=tuple(path for each in equal[:EXAMPLES] for path in each.paths[:2])[:EXAMPLES],
    )


def layer_advice(layers: Sequence[Descriptor], diff_ids: Sequence[Digest], empty: Sequence[int]) -> list[Advice]:
    """What layers tell as a whole. empty: numbers, from 1, of those without an entry."""
    rows = []
    for layer, places in repeated_layers(layers, diff_ids):
        rows.append(
            _layer_row(
                "repeated-layer",
                layer.size * (len(places) - 1),
                places,
                "the image has this layer more than once; GKE's Image streaming takes no such image",
                "Remove the step that is there twice",
            )
        )
    empties = sorted({*empty, *(number for number, each in enumerate(diff_ids, 1) if each in EMPTY_DIFF_IDS)})
    if empties:
        size = sum(layers[number - 1].size for number in empties)
        rows.append(
            _layer_row(
                "empty-layer",
                size,
                empties,
                "it holds nothing; GKE's Image streaming takes no image with one",
                "Build with BuildKit, which leaves empty layers out",
            )
        )
    for number, layer in enumerate(layers, 1):
        limits = sorted({rule.max_layer_bytes for rule in KNOWN if 0 < rule.max_layer_bytes < layer.size})
        if limits:
            rows.append(
                _layer_row(
                    "too-large-layer",
                    layer.size,
                    [number],
                    "over what some registries take of one layer: " + ", ".join(map(size_text, limits)),
                    "Split the step: files of one package each, or one COPY for each large file",
                )
            )
    return rows


def _layer_row(kind: str, compressed: int, numbers: Sequence[int], why: str, do: str) -> Advice:
    return Advice(kind=kind, files=0, size=0, compressed=compressed, layers=tuple(numbers), why=why, do=do, examples=())
