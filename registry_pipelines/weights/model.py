"""The artifact that weights are in a registry: a ModelPack manifest, one uncompressed layer for each file.

Source: CNCF ModelPack model-spec 0.0.7 (``docs/spec.md``, ``docs/annotations.md``, ``schema/config-schema.json``). Each
layer has the file's path twice: in ModelPack's annotation, and as OCI's title, by which ``oras pull`` writes files.
Nothing of the machine is in it (no time, owner or mode): the same files make the same digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec

from registry_pipelines.errors import InputError, ManifestInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    Manifest,
    ManifestBytes,
    decode_json,
    encode_json,
    manifest_bytes,
)
from registry_pipelines.progress import count_text
from registry_pipelines.weights.formats import Kind
from registry_pipelines.weights.paths import fault_of_set

ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
FILE_PATH = "org.cncf.model.filepath"
UNTESTED = "org.cncf.model.file.mediatype.untested"
"""``true``: what the file is was not recognised."""
TITLE = "org.opencontainers.image.title"
FORM, FORM_IMAGE = "registry-pipelines.weights.form", "image"
"""Annotation of a manifest that is weights as a plain image; see ``image_form``."""

MountForm = Literal["image-volume", "init", "csi-s3", "csi-gcs", "ebs", "pd"]
"""How a program gets them; see ``mounting``. Here since commands name the forms before they need its snippets."""
MOUNT_FORMS: tuple[MountForm, ...] = get_args(MountForm)

_OURS = "Name what `registry-pipelines weights push` wrote"
_FORMS_OF_OTHERS = (
    ("application/vnd.kitops.", "KitOps", "Unpack it with `kit unpack`"),
    ("application/vnd.docker.ai.", "Docker Model Runner", "Get the model from where it was packaged from"),
    ("application/vnd.ollama.", "Ollama", "Get the GGUF file that it was made from"),
)
"""Prefixes of media types (of a config, and of Ollama's layers), whose they are, and how one gets at the files."""

MAX_FILES = 10_000
"""A row has some 350 bytes; a manifest may have 4 MiB."""
MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""A config has a digest for each file."""

RAW = ".raw"
RAW_TYPES: dict[Kind, str] = {
    "weights": f"application/vnd.cncf.model.weight.v1{RAW}",
    "config": f"application/vnd.cncf.model.weight.config.v1{RAW}",
    "doc": f"application/vnd.cncf.model.doc.v1{RAW}",
    "code": f"application/vnd.cncf.model.code.v1{RAW}",
}
_PREFIXES: tuple[tuple[str, Kind], ...] = (
    ("application/vnd.cncf.model.weight.config.", "config"),
    ("application/vnd.cncf.model.weight.", "weights"),
    ("application/vnd.cncf.model.doc.", "doc"),
    ("application/vnd.cncf.model.code.", "code"),
    ("application/vnd.cncf.model.dataset.", "doc"),
)


@dataclass(frozen=True)
class WeightFile:
    """A file of a set. path: below the set's folder, with slashes. size: bytes. untested: its format is not known."""

    path: str
    digest: Digest
    size: int
    kind: Kind
    media_type: str
    untested: bool = False

    @property
    def is_raw(self) -> bool:
        """Whether the blob is the file. Others are archives, which this does not write and does not open."""
        return self.media_type.endswith(RAW)

    @property
    def descriptor(self) -> Descriptor:
        """The layer of a manifest."""
        notes = {TITLE: self.path, FILE_PATH: self.path}
        if self.untested:
            notes[UNTESTED] = "true"
        return Descriptor(media_type=self.media_type, digest=self.digest, size=self.size, annotations=notes)


@dataclass(frozen=True)
class WeightSet:
    """The files of a model, sorted by path, and the bytes of the artifact's config."""

    files: tuple[WeightFile, ...]
    config: bytes

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def format(self) -> str:
        """What all weights among them are, as ``safetensors``; empty where they are of several formats or none."""
        said = decode_json(self.config, ModelConfig, what="config of weights").config.get("format", "")
        return said if isinstance(said, str) else ""

    @property
    def config_descriptor(self) -> Descriptor:
        """The config's blob."""
        return Descriptor(media_type=CONFIG_TYPE, digest=Digest.of(self.config), size=len(self.config))


class _ModelFs(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    type: str = "layers"
    diff_ids: tuple[str, ...] = ()


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """ModelPack's config. descriptor, config: its fields, as they are."""

    descriptor: dict[str, Any] = {}
    config: dict[str, Any] = {}
    modelfs: _ModelFs = _ModelFs()


def weight_set(files: Sequence[WeightFile], *, formats: Sequence[str] = ()) -> WeightSet:
    """A set of files, with its config. formats: of the weights among them; where it is one, the config says so.

    Raises InputError for no files, too many, or paths that cannot stand in one set.
    """
    ordered = tuple(sorted(files, key=lambda file: file.path))
    fault = fault_of_set(file.path for file in ordered)
    if not ordered:
        fault = "there are no files"
    elif len(ordered) > MAX_FILES:
        fault = f"of {count_text(len(ordered), 'file')} {MAX_FILES} at most fit a manifest"
    if fault:
        raise InputError(f"this cannot be a set of weights: {fault}")
    known = sorted(set(formats))
    config = ModelConfig(
        config={"format": known[0]} if len(known) == 1 else {},
        modelfs=_ModelFs(diff_ids=tuple(str(file.digest) for file in ordered)),
    )
    return WeightSet(ordered, encode_json(config))


def to_manifest(weights: WeightSet, subject: Descriptor | None = None) -> ManifestBytes:
    """The manifest of a set; it depends on the set and the subject alone.

    subject: the image these are the weights of; only media type, digest and size are kept. Raises InputError where the
    paths of so many files do not fit a manifest.
    """
    made = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            artifact_type=ARTIFACT_TYPE,
            config=weights.config_descriptor,
            layers=tuple(file.descriptor for file in weights.files),
            subject=bare(subject),
        )
    )
    if len(made.raw) > MAX_MANIFEST_BYTES:
        raise InputError(
            f"{count_text(len(weights.files), 'file')} need a manifest of {len(made.raw)} bytes; "
            f"{MAX_MANIFEST_BYTES} are taken",
            do="Put the files into fewer, larger shards",
        )
    return made


def bare(subject: Descriptor | None) -> Descriptor | None:
    """What a ``subject`` field has of a descriptor."""
    if subject is None:
        return None
    return Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size)


def is_weights(content: Manifest | Index) -> bool:
    """Whether a manifest is that of a model, as an artifact or as an image."""
    return isinstance(content, Manifest) and (
        ARTIFACT_TYPE in (content.artifact_type, content.kind) or is_image_form(content)
    )


def is_image_form(content: Manifest) -> bool:
    """Whether a manifest says that it is weights as a plain image."""
    return content.is_image and (content.annotations or {}).get(FORM) == FORM_IMAGE


def from_manifest(content: Manifest | Index, config: bytes, *, where: str = "") -> WeightSet:
    """The set that a manifest lists, also one of another program. config: the bytes of its config, verified.

    Raises InputError for what is no model, ManifestInvalid for files without a name or with one that leads out of a
    folder, and for a config that lists other content than the layers.
    """
    if not isinstance(content, Manifest) or not is_weights(content):
        raise _no_weights(content, where)
    if content.config.media_type != CONFIG_TYPE:
        raise ManifestInvalid(f"the config of weights is {CONFIG_TYPE}, not {content.config.media_type}", where=where)
    files = tuple(_file_of(layer, where) for layer in content.layers)
    fault = fault_of_set(file.path for file in files)
    if not fault and not 0 < len(files) <= MAX_FILES:
        fault = f"it lists {count_text(len(files), 'file')}; 1 to {MAX_FILES} are taken"
    if fault:
        raise ManifestInvalid(f"these weights are not taken: {fault}", where=where)
    sizes = {file.digest: file.size for file in files}
    if odd := [file.path for file in files if sizes[file.digest] != file.size]:
        raise ManifestInvalid(f"{odd[0]!r} has another size than a file with the same digest", where=where)
    said = decode_json(config, ModelConfig, where=where, what="config of weights").modelfs.diff_ids
    if all(file.is_raw for file in files) and set(said) != {str(file.digest) for file in files}:
        raise ManifestInvalid("the config of these weights lists other content than their layers", where=where)
    return WeightSet(files, config)


def _no_weights(content: Manifest | Index, where: str) -> InputError:
    """What it is instead, and for a model in the form of one program, which program unpacks it."""
    if not isinstance(content, Manifest):
        return InputError("these are no weights, but an index", where=where, do=_OURS)
    types = (content.kind, *(layer.media_type for layer in content.layers))
    for prefix, whose, unpack in _FORMS_OF_OTHERS:
        if any(each.startswith(prefix) for each in types):
            return InputError(
                f"this is a model as {whose} packs it ({prefix}*), and no ModelPack",
                where=where,
                do=f"{unpack}, and `registry-pipelines weights push` the folder with its files",
            )
    return InputError(f"these are no weights, but {content.kind}", where=where, do=_OURS)


def _file_of(layer: Descriptor, where: str) -> WeightFile:
    notes = layer.annotations or {}
    path = notes.get(FILE_PATH) or notes.get(TITLE) or ""
    kind = next((kind for prefix, kind in _PREFIXES if layer.media_type.startswith(prefix)), None)
    if kind is None:
        raise ManifestInvalid(f"a layer of weights is {layer.media_type}, which is no type of ModelPack", where=where)
    return WeightFile(path, layer.digest, layer.size, kind, layer.media_type, notes.get(UNTESTED) == "true")


__all__ = [
    "ARTIFACT_TYPE",
    "CONFIG_TYPE",
    "FILE_PATH",
    "MOUNT_FORMS",
    "MountForm",
    "WeightFile",
    "WeightSet",
    "from_manifest",
    "is_image_form",
    "is_weights",
    "to_manifest",
    "weight_set",
]
