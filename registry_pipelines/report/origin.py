"""What a build's provenance says of where an image came from: source, builder, bases; of whichever builder.

SLSA provenance v1 (slsa.dev, "Provenance") as our builder, BuildKit and GitHub's attestations write it. The predicate
is data from outside: whatever has another shape than the format's is passed over, long text is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MOST_CHARACTERS = 500
"""Of one text that is taken over."""
MOST_INPUTS = 10_000
"""Dependencies that are looked at."""

BASE_SCHEMES = ("oci://", "pkg:docker/", "pkg:oci/", "docker-image://")
"""How URIs of images begin: ours, BuildKit's package URLs, purl's own type, BuildKit's ``docker-image``."""


class Input(NamedTuple):
    """Something that went into an image."""

    uri: str
    digest: str
    """``algorithm:value``; empty where the provenance names none."""
    dirty: bool = False
    """Whether the builder said that the commit is not all: files were changed beside it."""


class Origin(NamedTuple):
    """What provenance says. Claims of the builder; whether they count is the signature's to say."""

    builder: str
    build_type: str
    sources: tuple[Input, ...]
    bases: tuple[Input, ...]
    others: int
    """Further inputs: packages, layers, files."""
    invocation: str
    """Address of the run that built it, or its id; empty where none is named."""
    started: str
    finished: str


def read_origin(predicate: Mapping[str, Any]) -> Origin:
    """Read the predicate of a statement of provenance, v1. What is not there is empty; nothing is raised."""
    definition, run = _mapping(predicate.get("buildDefinition")), _mapping(predicate.get("runDetails"))
    inputs = list(_inputs(definition.get("resolvedDependencies")))
    sources = [each for each in inputs if _is_source(each)] + list(_vcs(run))
    bases = [each for each in inputs if each.uri.startswith(BASE_SCHEMES)]
    metadata = _mapping(run.get("metadata"))
    return Origin(
        builder=_text(_mapping(run.get("builder")).get("id")),
        build_type=_text(definition.get("buildType")),
        sources=tuple(dict.fromkeys(sources)),
        bases=tuple(dict.fromkeys(bases)),
        others=len(inputs) - sum(_is_source(each) for each in inputs) - len(bases),
        invocation=_text(metadata.get("invocationId") or metadata.get("invocationID")),
        started=_text(metadata.get("startedOn")),
        finished=_text(metadata.get("finishedOn")),
    )


def _inputs(found: Any) -> Iterator[Input]:
    for each in found[:MOST_INPUTS] if isinstance(found, list) else ():
        if isinstance(each, dict) and (uri := _text(each.get("uri") or each.get("name"))):
            dirty = _mapping(each.get("annotations")).get("dirty") is True
            yield Input(uri, _digest(each.get("digest")), dirty)


def _digest(found: Any) -> str:
    """A commit before any other: GitHub and we write ``gitCommit``, BuildKit ``sha1``."""
    digests = {name: value for name, value in _mapping(found).items() if isinstance(value, str)}
    for name in ("gitCommit", "sha1", "sha256", *digests):
        if name in digests:
            return f"{_text(name)}:{_text(digests[name])}"
    return ""


def _is_source(each: Input) -> bool:
    return each.uri.startswith("git+") or each.digest.startswith("gitCommit:") or ".git#" in each.uri


def _vcs(run: Mapping[str, Any]) -> Iterator[Input]:
    """BuildKit's ``vcs`` of a local context: the address and the commit of the folder it was started in."""
    metadata = _mapping(run.get("metadata"))
    for name in ("buildkit_metadata", "https://mobyproject.org/buildkit@v1#metadata"):
        vcs = _mapping(_mapping(metadata.get(name)).get("vcs"))
        if revision := _text(vcs.get("revision")):
            source = _text(vcs.get("source")) or "local"
            yield Input(f"git+{source}", f"gitCommit:{revision.removesuffix('-dirty')}", revision.endswith("-dirty"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value[:MOST_CHARACTERS] if isinstance(value, str) else ""
