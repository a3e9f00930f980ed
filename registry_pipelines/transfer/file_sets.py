"""Files as one artifact of a registry: what is no image, and crosses an air gap as images do.

An artifact manifest (image-spec 1.1, "Guidelines for Artifact Usage"). Its first layer is a JSON document that says
what the files are; each other layer is one file, with its name in the title annotation, which other clients take for
the file to write, too. The manifest depends on the files and the document alone: what did not change has the digest it
had, and of a set of which one file changed one file is sent. Who vouches for a set attests its digest, as of an image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.errors import DigestMismatch, EvidenceMissing, InputError, ManifestInvalid
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import VerifiedAttestation, Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, replaced
from registry_pipelines.oci.manifests import EMPTY, Descriptor, Manifest, artifact_manifest
from registry_pipelines.progress import Progress
from registry_pipelines.registry.blobs import BlobStream, push_blob, read_blob
from registry_pipelines.registry.protocol import BUFFER_BYTES, Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.threads import Pool

if TYPE_CHECKING:  # who only reads a set uploads nothing
    from registry_pipelines.transfer.blob.produced import Write
    from registry_pipelines.transfer.uploads import Uploads

TITLE = "org.opencontainers.image.title"
MAX_FILES = 10_000
"""A row has some 250 bytes; a manifest may have 4 MiB."""
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""A row for each file, and the names of records that could not be had."""
THREADS = 4
"""Files at once; one connection to a registry is slower than a disk."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9%._+!~-]{0,250}")
"""A file without folders: what wheels and advisory archives are called."""


@dataclass(frozen=True)
class Kind:
    """A kind of set."""

    what: str
    """For people: ``an advisory set``."""
    artifact_type: str
    document_type: str
    """Media type of the first layer."""
    file_type: str
    """Media type of the files."""
    predicate_type: str
    """What is attested of it; whose key counts for that stands in ``evidence.predicates``."""
    document_limit: int = MAX_DOCUMENT_BYTES
    """Bytes of a document that is still read."""


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine, and what is known of it."""

    path: Path
    digest: Digest
    size: int


@dataclass(frozen=True)
class PushedSet:
    """A set that is there now. bytes_sent: of files that the registry did not have."""

    descriptor: Descriptor
    changed: bool
    bytes_sent: int


@dataclass(frozen=True)
class OpenedSet:
    """A set in a registry. document: its first layer, not decoded. files: by name."""

    place: Place
    descriptor: Descriptor
    document: bytes
    files: Mapping[str, Descriptor]

    def __str__(self) -> str:
        return f"{self.place}@{self.descriptor.digest}"


def push_set(
    uploads: Uploads, kind: Kind, document: bytes, files: Sequence[LocalFile], *, tag: str, created: str
) -> PushedSet:
    """Store files as one artifact under a tag, which moves last; an empty one leaves it without. created: RFC 3339; of
    the files, not of this moment.

    Raises InputError (too many files, names that say a folder), DigestMismatch for a file that changed meanwhile, the
    RegistryError family.
    """
    odd = [file.path.name for file in files if not _NAME.fullmatch(file.path.name)]
    if odd or len(files) > MAX_FILES or len({file.path.name for file in files}) < len(files):
        raise InputError(
            f"{kind.what} has at most {MAX_FILES} files, each with a plain name of its own; not so: {odd[:5] or files}",
            where=str(uploads.target),
        )
    place = uploads.target
    push_blob(place, b"{}", media_type=EMPTY.media_type)
    layers = [push_blob(place, document, media_type=kind.document_type)]
    with Pool(THREADS, "files") as pool:
        sent = list(pool.map(partial(_push, uploads), files))
    layers += [
        Descriptor(media_type=kind.file_type, digest=file.digest, size=file.size, annotations={TITLE: file.path.name})
        for file in files
    ]
    manifest = artifact_manifest(
        artifact_type=kind.artifact_type,
        layers=layers,
        subject=None,
        annotations={"org.opencontainers.image.created": created},
    )
    changed = digest_at(place, tag or manifest.digest) != manifest.digest
    if changed:
        place.registry.put_manifest(place.repository, manifest, tag=tag)
    return PushedSet(manifest.descriptor, changed, sum(sent))


def _push(uploads: Uploads, file: LocalFile) -> int:
    if uploads.find(file.digest, file.size):
        return 0

    def produce(write: Write) -> Descriptor:
        digest, size = _copy_out(file.path, write)
        if (digest, size) != (file.digest, file.size):
            raise DigestMismatch("the file changed while it was sent", where=str(file.path), do="Send it again")
        return Descriptor(media_type="application/octet-stream", digest=digest, size=size)

    uploads.produce(file.path.name, produce)
    return file.size


def _copy_out(path: Path, write: Write) -> tuple[Digest, int]:
    hashed, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with local_errors(path), path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            hashed.update(buffer[:count])
            write(buffer[:count])
            size += count
    return Digest(f"sha256:{hashed.hexdigest()}"), size


def open_set(place: Place, reference: str, kind: Kind) -> OpenedSet:
    """Read what a set holds; no file yet, and nobody vouched for it: see :func:`vouched`. Raises NotFound, InputError
    for anything else than such a set, ManifestInvalid, DigestMismatch."""
    stored = place.registry.get_manifest(place.repository, reference)
    where = f"{place}@{stored.digest}"
    manifest = stored.content()
    if not isinstance(manifest, Manifest) or manifest.kind != kind.artifact_type:
        raise InputError(f"this is not {kind.what}", where=where, do="Name what `push` wrote")
    if not manifest.layers or manifest.layers[0].media_type != kind.document_type:
        raise ManifestInvalid(f"{kind.what} begins with a layer of {kind.document_type}", where=where)
    files = {(each.annotations or {}).get(TITLE, ""): each for each in manifest.layers[1:]}
    odd = [name for name in files if not _NAME.fullmatch(name)]
    if odd or len(files) != len(manifest.layers) - 1 or len(files) > MAX_FILES:
        raise ManifestInvalid(f"its files are not each named by a plain name of their own: {odd[:5]}", where=where)
    document = read_blob(place, manifest.layers[0], limit=kind.document_limit)
    return OpenedSet(place, stored.descriptor, document, files)


def vouched(opened: OpenedSet, kind: Kind, verifier: Verifier) -> VerifiedAttestation:
    """The statement of a believed key about exactly this set. Raises EvidenceMissing, which says why others are not
    believed, and the RegistryError family."""
    found = read_attestations(opened.place, opened.descriptor.digest, verifier, predicate_type=kind.predicate_type)
    if believed := found.of_type(kind.predicate_type):
        return believed[0]
    why = "; ".join(str(each) for each in found.rejected[:3])
    raise EvidenceMissing(
        f"nobody who is believed vouches for {kind.what}" + (f": {why}" if why else ""),
        where=str(opened),
        do="Believe the key of who pushed it (`signing` of the configuration), or have it pushed by who has one",
    )


def fetch_set(opened: OpenedSet, folder: Path, progress: Progress) -> int:
    """Bring the files into a folder, each whole or not at all; those that are there with the same content stay. How
    many bytes came. Raises DigestMismatch, DiskFull, LocalError, the RegistryError family."""
    with local_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    fetch = partial(_fetch, opened, folder, progress)
    with Pool(THREADS, "files") as pool:
        return sum(pool.map(fetch, opened.files, opened.files.values()))


def _fetch(opened: OpenedSet, folder: Path, progress: Progress, name: str, descriptor: Descriptor) -> int:
    path = folder / name
    if path.is_file() and path.stat().st_size == descriptor.size and _copy_out(path, len)[0] == descriptor.digest:
        return 0
    progress.begin(name, total_bytes=descriptor.size)
    hashed, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with replaced(path) as fresh, fresh.open("wb") as written, BlobStream(opened.place, descriptor) as stream:
        while size <= descriptor.size and (count := stream.readinto(buffer)):
            hashed.update(buffer[:count])
            written.write(buffer[:count])
            progress.advance(name, count)
            size += count
        if size != descriptor.size or hashed.hexdigest() != descriptor.digest.hex:
            raise DigestMismatch(
                f"{name} has other content than its set says, or ends early", where=str(opened), do="Push it again"
            )
    progress.end(name)
    return size
