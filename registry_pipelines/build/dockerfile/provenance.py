"""SLSA provenance of an image from a Dockerfile: ours, with what BuildKit attests turned into it.

BuildKit's statement (github.com/moby/buildkit, docs/attestations/slsa-provenance.md; v0.2 or v1 by its version) has the
bases by digest and every step. It also has the time and the id of the run, so it is not attached as it is: equal builds
give equal bytes here, and a second build attaches nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote

from registry_pipelines import __version__
from registry_pipelines.build.dockerfile.image import MadeImage
from registry_pipelines.build.dockerfile.model import DockerfileSpec
from registry_pipelines.build.provenance import STATEMENT_TYPE
from registry_pipelines.build.revision import Revision
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place

BUILD_TYPE = "urn:registry-pipelines:build:dockerfile:v1"
"""What ``externalParameters`` mean: the fields of DockerfileSpec, and the digest of everything that was given."""

BUILDER_ID = "urn:registry-pipelines:builder:dockerfile"
"""Who built, when the caller names nobody else."""

MAX_STEPS = 2_000
"""Steps that a statement names; of more it says how many there are."""


def provenance(
    spec: DockerfileSpec,
    place: Place,
    made: MadeImage,
    *,
    top: Descriptor,
    inputs: Digest,
    dockerfile: Digest,
    engine: str,
    source_date: int,
    revision: Revision | None,
    builder_id: str = BUILDER_ID,
    ran: Sequence[str] = (),
    internal: Mapping[str, Any] | None = None,
) -> bytes:
    """The statement's JSON. Subjects: the top digest, then every platform manifest it covers. inputs: see
    ``inputs.input_digest``. ran: names of the engine's steps, which tell the bases where nothing is attested.
    internal: more that is known of the result, such as libraries that are missing."""
    digests = dict.fromkeys([top.digest, *(image.stored.digest for image in made.images)])
    steps = {
        str(image.platform): _steps(made.statements[image.stored.digest])
        for image in made.images
        if image.stored.digest in made.statements
    }
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": place.repository, "digest": {digest.algorithm: digest.hex}} for digest in digests],
        "predicateType": PROVENANCE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _parameters(spec, dockerfile),
                "internalParameters": {
                    "inputs": str(inputs),
                    "sourceDateEpoch": source_date,
                    **({"steps": steps} if any(steps.values()) else {}),
                    **(internal or {}),
                },
                "resolvedDependencies": _dependencies(made, revision, ran),
            },
            "runDetails": {"builder": {"id": builder_id, "version": _versions(engine)}},
        },
    }
    return json.dumps(statement, separators=(",", ":"), sort_keys=True).encode()


def stated_inputs(statement: bytes) -> str:
    """The digest of what a build was given, by its provenance; empty where that is another's or cannot be read."""
    try:
        predicate = _mapping(_mapping(json.loads(statement)).get("predicate"))
    except (ValueError, RecursionError):
        return ""
    definition = _mapping(predicate.get("buildDefinition"))
    if definition.get("buildType") != BUILD_TYPE:
        return ""
    return str(_mapping(definition.get("internalParameters")).get("inputs", ""))


def _versions(engine: str) -> dict[str, str]:
    return {"registry-pipelines": __version__, "engine": engine}


def _parameters(spec: DockerfileSpec, dockerfile: Digest) -> dict[str, Any]:
    return {
        "name": spec.name,
        "version": spec.version,
        "dockerfile": {dockerfile.algorithm: dockerfile.hex},
        "target": spec.target,
        "platforms": [str(platform) for platform in spec.platforms],
        "args": dict(spec.args),
        "secrets": sorted(spec.secrets),
        "labels": dict(spec.labels),
        "links": spec.links,
        "network": spec.network,
    }


_FROM = re.compile(r"\bFROM (?P<name>[^\s@]+)@sha256:(?P<hex>[0-9a-f]{64})\b")
"""How BuildKit names the step that takes a base: ``[build 1/4] FROM docker.io/library/python:3.12@sha256:...``."""


def _dependencies(made: MadeImage, revision: Revision | None, ran: Sequence[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for predicate in made.statements.values():
        found += _materials(predicate)
    if not made.statements:
        named = filter(None, map(_FROM.search, ran))
        found += [{"uri": f"oci://{match['name']}", "digest": {"sha256": match["hex"]}} for match in named]
    if revision and revision.commit:
        found.append(
            {
                "uri": f"git+{revision.remote or 'local'}",
                "digest": {"gitCommit": revision.commit},
                "annotations": {"dirty": revision.dirty},
            }
        )
    unique = {json.dumps(each, sort_keys=True): each for each in found}
    return [unique[key] for key in sorted(unique)]


def _materials(predicate: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What BuildKit fetched, by digest: ``materials`` of v0.2, ``resolvedDependencies`` of v1."""
    listed = predicate.get("materials") or _mapping(predicate.get("buildDefinition")).get("resolvedDependencies")
    for each in listed if isinstance(listed, list) else ():
        digest = _mapping(_mapping(each).get("digest"))
        if uri := str(_mapping(each).get("uri", "")):
            yield {"uri": image_uri(uri), "digest": {str(name): str(value) for name, value in digest.items()}}


def image_uri(uri: str) -> str:
    """``oci://docker.io/library/python:3.12`` for ``pkg:docker/python@3.12?platform=linux%2Famd64`` (package-url,
    "docker" type; BuildKit leaves Docker Hub's own names out); anything else as it is."""
    if not uri.startswith("pkg:docker/"):
        return uri
    path, _, query = uri.removeprefix("pkg:docker/").partition("?")
    name, _, version = path.partition("@")
    name = unquote(name)
    first = name.partition("/")[0]
    if "/" not in name:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    told = parse_qs(query).get("digest", [""])[0]
    return f"oci://{name}" + (f":{unquote(version)}" if version else "") + (f"@{told}" if told else "")


def _steps(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each step with its line of the Dockerfile: what was run, and with which network."""
    definition, lines = _llb(predicate)
    steps = []
    for each in definition[:MAX_STEPS]:
        op = _mapping(_mapping(each.get("op")).get("Op"))
        said: dict[str, Any] = {}
        if source := _mapping(op.get("source")).get("identifier"):
            said = {"source": str(source)}
        elif meta := _mapping(_mapping(op.get("exec")).get("meta")):
            said = {"run": [str(word) for word in meta.get("args") or ()]}
        elif op.get("file"):
            said = {"file": sorted(set(_actions(op["file"])))}
        if said:
            line = lines.get(str(each.get("id")), 0)
            steps.append({**said, **({"line": line} if line else {})})
    return steps + ([{"more": len(definition) - MAX_STEPS}] if len(definition) > MAX_STEPS else [])


def _actions(file: Any) -> Iterator[str]:
    for action in _mapping(file).get("actions") or ():
        yield from map(str, _mapping(_mapping(action).get("Action")))


def _llb(predicate: Mapping[str, Any]) -> tuple[Sequence[Mapping[str, Any]], dict[str, int]]:
    """BuildKit's own steps, and the line of each, by either version of the predicate."""
    config = _mapping(predicate.get("buildConfig"))
    if not config:
        internal = _mapping(_mapping(predicate.get("buildDefinition")).get("internalParameters"))
        config = _mapping(internal.get("buildConfig"))
    metadata = _mapping(predicate.get("metadata"))
    about = _mapping(metadata.get("https://mobyproject.org/buildkit@v1#metadata"))
    about = about or _mapping(_mapping(_mapping(predicate.get("runDetails")).get("metadata")).get("buildkit_metadata"))
    locations = _mapping(_mapping(about.get("source")).get("locations"))
    listed = config.get("llbDefinition")
    steps = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return steps, {name: line for name, each in locations.items() if (line := _line(each))}


def _line(location: Any) -> int:
    try:
        return int(location["locations"][0]["ranges"][0]["start"]["line"])
    except (LookupError, TypeError, ValueError):
        return 0


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
