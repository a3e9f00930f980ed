"""Configs, manifests and tags of the images we make (OCI image-spec 1.1, config.md, manifest.md, annotations.md)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from registry_pipelines.build.bases import Base
from registry_pipelines.build.builder import BuildSpec, LayerRow
from registry_pipelines.build.dockerfile.model import DockerfileSpec
from registry_pipelines.build.entries import FIXED_TIME
from registry_pipelines.build.interpreter import USER_ID
from registry_pipelines.build.pushing import layer_descriptor
from registry_pipelines.build.revision import Revision
from registry_pipelines.errors import InputError
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.references import check_tag

CREATED_BY = "registry-pipelines build"
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
_INTERPRETER_ENVIRONMENT = {
    "PATH": _PATH,
    "LANG": "C.UTF-8",
    "HOME": "/home/nonroot",
    "PYTHON_VERSION": ".".join(map(str, sys.version_info[:3])),
}
"""What the official Python images set too; scanners read PYTHON_VERSION."""
_FIXED_CREATED = f"{datetime.fromtimestamp(FIXED_TIME, UTC):%Y-%m-%dT%H:%M:%SZ}"


def image_config(
    spec: BuildSpec, platform: Platform, base: Base, rows: Sequence[LayerRow], revision: Revision | None
) -> bytes:
    """The config's JSON. ``created`` is the commit's time, or a fixed one: the build's clock would make equal images
    differ."""
    created = (revision and revision.rfc3339) or _FIXED_CREATED
    history = [
        *base.history,
        *({"created": created, "created_by": f"{CREATED_BY}: {row.contents}"} for row in _own(base, rows)),
    ]
    document: dict[str, Any] = {
        "created": created,
        "architecture": platform.architecture,
        "os": platform.os,
        **({"variant": platform.variant} if platform.variant else {}),
        "config": _settings(spec, base, revision),
        "rootfs": {"type": "layers", "diff_ids": [*base.diff_ids, *(row.diff_id for row in _own(base, rows))]},
        "history": history,
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _own(base: Base, rows: Sequence[LayerRow]) -> Sequence[LayerRow]:
    return rows[len(base.rows) :]


def _settings(spec: BuildSpec, base: Base, revision: Revision | None) -> dict[str, Any]:
    settings = dict(base.config)
    inherited = dict(variable.split("=", 1) for variable in settings.get("Env") or () if "=" in variable)
    defaults = {} if base.name else _INTERPRETER_ENVIRONMENT
    settings["Env"] = [f"{name}={value}" for name, value in {**defaults, **inherited, **spec.environment}.items()]
    settings["Labels"] = {**(settings.get("Labels") or {}), **labels(spec, revision), **spec.labels}
    settings["WorkingDir"] = spec.workdir
    user = spec.user or ("" if base.name else f"{USER_ID}:{USER_ID}")
    if user:
        settings["User"] = user
    if spec.entrypoint or spec.command:
        # A base's own arguments make no sense behind another entrypoint (as `docker build` resets CMD).
        settings["Entrypoint"], settings["Cmd"] = list(spec.entrypoint), list(spec.command)
    else:
        settings["Entrypoint"] = [spec.interpreter or "/usr/local/bin/python3"]
        settings["Cmd"] = [f"{spec.workdir.rstrip('/')}/app.py"] if _has_app(spec) else []
    return {name: value for name, value in sorted(settings.items()) if value not in ([], {}, None)}


def _has_app(spec: BuildSpec) -> bool:
    return spec.application is not None and (spec.application / "app.py").is_file()


def labels(spec: BuildSpec | DockerfileSpec, revision: Revision | None) -> dict[str, str]:
    """The ``org.opencontainers.image.*`` facts that are known."""
    known = {"org.opencontainers.image.title": spec.name}
    if spec.version:
        known["org.opencontainers.image.version"] = spec.version
    if revision and revision.remote:
        known["org.opencontainers.image.source"] = revision.remote
    if revision and revision.commit:
        known["org.opencontainers.image.created"] = revision.rfc3339
        if not revision.dirty:
            known["org.opencontainers.image.revision"] = revision.commit
    return known


def image_manifest(
    spec: BuildSpec, config: Descriptor, base: Base, rows: Sequence[LayerRow], revision: Revision | None
) -> ManifestBytes:
    """The platform manifest; base layers keep their own media types."""
    annotations = {**labels(spec, revision), **_base_annotations(base)}
    return manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=config,
            layers=(*(_oci(layer) for layer in base.descriptors), *map(layer_descriptor, _own(base, rows))),
            annotations=dict(sorted(annotations.items())),
        )
    )


def _base_annotations(base: Base) -> dict[str, str]:
    if not base.digest:
        return {}
    return {"org.opencontainers.image.base.name": base.name, "org.opencontainers.image.base.digest": base.digest}


_OCI_LAYERS = {
    media_types.DOCKER_LAYER: media_types.OCI_LAYER,
    media_types.DOCKER_LAYER_GZIP: media_types.OCI_LAYER_GZIP,
}


def _oci(layer: Descriptor) -> Descriptor:
    """Docker's layer types have OCI names for the same bytes; an OCI manifest should not mix the two."""
    media_type = _OCI_LAYERS.get(layer.media_type, layer.media_type)
    return Descriptor(media_type=media_type, digest=layer.digest, size=layer.size, urls=layer.urls)


def image_index(
    spec: BuildSpec | DockerfileSpec, manifests: Sequence[tuple[Platform, ManifestBytes]], revision: Revision | None
) -> ManifestBytes:
    """The index over platform manifests."""
    children = tuple(
        Descriptor(media_type=manifest.media_type, digest=manifest.digest, size=len(manifest.raw), platform=platform)
        for platform, manifest in manifests
    )
    return manifest_bytes(
        Index(
            schema_version=2,
            media_type=media_types.OCI_INDEX,
            manifests=children,
            annotations=dict(sorted(labels(spec, revision).items())),
        )
    )


def wanted_tags(spec: BuildSpec | DockerfileSpec, digest: Digest, revision: Revision | None) -> tuple[str, ...]:
    """The version tag (of the digest when no version is told), then tags of the commit's time and id.

    Changes that no commit holds, and a commit that cannot be told, give no commit tags: they would name something else.
    Raises ReferenceInvalid.
    """
    version = spec.version or f"build-{digest.hex[:12]}"
    tags = [check_tag(version)]
    if revision and revision.time and not revision.dirty:
        tags += [f"{revision.time:%Y%m%d-%H%M%S}-{revision.commit[:7]}", f"git-{revision.commit[:12]}"]
    return tuple(dict.fromkeys(tags))


def check_environment(environment: Mapping[str, str]) -> None:
    """Raise InputError for a name that cannot be an environment variable's."""
    for name in environment:
        if not name or "=" in name or "\0" in name + environment[name]:
            raise InputError(f"{name!r} cannot be the name of an environment variable")


_BLANKS = " \t\n\r\0"

MAX_INTERPRETER_BYTES = 125
"""Linux before 5.1 reads 127 bytes of a script's first line."""


def check_settings(spec: BuildSpec) -> None:
    """Raise InputError for words that an image or the first line of a script cannot hold."""
    words = {
        **{f"entrypoint {word!r}": word for word in spec.entrypoint},
        **{f"command {word!r}": word for word in spec.command},
        **{f"label {name!r}": f"{name}{value}" for name, value in spec.labels.items()},
        **{f"{name} {word!r}": word for name, word in (("user", spec.user), ("site_packages", spec.site_packages))},
    }
    if broken := next((what for what, text in words.items() if "\0" in text), None):
        raise InputError(f"{broken} has a zero byte", where=spec.name)
    if "" in spec.labels:
        raise InputError("a label has no name", where=spec.name)
    if spec.user.count(":") > 1 or any(letter.isspace() for letter in spec.user):
        raise InputError(f"user {spec.user!r} is not uid[:gid] or a name", where=spec.name)
    if ".." in spec.site_packages.split("/"):
        raise InputError(f"site_packages {spec.site_packages!r} leaves its folder", where=spec.name)
    if not spec.interpreter and set(spec.site_packages) & set(_BLANKS):
        raise InputError(
            f"site_packages {spec.site_packages!r} has blanks, so no script can name the interpreter of that folder",
            where=spec.name,
            do="Name `interpreter`, by a path without blanks",
        )
    path = spec.interpreter
    if path and (not path.startswith("/") or len(path.encode()) > MAX_INTERPRETER_BYTES or set(path) & set(_BLANKS)):
        raise InputError(
            f"interpreter {path!r} cannot stand in the first line of a script",
            where=spec.name,
            do=f"An absolute path of at most {MAX_INTERPRETER_BYTES} bytes, without blanks",
        )
