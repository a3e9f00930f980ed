"""Build a release, and say how it was made."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from registry_pipelines.build.builder import PROVENANCE_ARTIFACT, BuildResult, BuildSpec, LayerRow
from registry_pipelines.chain.origins import origins_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Build
from registry_pipelines.errors import InputError
from registry_pipelines.evidence.artifacts import Attached, attached
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.tags import read_version
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.scan.redacting import redacted


def build(session: Session, image_name: str) -> StageResult:
    """Build an image of the configuration and push it to its source registry, with provenance.

    ``facts["release"]`` is its key, of a release or of what one is derived of. Raises InputError when the image has no
    ``build`` or ``dockerfile`` section.
    """
    image = session.image(image_name)
    if image.dockerfile is not None:
        from registry_pipelines.chain.dockerfile import build as build_dockerfile  # an engine runs it

        return build_dockerfile(session, image, image.dockerfile)
    if image.build is None:
        what = f"image {image_name} has no build section, and no dockerfile section"
        raise InputError(what, do="Write one of them; an image that its team's CI pushes needs none, and no build")
    if read_version(image.build.version) is None:
        from registry_pipelines.chain.moving import check_tag_moves  # most who load this build nothing

        check_tag_moves(session, image, image.build.version)  # a second build could not be pushed
    from registry_pipelines.build.layers import LayersBuilder  # nothing else here builds
    from registry_pipelines.build.recording import Keeping
    from registry_pipelines.oci.layer.checkpoints import SPAN_BYTES
    from registry_pipelines.oci.layer.store import LayerStore
    from registry_pipelines.scan.collecting import MadeLayer

    state = session.config.state
    keeping = Keeping(
        LayerStore(state / "layers"),
        span_bytes=image.stream.span_size if image.stream else SPAN_BYTES,
        read=lambda: MadeLayer(state),
    )
    spec = build_spec(image_name, image.build, session.config.path.parent)
    if spec.wheels_from:
        from registry_pipelines.chain.wheels import for_build  # only behind a gap

        spec = for_build(session, spec)
    from registry_pipelines.chain.package_indexes import open_sources

    with open_sources(session, spec.index) as packages:
        builder = LayersBuilder(
            state,
            engine=session.engine(receipts=False),
            open_place=lambda text: open_base_place(session, text),
            signer=session.keys.at_hand("builder"),
            keeping=keeping,
            packages=packages,
        )
        result = builder.build(spec, session.places.source(image), progress=session.progress)
    release = Release(image_name, image.build.version, result.descriptor.digest)
    facts: dict[str, Scalar] = {
        "wheels": sum(len(wheels) for wheels in result.lock.values()),
        "provenance": result.provenance.digest,
        "wheels_for": "; ".join(result.targets.values()),
        **({"wheels_from": spec.wheels_from} if spec.wheels_from else {}),
        **({"index": " ".join(spec.index)} if spec.index else {}),
    }
    return built(release, result, facts, _notes(result))


def built(
    release: Release, result: BuildResult, facts: Mapping[str, Scalar], notes: list[str], *, before: str = ""
) -> StageResult:
    """What a build tells, whoever built. facts: what only this builder knows. before: in front of what was sent."""
    from registry_pipelines.build.links.report import link_notes  # nothing else here tells of libraries

    sent = [row for row in result.layers if not row.reused]
    action = f"{before}{len(sent)} of {count_text(len(result.layers), 'layer')} sent"
    return StageResult(
        stage="build",
        subject=release.key,
        action=action if result.changed else "unchanged",
        digest=result.descriptor.digest,
        changed=result.changed,
        bytes_moved=result.bytes_uploaded,
        seconds=result.seconds,
        facts={
            "release": release.key,
            "tags": " ".join(result.tags),
            "platforms": len(result.manifests),
            "layers": len(result.layers),
            "layers_sent": len(sent),
            "image_bytes": sum(row.size for row in result.layers),
            "links_missing": sum(len(report.of("certain")) for report in result.links.values()),
            **facts,
        },
        rows=[_layer(row) for row in result.layers],
        notes=[*notes, *link_notes(result.links)],
    )


def _notes(result: BuildResult) -> list[str]:
    """What the builder warns of, what was let pass in wheels, and whose files stand where several brought one."""
    notes = [f"warning: {text}" for text in result.warnings]
    notes += [f"{filename}: {note}" for filename, texts in result.notes.items() for note in texts]
    for conflict in dict.fromkeys((one.path, one.winner, one.losers) for one in result.conflicts):
        path, winner, losers = conflict
        notes.append(f"{path} is the file of {winner}; left out: that of {', '.join(losers)}")
    return notes


def build_spec(name: str, settings: Build, folder: Path) -> BuildSpec:
    """The builder's specification of a build section. folder: the configuration's, where relative paths start."""
    return BuildSpec(name=name, folder=folder, **msgspec.structs.asdict(settings))


def open_base_place(session: Session, text: str) -> tuple[Place, str]:
    """Where a base image is, and its tag or digest."""
    located = session.places.locate(text)
    return located.place, located.selector


def _layer(row: LayerRow) -> Mapping[str, Scalar]:
    return {
        "platform": row.platform,
        "contents": redacted(row.contents)[:200],
        "digest": row.digest,
        "bytes": row.size,
        "how": row.how,
        "bytes_sent": row.bytes_uploaded,
    }


def provenance(session: Session, release: Release) -> StageResult:
    """Read the provenance attached to a release, or to what it was derived of; ``ok`` also without one: the policy
    decides whether that may be."""
    started = time.monotonic()
    place = session.source(release)
    session.subject(release)
    statements, origin = _statements(place, release.digest), ""
    for each in [] if statements else origins_of(session, release):
        if statements := _statements(place, each.digest):
            origin = each.digest
            break
    if not statements:
        return StageResult(
            stage="provenance",
            subject=release.key,
            action="no provenance is attached",
            seconds=time.monotonic() - started,
            facts={"release": release.key, "statements": 0},
            reasons=["its builder attached no SLSA provenance"],
        )
    carrier, predicate = statements[0]
    definition = _mapping(predicate.get("buildDefinition"))
    builder = _mapping(_mapping(predicate.get("runDetails")).get("builder"))
    inputs = [each for each in definition.get("resolvedDependencies") or () if isinstance(each, dict)]
    return StageResult(
        stage="provenance",
        subject=release.key,
        action=f"{count_text(len(inputs), 'input')} named by digest{', of its origin' if origin else ''}",
        digest=carrier.descriptor.digest,
        seconds=time.monotonic() - started,
        facts={
            "release": release.key,
            "statements": len(statements),
            "inputs": len(inputs),
            "builder": str(builder.get("id", "")),
            "build_type": str(definition.get("buildType", "")),
            **({"origin": origin} if origin else {}),
        },
        rows=[_input_row(each) for each in inputs],
    )


def _statements(place: Place, digest: Digest) -> list[tuple[Attached, dict[str, Any]]]:
    documents = attached(place, digest, artifact_type=PROVENANCE_ARTIFACT)
    return [(each, predicate) for each in documents if (predicate := _predicate(each.content))]


def _predicate(raw: bytes) -> dict[str, Any]:
    """The SLSA predicate of an unsigned statement; empty when it is none. What is wrong with it is signing's to say."""
    try:
        statement = _mapping(json.loads(raw))
    except (ValueError, RecursionError):
        return {}
    return _mapping(statement.get("predicate")) if statement.get("predicateType") == PROVENANCE_TYPE else {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _input_row(dependency: dict[str, Any]) -> dict[str, Scalar]:
    digests = _mapping(dependency.get("digest"))
    return {
        "input": str(dependency.get("name") or dependency.get("uri", "")),
        "digest": ", ".join(f"{name}:{value}" for name, value in digests.items()),
        "uri": str(dependency.get("uri", "")),
        **({"from": str(dependency["downloadLocation"])} if "downloadLocation" in dependency else {}),
    }
