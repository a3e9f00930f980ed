"""Weights as a plain image: files as layers, which every runtime unpacks and Kubernetes mounts as an image volume.

containerd mounts images alone: of ModelPack's artifact it makes an empty folder. So the same files can be written as an
image, too. Each layer is a tar that is not compressed, so a file lies in it byte by byte, behind its header, and can be
read by ranges. Large files have a layer each; small ones share one. Overlay file systems take a hundred or so layers,
so of more files several share one.

What the files are stands in the image's config, below ``registry-pipelines.weights``: path, digest, size, and where in
which layer each lies. The manifest has an annotation that says so. Nothing of the machine is in it (time 0, owner 0):
the same files make the same digest. Sources: OCI image-spec 1.1 (``config.md``, ``layer.md``), POSIX.1-2017 pax.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Any, cast

import msgspec

from registry_pipelines.errors import InputError, ManifestInvalid, NotFound
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Manifest,
    ManifestBytes,
    decode_json,
    encode_json,
    manifest_bytes,
)
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.protocol import BlobReader, Capabilities, Place, Registry
from registry_pipelines.weights.formats import Kind
from registry_pipelines.weights.model import FORM, FORM_IMAGE, RAW_TYPES, WeightFile, WeightSet, weight_set

ALONE_BYTES = 1 << 20
"""A file of this size has a layer of its own, so that it moves alone between versions."""
MAX_LAYERS = 100
"""Docker takes 127 of one image, the kernel's overlay 500."""
BLOCK_BYTES = 512
END_BYTES = 2 * BLOCK_BYTES
"""Two blocks of zeros end a tar."""
FORMAT = 1
_PACKED = "a layer was compressed on its way, and no ranges of files can be read of it"


class _Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    path: str
    sha256: str
    size: int
    kind: Kind
    layer: int
    offset: int
    untested: bool = False


class _Table(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    of: str
    """The weights' format, where all have one."""
    files: tuple[_Row, ...]


class _RootFs(msgspec.Struct, frozen=True, kw_only=True):
    diff_ids: tuple[Digest, ...]
    type: str = "layers"


class _Config(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""
    config: dict[str, Any] | None = None
    rootfs: _RootFs
    weights: _Table | None = msgspec.field(name="registry-pipelines.weights", default=None)


@dataclass(frozen=True)
class LayerPlan:
    """One layer before its digest is known. pieces: what it has in order, bytes and files."""

    files: tuple[WeightFile, ...]
    pieces: tuple[bytes | WeightFile, ...]

    @cached_property
    def starts(self) -> list[int]:
        """Where each piece begins, and the layer's size."""
        return list(accumulate((_length(each) for each in self.pieces), initial=0))

    @property
    def size(self) -> int:
        """Bytes of the tar."""
        return self.starts[-1]

    @property
    def offsets(self) -> list[int]:
        """Where the content of each file begins."""
        return [at for at, each in zip(self.starts, self.pieces, strict=False) if isinstance(each, WeightFile)]


def _length(piece: bytes | WeightFile) -> int:
    return piece.size if isinstance(piece, WeightFile) else len(piece)


def plan_layers(weights: WeightSet) -> list[LayerPlan]:
    """The layers of a set: small files together, large ones alone as long as there are layers for it. Raises InputError
    for a name that a layer cannot hold."""
    for file in weights.files:
        if any(part.startswith(".wh.") for part in file.path.split("/")):
            raise InputError(f"the name {file.path!r} means in layers that a file is deleted", do="Rename it")
        if not file.is_raw or file.digest.algorithm != "sha256":
            raise InputError(f"{file.path} is in an archive, or not named by sha256", do="Push the files themselves")
    small = [file for file in weights.files if file.size < ALONE_BYTES]
    large = [file for file in weights.files if file.size >= ALONE_BYTES]
    each = max(1, -(-len(large) // (MAX_LAYERS - bool(small))))
    groups = [small] if small else []
    groups += [large[at : at + each] for at in range(0, len(large), each)]
    return [_plan(files) for files in groups]


def _plan(files: Sequence[WeightFile]) -> LayerPlan:
    folders = {str(above) for file in files for above in PurePosixPath(file.path).parents if above.name}
    waiting = b"".join(_header(folder, tarfile.DIRTYPE, 0o755) for folder in sorted(folders))
    pieces: list[bytes | WeightFile] = []
    for file in files:
        pieces += [waiting + _header(file.path, tarfile.REGTYPE, 0o644, file.size), file]
        waiting = b"\0" * (-file.size % BLOCK_BYTES)
    return LayerPlan(tuple(files), (*pieces, waiting + b"\0" * END_BYTES))


def _header(path: str, kind: bytes, mode: int, size: int = 0) -> bytes:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size = kind, mode, size
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


@dataclass(frozen=True)
class ImageForm:
    """A set as an image has it. where: of each content by its digest, its layer's digest and its first byte there.
    sizes: of the layers. rows: path to its layer's digest, and its first byte."""

    weights: WeightSet
    config: Descriptor
    sizes: Mapping[Digest, int]
    rows: Mapping[str, tuple[Digest, int]]

    def place(self, place: Place) -> Place:
        """The files as a place: a blob is the file with that digest, which is a range of a layer."""
        return Place(cast(Registry, _FilesInLayers(place, self)), place.repository)


def image_manifest(
    weights: WeightSet, plans: Sequence[LayerPlan], digests: Sequence[Digest], platform: Platform
) -> tuple[bytes, ManifestBytes]:
    """The config and the manifest. digests: of the layers, in order. platform: nodes of another one do not unpack it.

    Raises InputError where so many files fit no manifest.
    """
    rows = tuple(
        _Row(
            path=file.path,
            sha256=file.digest.hex,
            size=file.size,
            kind=file.kind,
            layer=number,
            offset=offset,
            untested=file.untested,
        )
        for number, plan in enumerate(plans)
        for file, offset in zip(plan.files, plan.offsets, strict=True)
    )
    table = _Table(format=FORMAT, of=weights.format, files=tuple(sorted(rows, key=lambda row: row.path)))
    config = encode_json(
        _Config(
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            config={},
            rootfs=_RootFs(diff_ids=tuple(digests)),
            weights=table,
        )
    )
    layers = tuple(
        Descriptor(media_type=media_types.OCI_LAYER, digest=digest, size=plan.size)
        for plan, digest in zip(plans, digests, strict=True)
    )
    made = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(config), size=len(config)),
            layers=layers,
            annotations={FORM: FORM_IMAGE},
        )
    )
    if len(config) > MAX_MANIFEST_BYTES:
        raise InputError(f"the list of these files has {len(config)} bytes; {MAX_MANIFEST_BYTES} are taken")
    return config, made


def read_image(content: Manifest, config: bytes, *, where: str = "") -> ImageForm:
    """What the config says of the layers' files. config: verified. Raises ManifestInvalid for one that has no such
    list, or whose files do not lie in the layers."""
    said = decode_json(config, _Config, where=where, what="config of weights as an image")
    fault = _fault(content, said)
    if said.weights is None or fault:
        do = "Copy it with `registry-pipelines copy`, or `skopeo copy --preserve-digests`" if fault == _PACKED else ""
        raise ManifestInvalid(f"this image's config lists no weights that are read: {fault}", where=where, do=do)
    files, rows = [], {}
    for row in said.weights.files:
        layer = content.layers[row.layer]
        digest = Digest(f"sha256:{row.sha256}")
        files.append(WeightFile(row.path, digest, row.size, row.kind, RAW_TYPES[row.kind], row.untested))
        rows[row.path] = (layer.digest, row.offset)
    try:
        weights = weight_set(files, formats=[said.weights.of] if said.weights.of else [])
    except InputError as error:
        raise ManifestInvalid(error.what, where=where) from error
    return ImageForm(weights, content.config, {each.digest: each.size for each in content.layers}, rows)


def _fault(content: Manifest, said: _Config) -> str:
    if said.weights is None or said.weights.format != FORMAT:
        return f"format {FORMAT} is wanted"
    if any(layer.media_type != media_types.OCI_LAYER for layer in content.layers):
        return _PACKED
    if tuple(layer.digest for layer in content.layers) != said.rootfs.diff_ids:
        return "its layers are others than the manifest's"
    for row in said.weights.files:
        if len(row.sha256) != 64 or set(row.sha256) - set("0123456789abcdef") or row.size < 0:
            return f"{row.path[:200]!r} has no digest or no size"
        if not 0 <= row.layer < len(content.layers) or not 0 <= row.offset <= content.layers[row.layer].size - row.size:
            return f"{row.path[:200]!r} does not lie in its layer"
    return ""


class _FilesInLayers:
    """Implements the reading part of Registry."""

    def __init__(self, place: Place, form: ImageForm) -> None:
        self.name = place.registry.name
        self._registry, self._form = place.registry, form
        self._files = {file.digest: file for file in form.weights.files}

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        """See Registry."""
        file = self._file(digest)
        layer, offset = self._form.rows[file.path]
        stop = file.size if stop is None else min(stop, file.size)
        if start >= stop:
            return _Within(None, file.size, start, 0)
        inner = self._registry.open_blob(repository, layer, start=offset + start, stop=offset + stop)
        if inner.size not in (None, self._form.sizes[layer]):
            inner.close()
            raise ManifestInvalid("a layer has another size than the manifest says", where=f"{self.name}/{repository}")
        return _Within(inner, file.size, start, stop - start)

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """See Registry; of a file whose layer is there."""
        file = self._file(digest)
        layer, _ = self._form.rows[file.path]
        return file.size if self._registry.blob_size(repository, layer) == self._form.sizes[layer] else None

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry."""
        return self._registry.capabilities(repository)

    def _file(self, digest: Digest) -> WeightFile:
        if digest not in self._files:
            raise NotFound(f"no file has the digest {digest}", where=self.name)
        return self._files[digest]


class _Within:
    """A file's bytes of a layer. Implements BlobReader."""

    def __init__(self, inner: BlobReader | None, size: int, start: int, left: int) -> None:
        self._inner, self._size, self.start, self._left = inner, size, start, left

    @property
    def size(self) -> int | None:
        """See BlobReader."""
        return self._size

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        if self._inner is None or not self._left:
            return 0
        count = self._inner.readinto(buffer[: self._left])
        self._left -= count
        return count

    def close(self) -> None:
        """See BlobReader."""
        if self._inner is not None:
            self._inner.close()

    def __enter__(self) -> BlobReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


__all__ = ["ImageForm", "LayerPlan", "image_manifest", "plan_layers", "read_image"]
