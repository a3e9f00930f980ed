"""SLSA provenance of a build: what went in, by digest.

An in-toto Statement v1 with predicate ``https://slsa.dev/provenance/v1`` (slsa.dev, "Provenance"). No clock and no run
id: equal builds give equal bytes, so a second build attaches nothing new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import asdict

from registry_pipelines import __version__
from registry_pipelines.build.bases import Base
from registry_pipelines.build.builder import (
    BUILD_TYPE,
    BuildSpec,
    LayerRow,
    LockedWheel,
    SettledConflict,
)
from registry_pipelines.build.compiling import IDENTITY
from registry_pipelines.build.links.report import LinkReport, link_parameters
from registry_pipelines.build.requirement_lines import asked_for, redacted
from registry_pipelines.build.revision import Revision
from registry_pipelines.build.splice import CODEC
from registry_pipelines.evidence.predicates import PROVENANCE_TYPE
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


def provenance(
    spec: BuildSpec,
    place: Place,
    *,
    builder_id: str,
    top: Descriptor,
    manifests: Sequence[Descriptor],
    bases: Mapping[str, Base],
    lock: Mapping[str, Sequence[LockedWheel]],
    rows: Sequence[LayerRow],
    revision: Revision | None,
    conflicts: Sequence[SettledConflict] = (),
    notes: Mapping[str, Sequence[str]] | None = None,
    warnings: Sequence[str] = (),
    targets: Mapping[str, str] | None = None,
    links: Mapping[str, LinkReport] | None = None,
) -> bytes:
    """The statement's JSON. Subjects: the top digest, then every platform manifest it covers.

    conflicts: whose files the image has where several brought one path. notes: by file name of a wheel, what was let
    pass; they stand in its annotations. targets: by platform, what wheels were chosen for. links: by platform, what
    does not link.
    """
    digests = dict.fromkeys([top.digest, *(manifest.digest for manifest in manifests)])
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": place.repository, "digest": {digest.algorithm: digest.hex}} for digest in digests],
        "predicateType": PROVENANCE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _parameters(spec),
                "internalParameters": {
                    "codec": CODEC,
                    "byteCode": IDENTITY,
                    **({"settledConflicts": [asdict(conflict) for conflict in conflicts]} if conflicts else {}),
                    **({"warnings": list(warnings)} if warnings else {}),
                    **({"targets": dict(targets)} if targets else {}),
                    **({"links": link_parameters(links)} if links else {}),
                },
                "resolvedDependencies": _dependencies(bases, lock, rows, revision, notes or {}),
            },
            "runDetails": {"builder": {"id": builder_id, "version": {"registry-pipelines": __version__}}},
        },
    }
    return json.dumps(statement, separators=(",", ":"), sort_keys=True).encode()


def _parameters(spec: BuildSpec) -> dict[str, Any]:
    """The specification as given. Environment values stand in the image config and are not repeated."""
    return {
        "name": spec.name,
        "version": spec.version,
        "base": spec.base,
        "python": spec.python,
        "requirements": asked_for(spec.requirements, spec.requirements_file, folder=spec.folder.absolute()),
        **({"libc": spec.libc} if spec.libc else {}),
        **({"wheelsFrom": spec.wheels_from} if spec.wheels_from else {}),
        **({"index": list(spec.index)} if spec.index else {}),
        **({"findLinks": [redacted(place) for place in spec.find_links]} if spec.find_links else {}),
        "workdir": spec.workdir,
        "entrypoint": list(spec.entrypoint),
        "command": list(spec.command),
        "environment": sorted(spec.environment),
        "labels": dict(spec.labels),
        "user": spec.user,
        **({"writable": list(spec.writable)} if spec.writable else {}),
        "platforms": [str(platform) for platform in spec.platforms],
        **(
            {"conflicts": [{"path": path, "wins": name} for path, name in spec.conflicts.items()]}
            if spec.conflicts
            else {}
        ),
    }


def _annotated(wheel: LockedWheel, notes: Sequence[str]) -> dict[str, Any]:
    """What else a ResourceDescriptor says of a wheel: where it came from, and what its index and its reader say."""
    about: dict[str, Any] = dict(wheel.origin)
    location = about.pop("downloadLocation", "")
    annotations = {**about, **({"notes": list(notes)} if notes else {})}
    return {
        **({"downloadLocation": location} if location else {}),
        **({"annotations": annotations} if annotations else {}),
    }


def _dependencies(
    bases: Mapping[str, Base],
    lock: Mapping[str, Sequence[LockedWheel]],
    rows: Sequence[LayerRow],
    revision: Revision | None,
    notes: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    dependencies: list[dict[str, Any]] = []
    for base in bases.values():
        if base.digest:
            # downloadLocation (SLSA 1.0, ResourceDescriptor): where it came from, when its uri says another place.
            from_cache = {"downloadLocation": f"oci://{base.served_by}@{base.digest}"} if base.served_by else {}
            digest = {base.digest.algorithm: base.digest.hex}
            dependencies.append({"uri": f"oci://{base.name}", "digest": digest, **from_cache})
    for row in rows:
        if row.contents in ("system", "python", "application"):
            uri = f"urn:registry-pipelines:layer:{row.contents}:{row.platform}"
            dependencies.append({"uri": uri, "digest": {row.diff_id.algorithm: row.diff_id.hex}})
    if revision and revision.commit:
        dependencies.append(
            {
                "uri": f"git+{revision.remote or 'local'}",
                "digest": {"gitCommit": revision.commit},
                "annotations": {"dirty": revision.dirty},
            }
        )
    wheels = {wheel.sha256: wheel for wheels in lock.values() for wheel in wheels}
    for wheel in sorted(wheels.values(), key=lambda wheel: (wheel.name, wheel.filename)):
        about = _annotated(wheel, notes.get(wheel.filename, ()))
        dependencies.append({"uri": wheel.purl, "name": wheel.filename, "digest": {"sha256": wheel.sha256}, **about})
    unique = {json.dumps(dependency, sort_keys=True): dependency for dependency in dependencies}
    return list(unique.values())
