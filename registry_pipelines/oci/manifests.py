"""Manifests, indexes, configs and descriptors (OCI image-spec 1.1; Docker image manifest v2, schema 2).

Decoding is strict and bounded; the original bytes are kept, because their digest is the content's name.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from registry_pipelines.errors import DigestInvalid, ManifestInvalid, ManifestOutdated, ManifestTooLarge
from registry_pipelines.oci import media_types
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.go_json import read_apart
from registry_pipelines.oci.platforms import Platform

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
"""The distribution-spec 1.1 asks registries to take at least this ("Pushing manifests"); ECR takes no more."""

MAX_CONFIG_BYTES = 16 * 1024 * 1024
"""An image config holds the history of its build; real ones stay below 1 MiB."""

MAX_DEPTH = 8
"""Levels of nested indexes that are followed; real ones have one or two."""


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A pointer to content: media type, digest, size in bytes (image-spec, descriptor.md)."""

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] | None = None
    data: str = ""
    platform: Platform | None = None
    artifact_type: str = ""

    @property
    def is_manifest(self) -> bool:
        """Whether it names a manifest or an index (and not a blob)."""
        return self.media_type in media_types.ACCEPTED


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An image manifest or an artifact manifest (image-spec, manifest.md)."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None

    @property
    def kind(self) -> str:
        """The artifact type: the field, else the config's media type (image-spec, "Guidelines for Artifact Usage")."""
        return self.artifact_type or self.config.media_type

    @property
    def is_image(self) -> bool:
        """Whether it calls its config an image's. Runtimes start it then, whatever ``artifact_type`` says."""
        return self.config.media_type in media_types.IMAGE_CONFIGS


class Index(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An image index or a Docker manifest list (image-spec, image-index.md)."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of an image config that we read (image-spec, config.md); ``raw`` bytes stay the source of truth."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    created: str = ""
    config: dict[str, Any] | None = None
    rootfs: dict[str, Any] | None = None
    history: list[dict[str, Any] | None] | None = None

    @property
    def platform(self) -> Platform:
        """The platform the image says it is for."""
        return Platform(os=self.os, architecture=self.architecture, variant=self.variant)

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """Digests of the uncompressed layers, base first. Raises ManifestInvalid."""
        diff_ids = (self.rootfs or {}).get("diff_ids") or []
        try:
            return tuple(Digest.parse(item) for item in diff_ids)
        except (DigestInvalid, TypeError) as error:
            raise ManifestInvalid(f"rootfs.diff_ids of the image config: {error}") from error

    @property
    def chain_ids(self) -> tuple[Digest, ...]:
        """What runtimes call a layer and all below it, base first (OCI image-spec 1.1, ``config.md``, "Layer ChainID").
        Raises ManifestInvalid."""
        made: list[Digest] = []
        for diff_id in self.diff_ids:
            made.append(Digest.of(f"{made[-1]} {diff_id}".encode()) if made else diff_id)
        return tuple(made)


class ManifestBytes(msgspec.Struct, frozen=True):
    """A manifest or index as received: the exact bytes, what they are, and their digest."""

    raw: bytes
    media_type: str
    digest: Digest

    @property
    def descriptor(self) -> Descriptor:
        """A descriptor of the bytes."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.raw))

    def content(self) -> Manifest | Index:
        """The parsed form. Raises ManifestInvalid, ManifestTooLarge."""
        return read_manifest(self.raw, media_type=self.media_type, where=self.digest)


_T = TypeVar("_T")


def _decode_digest(kind: type, value: Any) -> Any:
    if kind is Digest:
        if not isinstance(value, str):
            raise ValueError(f"expected a digest, got {type(value).__name__}")
        try:
            return Digest.parse(value)
        except DigestInvalid as error:
            raise ValueError(error.what) from error
    raise NotImplementedError(kind)


def _encode_digest(value: Any) -> Any:
    if isinstance(value, Digest):
        return str.__str__(value)
    raise NotImplementedError(type(value))


def decode_json(raw: bytes, kind: type[_T], *, where: str = "", what: str = "document") -> _T:
    """Decode JSON into a typed value. Raises ManifestInvalid, which names the field."""
    try:
        return msgspec.json.decode(raw, type=ready(kind), dec_hook=_decode_digest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalid(f"this {what} is not valid: {error}", where=where) from error


def encode_json(value: Any) -> bytes:
    """Deterministic JSON: fields in declared order, no spaces, unset fields left out."""
    return msgspec.json.encode(value, enc_hook=_encode_digest)


def decode_sloppy(raw: bytes, kind: type[_T], *, where: str = "", what: str = "document") -> _T:
    """Like :func:`decode_json`, for documents of others: null counts as absent, and an absent list is empty. So Go
    reads them, in which nearly all other clients are written, and so Go writes an empty list. Raises ManifestInvalid.
    """
    try:
        return msgspec.json.decode(raw, type=ready(kind), dec_hook=_decode_digest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        anything: Any = decode_json(raw, dict, where=where, what=what)
        document = _filled(_without_nulls(anything), kind)
    try:
        return msgspec.convert(document, ready(kind), dec_hook=_decode_digest)
    except msgspec.MsgspecError as error:
        raise ManifestInvalid(f"this {what} is not valid: {error}", where=where) from error


def _without_nulls(value: object) -> object:
    """Without members that are null. An entry of a list that is null stays, and is an error: nobody can use it."""
    if isinstance(value, dict):
        return {
            key: _filled(_without_nulls(item), Platform if key == "platform" else object)
            for key, item in value.items()
            if item is not None
        }
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _filled(document: object, kind: type) -> object:
    absent = _ABSENT.get(kind)
    return {**absent, **document} if absent and isinstance(document, dict) else document


_ABSENT: dict[type, dict[str, object]] = {
    Manifest: {"layers": ()},
    Index: {"manifests": ()},
    Platform: {"os": "", "architecture": ""},
}
"""What an absent member of a document of others stands for."""

_NAMES = {
    name.casefold(): name
    for kind in (Descriptor, Manifest, Index, Platform)
    for name in (field.encode_name for field in msgspec.structs.fields(kind))
} | {"fslayers": "fsLayers"}
_EXACT = frozenset(_NAMES.values())

MAX_REMEMBERED_BYTES = 64 * 1024
"""Longer manifests are looked through each time: what is remembered must not fill the memory."""


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object, in order, with those that stand there twice."""


def _name_read_twice(raw: bytes) -> str:
    """A member that two readers may read as different things, empty when there is none: it stands there twice (most
    take the last, some the first), or in other letters, which Go takes for the same name and others do not know."""
    suspicious: list[str] = []

    def note(pairs: list[tuple[str, object]]) -> None:
        names = {name for name, _ in pairs}
        if len(names) != len(pairs) or any(name.casefold() in _NAMES for name in names - _EXACT):
            suspicious.append("")

    json.JSONDecoder(object_pairs_hook=note).decode(raw.decode())
    return _twice(json.JSONDecoder(object_pairs_hook=_Pairs).decode(raw.decode())) if suspicious else ""


_remembered = functools.lru_cache(maxsize=512)(_name_read_twice)


def _twice(value: object) -> str:
    """The first such member; annotations are left alone, anything may be called so there."""
    if isinstance(value, list) and not isinstance(value, _Pairs):
        return next(filter(None, map(_twice, value)), "")
    seen: set[str] = set()
    for name, item in value if isinstance(value, _Pairs) else ():
        folded = name.casefold()
        if folded in _NAMES and (folded in seen or name not in _EXACT):
            return name
        seen.add(folded)
        below = "" if name == "annotations" else _twice(item)
        if below:
            return below
    return ""


class _Probe(msgspec.Struct, rename="camel"):
    media_type: str | None = None
    schema_version: int | None = None
    manifests: msgspec.Raw = msgspec.Raw()
    layers: msgspec.Raw = msgspec.Raw()
    config: msgspec.Raw = msgspec.Raw()
    fs_layers: msgspec.Raw = msgspec.Raw()


def read_manifest(
    raw: bytes, *, media_type: str = "", where: str = "", limit: int = MAX_MANIFEST_BYTES
) -> Manifest | Index:
    """Parse a manifest or an index; no network.

    media_type: what the registry's Content-Type said; empty when unknown. It must agree with the document's own field.
    Refuses a document that could be read both ways (CVE-2021-41190: ``manifests`` beside ``layers`` or ``config``), or
    has a member twice. Null and absent lists are empty.
    Raises ManifestTooLarge, ManifestOutdated, ManifestInvalid (names the JSON field). Not checked here: that what it
    refers to exists.
    """
    if len(raw) > limit:
        raise ManifestTooLarge(f"the manifest has {len(raw)} bytes, at most {limit} are read", where=where)
    probe = decode_json(raw, _Probe, where=where, what="manifest")
    if bytes(probe.manifests) and (bytes(probe.layers) or bytes(probe.config)):
        raise ManifestInvalid("both `manifests` and `layers` or `config` are present: ambiguous", where=where)
    if bytes(probe.fs_layers) or probe.schema_version == 1:
        raise outdated(where)
    if probe.schema_version != 2:
        raise ManifestInvalid(f"`schemaVersion` is {probe.schema_version}, expected 2", where=where)
    try:
        twice = (_remembered if len(raw) <= MAX_REMEMBERED_BYTES else _name_read_twice)(raw)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"this manifest is not valid: {error}", where=where) from error
    if twice:
        raise ManifestInvalid(f"`{twice}` is there twice, or with other capital letters: ambiguous", where=where)
    if media_type and probe.media_type and media_type != probe.media_type:
        raise ManifestInvalid(f"`mediaType` is {probe.media_type}, the registry said {media_type}", where=where)
    declared = probe.media_type or media_type
    is_index = declared in media_types.INDEXES or (not declared and bool(bytes(probe.manifests)))
    if declared and declared not in media_types.ACCEPTED:
        raise ManifestInvalid(f"`mediaType` {declared} is not a manifest or index", where=where)
    content: Manifest | Index
    if is_index and (bytes(probe.layers) or bytes(probe.config)):
        raise ManifestInvalid("an index has neither `layers` nor `config`: ambiguous", where=where)
    if is_index:
        content = decode_sloppy(raw, Index, where=where, what="index")
    else:
        content = decode_sloppy(raw, Manifest, where=where, what="manifest")
    for descriptor in descriptors(content):
        if descriptor.size < 0:
            raise ManifestInvalid(f"`size` of {descriptor.digest} is negative", where=where)
    return content


def outdated(where: str) -> ManifestOutdated:
    """The error about a manifest of schema 1."""
    return ManifestOutdated(
        "Docker manifest schema 1 is not supported", where=where, do="Push the image again with a current tool"
    )


def infer_media_type(raw: bytes, *, where: str = "") -> str:
    """The media type of manifest bytes that came without a Content-Type: own field, else the OCI type of its shape."""
    content = read_manifest(raw, where=where)
    if content.media_type:
        return content.media_type
    return media_types.OCI_INDEX if isinstance(content, Index) else media_types.OCI_MANIFEST


def descriptors(content: Manifest | Index) -> Sequence[Descriptor]:
    """Everything the document refers to downwards: children, or config then layers. Without its subject."""
    return content.manifests if isinstance(content, Index) else (content.config, *content.layers)


def read_image_config(raw: bytes, *, where: str = "") -> ImageConfig:
    """Parse an image config. Refuses one that programs written in Go, which start images, read as something else.
    Raises ManifestInvalid, ManifestTooLarge."""
    if len(raw) > MAX_CONFIG_BYTES:
        raise ManifestTooLarge(
            f"the image config has {len(raw)} bytes, at most {MAX_CONFIG_BYTES} are read", where=where
        )
    try:
        apart = read_apart(raw)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"this image config is not valid: {error}", where=where) from error
    if apart:
        raise ManifestInvalid(
            f"`{apart}` of the image config is there twice, or with other capital letters", where=where
        )
    return decode_sloppy(raw, ImageConfig, where=where, what="image config")


EMPTY = Descriptor(media_type=media_types.OCI_EMPTY, digest=Digest.of(b"{}"), size=2)
"""The empty config of artifacts (image-spec, manifest.md, "Guidance for an Empty Descriptor"); its blob is ``{}``."""


def artifact_manifest(
    *,
    artifact_type: str,
    layers: Sequence[Descriptor],
    subject: Descriptor | None,
    annotations: dict[str, str] | None = None,
) -> ManifestBytes:
    """An artifact manifest with the empty config (image-spec, "Guidelines for Artifact Usage").

    subject: the manifest it refers to; only media type, digest and size are kept.
    """
    bare = None
    if subject is not None:
        bare = Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size)
    manifest = Manifest(
        schema_version=2,
        media_type=media_types.OCI_MANIFEST,
        artifact_type=artifact_type,
        config=EMPTY,
        layers=tuple(layers),
        subject=bare,
        annotations=annotations,
    )
    return manifest_bytes(manifest)


def manifest_bytes(content: Manifest | Index) -> ManifestBytes:
    """Serialise a document we made ourselves. Its ``media_type`` must be set."""
    raw = encode_json(content)
    return ManifestBytes(raw, content.media_type, Digest.of(raw))


def select_platform(index: Index, wanted: Platform, *, where: str = "") -> Descriptor:
    """The first child for exactly ``wanted``, as most clients choose, else the first that serves it (a variant). Raises
    ManifestInvalid, which lists what there is."""
    serving = [child for child in index.manifests if child.platform and wanted.matches(child.platform)]
    exact = [child for child in serving if child.platform and child.platform.normal.variant == wanted.normal.variant]
    if serving:
        return (exact or serving)[0]
    there = ", ".join(str(child.platform) for child in index.manifests if child.platform) or "none named"
    raise ManifestInvalid(f"no manifest for platform {wanted}; there are: {there}", where=where)
