"""Weights in an object store: what lies there, and how it is read.

The files lie below the prefix as they lie in a folder, so that whoever mounts the bucket has them. Beside them:

- ``weights.json``: the list (``listed``), which lands last; without it the set is not whole
- ``model.sig``: an OMS signature, where there is one
- ``.registry-pipelines/manifest.json``, ``config.json``: the artifact in a registry, byte by byte
- ``.registry-pipelines/before.json``: only while a set goes up: the list of what stays of what was there
- ``.registry-pipelines/here/<sha256>/<sha256 of the path>``: only then, for each file that is up
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import msgspec

from registry_pipelines.errors import ContentError, InputError, ManifestInvalid, NotFound
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Manifest,
    ManifestBytes,
    artifact_manifest,
)
from registry_pipelines.oci.media_types import SIGSTORE_BUNDLE
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import BlobReader, Capabilities, Place, Registry
from registry_pipelines.stores.store import ObjectStore
from registry_pipelines.threads import Pool
from registry_pipelines.weights.formats import HEAD_BYTES, kind_of
from registry_pipelines.weights.hashing import LIST_FILE, SIGNATURE_FILE, STAGING_FOLDER
from registry_pipelines.weights.listed import MAX_LIST_BYTES, ListedFile, WeightList, parse_list
from registry_pipelines.weights.model import (
    MAX_CONFIG_BYTES,
    RAW_TYPES,
    WeightFile,
    WeightSet,
    from_manifest,
    to_manifest,
    weight_set,
)
from registry_pipelines.weights.opening import OpenedWeights
from registry_pipelines.weights.paths import MAX_PATH_BYTES
from registry_pipelines.weights.staging import LOCK

MANIFEST = f"{STAGING_FOLDER}/manifest.json"
CONFIG = f"{STAGING_FOLDER}/config.json"
BEFORE = f"{STAGING_FOLDER}/before.json"
HERE = f"{STAGING_FOLDER}/here"
HELD = f"{STAGING_FOLDER}/{LOCK}"
"""Of a folder: held by who puts a set there."""

MAX_SIGNATURE_BYTES = 16 * 1024 * 1024
"""A row for each of 10,000 files, in base64."""
_HEX = re.compile("[0-9a-f]{64}")

HEADS_AT_ONCE = 16
"""Small reads wait for round trips."""


@dataclass(frozen=True)
class Found:
    """What a prefix has. listed: the list of a whole set. before: that of one which is going up. objects: bytes by key.
    known: content of files that are there, by path, as our lists and notes say and sizes confirm."""

    listed: WeightList | None
    before: WeightList | None
    objects: Mapping[str, int]
    known: Mapping[str, Digest]

    @property
    def strangers(self) -> tuple[str, ...]:
        """Objects that are no file of the set and none of ours."""
        ours = {LIST_FILE, SIGNATURE_FILE}
        return tuple(
            sorted(
                key
                for key in self.objects
                if key not in self.known and key not in ours and not key.startswith(f"{STAGING_FOLDER}/")
            )
        )


@dataclass(frozen=True)
class StoredSet:
    """A whole set in a store, opened. sizes_wrong: files that the store does not have, or with another size; nothing
    was read of them."""

    opened: OpenedWeights
    manifest: ManifestBytes
    found: Found
    signature: bytes | None
    sizes_wrong: tuple[str, ...] = ()

    def need_whole(self) -> None:
        """Raise ContentError where the store lost a file, or has one of another size."""
        if wrong := self.sizes_wrong:
            verb = "is" if len(wrong) == 1 else "are"
            raise ContentError(
                f"{count_text(len(wrong), 'file')} of {LIST_FILE} {verb} not there, or of another size: "
                f"{', '.join(wrong[:5])}",
                where=self.opened.place.registry.name,
                do="Push or sync the weights there again; only these are sent",
            )


def look(store: ObjectStore, wanted: Mapping[str, Digest] | None = None) -> Found:
    """Look at a prefix. wanted: the files of a set that is to go there, by path; notes are about these.

    Raises InputError where something else lies there, ManifestInvalid for lists that are none of ours.
    """
    objects = {each.key: each.size for each in store.below("") if each.key != HELD}
    listed, before = read_stored_list(store, LIST_FILE, objects), read_stored_list(store, BEFORE, objects)
    if listed is None and before is None and objects:
        stranger = min(objects)
        raise InputError(
            f"something else lies there, for instance {stranger}, and no {LIST_FILE}",
            where=store.name,
            do="Name a prefix of its own for the weights",
        )
    rows = [*(listed.files if listed else ()), *(before.files if before else ())]
    known = {each.path: Digest(f"sha256:{each.sha256}") for each in rows if objects.get(each.path) == each.size}
    known |= _noted(store, objects, wanted or {})
    return Found(listed, before, objects, {path: digest for path, digest in known.items() if path in objects})


def open_stored(store: ObjectStore) -> StoredSet:
    """Open the set below a prefix. Raises NotFound (nothing there, or a set that did not go up whole), InputError
    (something else lies there), ManifestInvalid."""
    found = look(store)
    if found.listed is None:
        if found.before is None:
            raise NotFound("there are no weights", where=store.name)
        raise NotFound(
            f"the weights there are not whole: {count_text(len(found.known), 'file')} of those that stay, and no "
            f"{LIST_FILE}",
            where=store.name,
            do="Run the push or the sync again; it goes on where it was",
        )
    listed = found.listed
    files = StoredFiles(store, {each.path: Digest(f"sha256:{each.sha256}") for each in listed.files})
    manifest, weights = _artifact(store, found, listed, files)
    content = manifest.content()
    assert isinstance(content, Manifest)  # noqa: S101  else it was refused
    signature = None
    if SIGNATURE_FILE in found.objects:
        signature = store.read(SIGNATURE_FILE, limit=MAX_SIGNATURE_BYTES)
    files.show(manifest, weights.config, signature)
    opened = OpenedWeights(files.place, manifest.descriptor, content, weights)
    wrong = tuple(each.path for each in listed.files if found.objects.get(each.path) != each.size)
    return StoredSet(opened, manifest, found, signature, wrong)


def note_key(path: str, digest: Digest) -> str:
    """The key of the note that a file is up."""
    return f"{HERE}/{digest.hex}/{hashlib.sha256(path.encode()).hexdigest()}"


def _noted(store: ObjectStore, objects: Mapping[str, int], wanted: Mapping[str, Digest]) -> dict[str, Digest]:
    """Files that are up as notes say. Their names are known where they are wanted; else the note is read."""
    notes = {key for key in objects if key.startswith(f"{HERE}/")}
    found = {path: digest for path, digest in wanted.items() if note_key(path, digest) in notes}
    others = sorted(notes - {note_key(path, digest) for path, digest in found.items()})
    with Pool(HEADS_AT_ONCE, "notes") as pool:
        paths = list(pool.map(lambda key: store.read(key, limit=MAX_PATH_BYTES).decode(errors="replace"), others))
    for key, path in zip(others, paths, strict=True):
        hexadecimal = key.removeprefix(f"{HERE}/").partition("/")[0]
        if (
            path not in found
            and _HEX.fullmatch(hexadecimal)
            and note_key(path, digest := Digest(f"sha256:{hexadecimal}")) == key
        ):
            found[path] = digest
    return found


def read_stored_list(store: ObjectStore, key: str, objects: Mapping[str, int]) -> WeightList | None:
    """A list below a prefix; None where it has none. objects: bytes by key. Raises ManifestInvalid."""
    if key not in objects:
        return None
    where = f"{store.name}/{key}"
    if objects[key] > MAX_LIST_BYTES:
        raise ManifestInvalid(f"the list has more than {MAX_LIST_BYTES} bytes", where=where)
    return parse_list(store.read(key, limit=MAX_LIST_BYTES), where=where)


def _artifact(
    store: ObjectStore, found: Found, listed: WeightList, files: StoredFiles
) -> tuple[ManifestBytes, WeightSet]:
    """The manifest and the set, as they lie there; made from the files' first bytes where they do not, as in a copy of
    a folder that was pulled."""
    if MANIFEST not in found.objects or CONFIG not in found.objects:
        made = _made(store, listed)
        return to_manifest(made), made
    where = f"{store.name}/{MANIFEST}"
    raw = store.read(MANIFEST, limit=MAX_MANIFEST_BYTES)
    Digest.parse(listed.manifest).check(raw, where=where)
    manifest = ManifestBytes(raw, media_types.OCI_MANIFEST, Digest.of(raw))
    content = manifest.content()
    config = store.read(CONFIG, limit=MAX_CONFIG_BYTES)
    if isinstance(content, Manifest):
        content.config.digest.check(config, where=f"{store.name}/{CONFIG}")
    weights = from_manifest(content, config, where=where)
    if rows_of(weights) != set(listed.files):
        raise ManifestInvalid(f"it has other files than {LIST_FILE}", where=where, do="Push the weights again")
    return manifest, weights


def rows_of(weights: WeightSet) -> set[ListedFile]:
    """The rows that a set has in a list."""
    return {ListedFile(path=each.path, sha256=each.digest.hex, size=each.size) for each in weights.files}


def _made(store: ObjectStore, listed: WeightList) -> WeightSet:
    with Pool(HEADS_AT_ONCE, "heads") as pool:
        made = list(pool.map(partial(_file, store), listed.files))
    return weight_set([file for file, _ in made], formats=[name for file, name in made if file.kind == "weights"])


def _file(store: ObjectStore, listed: ListedFile) -> tuple[WeightFile, str]:
    head = b""
    if listed.size:
        head = store.read_head(listed.path, min(listed.size, HEAD_BYTES))
    what = kind_of(listed.path, head, listed.size)
    digest, untested = Digest(f"sha256:{listed.sha256}"), what.name == "unknown"
    file = WeightFile(listed.path, digest, listed.size, what.kind, RAW_TYPES[what.kind], untested=untested)
    return file, what.name


class StoredFiles:
    """The files below a prefix, as transfers read them: a blob is the file with that digest. Of the protocol it has
    what reads; see ``to_store`` for what writes."""

    def __init__(self, store: ObjectStore, here: Mapping[str, Digest]) -> None:
        """here: the files that are there, by path."""
        self.name, self.store = store.name, store
        self.here = dict(here)
        self._paths = {digest: path for path, digest in here.items()}
        self._manifests: dict[str, ManifestBytes] = {}
        self._beside: dict[Digest, str] = {}
        self._referrers: list[Descriptor] = []

    @property
    def place(self) -> Place:
        """As a place."""
        return Place(cast(Registry, self), "")

    def alone(self, path: str) -> Place:
        """One file as a place: whoever reads its digest there reads this path, and no other with the same content."""
        return StoredFiles(self.store, {path: self.here[path]}).place

    def show(self, manifest: ManifestBytes, config: bytes, signature: bytes | None) -> None:
        """Have what lies beside the files, too: the artifact, and ``model.sig`` as a registry has it, as what refers to
        the artifact."""
        self._manifests[str(manifest.digest)] = manifest
        self._beside[Digest.of(config)] = CONFIG
        if signature is None:
            return
        layer = Descriptor(media_type=SIGSTORE_BUNDLE, digest=Digest.of(signature), size=len(signature))
        carrier = artifact_manifest(artifact_type=SIGSTORE_BUNDLE, layers=[layer], subject=manifest.descriptor)
        self._beside[layer.digest] = SIGNATURE_FILE
        self._manifests[str(carrier.digest)] = carrier
        self._referrers = [msgspec.structs.replace(carrier.descriptor, artifact_type=SIGSTORE_BUNDLE)]

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry; of the set, and of its signature."""
        if reference not in self._manifests:
            raise NotFound(f"there is no manifest {reference}", where=self.name)
        return self._manifests[reference]

    def referrers(
        self, repository: str, digest: Digest, *, artifact_type: str = "", tags: Container[str] | None = None
    ) -> list[Descriptor]:
        """See Registry."""
        mine = str(digest) in self._manifests and all(each.digest != digest for each in self._referrers)
        return [each for each in self._referrers if mine and artifact_type in ("", each.artifact_type)]

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """See Registry; repository: the file's path."""
        return self.store.size(repository) if self.here.get(repository) == digest else None

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        """See Registry."""
        key = self._paths.get(digest) or self._beside.get(digest)
        if key is None:
            raise NotFound(f"no file has the digest {digest}", where=self.name)
        return self.store.open(key, start=start, stop=stop)

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry."""
        return Capabilities(range_reads=self.store.ranges)


__all__ = ["Found", "StoredFiles", "StoredSet", "look", "note_key", "open_stored", "read_stored_list"]
