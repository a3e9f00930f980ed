"""What a bundle is: the files on a medium, and the document that is signed.

A folder holds, for the mirror ``foreign`` and its bundle 7,

* ``foreign-0007.bundle.json``: the document below in a DSSE envelope (secure-systems-lab/dsse, envelope.md), signed by
  the near side's promoter;
* ``foreign-0007.part0001``, ...: slices of one stream, an uncompressed tar (POSIX.1-2001 pax) of an OCI image layout
  (image-spec 1.1, image-layout.md): ``oci-layout``, ``index.json``, all manifests, then configs and layers. Slices cut
  inside blobs; their bytes one after another are the tar;
* ``tool/``: what runs the far side, where the bundle brings it.

All manifests of all closures are in each bundle. Of configs and layers those are left out that a receipt of the far
side says are there; they are the document's ``needs``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

import msgspec

from registry_pipelines.errors import ManifestInvalid, PlatformInvalid, ReferenceInvalid, StateTooNew
from registry_pipelines.evidence.dsse import Envelope, read_envelope, sign_envelope, verify_envelope, write_envelope
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import BUNDLE_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.references import check_repository, check_tag
from registry_pipelines.oci.times import read_time
from registry_pipelines.progress import count_text
from registry_pipelines.settings import NAME

SCHEMA = 1
"""Of the document; a reader refuses a higher one."""

MAX_DOCUMENT_BYTES = 256 * 1024 * 1024
"""Of an envelope. A blob has about 150 bytes in the document: room for a million of them, in base64."""

MAX_NUMBER = 10**9
"""Above the highest number that a document's file is named by."""

TOOL_FOLDER = "tool"
"""Where the tool's files are, beside the parts."""

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_TOOL_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}\Z")
_DOCUMENT_FILE = re.compile(r"(?P<mirror>[a-z0-9][a-z0-9_-]{0,62})-(?P<number>\d{4,9})\.bundle\.json\Z")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One slice of the stream. Found by its content: a medium may have given it another name."""

    name: str
    size: int
    sha256: str
    """64 hex digits."""


class BundleBlob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A manifest, config or layer that is in the stream."""

    digest: Digest
    size: int
    offset: int
    """Of its first byte in the stream."""
    media_type: str = ""
    """Of a manifest or index; empty for configs and layers."""


class BundleImage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A closure, and where it goes at the far side."""

    repository: str
    """At the far side: with the mirror's prefix."""
    digest: Digest
    media_type: str
    size: int
    """Of the top manifest."""
    tags: tuple[str, ...]
    """What the far side calls it. Tags named after digests, which come with what they belong to, are apart."""
    source: str
    """Where it came from, for people."""
    manifests: tuple[Digest, ...]
    """Of the whole closure with referrers, in the order in which a registry takes them; the top among them."""
    digest_tags: dict[str, Digest] = {}
    """cosign's ``.sig``, ``.att`` and ``.sbom`` tags with what they name."""
    platforms: tuple[str, ...] = ()
    """Children of the index that were chosen, ``os/architecture[/variant]``; all when empty. The others are absent."""
    foreign_layers: bool = False
    """Whether layers that their publisher keeps elsewhere came along, as far as the source held them."""


class Need(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Content that the bundle leaves out, because a receipt says that the far side has it."""

    digest: Digest
    size: int
    repository: str
    """Of the far side's registry, where it is."""
    number: int = 0
    """Bundle of this line that brought it; 0 where the near side does not know any more."""


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """The receipt that an incremental bundle builds on."""

    far: str
    sequence: int
    sha256: str
    """Of the receipt's document, as ``sha256:<hex>``; its envelope differs with each signature."""


class ToolFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the folder ``tool``: a wheel, or ``SHA256SUMS``."""

    name: str
    size: int
    sha256: str


class LeftOut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What belongs to the mirror and does not cross. image: ``<source>:<tag>``. The rest is as in
    :class:`~registry_pipelines.transfer.closure.closure.Omission`; a whole tag is ``held`` or ``failed``."""

    image: str
    kind: str
    what: str
    why: str
    size_bytes: int = 0


class Bundle(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The document that is signed."""

    schema: int
    mirror: str
    line: str
    """Of the near side's state that counts the bundles: 32 hex digits by chance. Numbers compare within a line."""
    number: int
    """1 is the first of its line; a later bundle has the later state of the mirror."""
    made_at: str
    """RFC 3339, UTC, by the near side's clock."""
    stream_size: int
    part_size: int
    """Bytes of each part but the last."""
    parts: tuple[Part, ...]
    blobs: tuple[BundleBlob, ...]
    """In the order of the stream; each digest once."""
    images: tuple[BundleImage, ...]
    needs: tuple[Need, ...] = ()
    receipt: Base | None = None
    """None for a full bundle."""
    left_out: tuple[LeftOut, ...] = ()
    tool: tuple[ToolFile, ...] = ()
    tool_image: str = ""
    """``<repository>@<digest>`` of the tool's own image among ``images``; empty where the bundle does not bring it."""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``foreign-0007``: how its files' names begin."""
        return bundle_name(self.mirror, self.number)

    @property
    def mark(self) -> str:
        """SHA-256 over its parts' sums, in hex: tells two bundles apart that a near side gave one number, because its
        state came back from a backup in between."""
        return hashlib.sha256("\n".join(part.sha256 for part in self.parts).encode()).hexdigest()

    @property
    def manifests(self) -> Iterator[BundleBlob]:
        """The manifests and indexes among the blobs."""
        return (blob for blob in self.blobs if blob.media_type)


class Sealed(msgspec.Struct, frozen=True):
    """A document with its envelope, as read; who signed it is asked by :func:`verify_bundle`. where: its file."""

    bundle: Bundle
    envelope: Envelope
    where: str


def bundle_name(mirror: str, number: int) -> str:
    """How the names of a bundle's files begin."""
    return f"{mirror}-{number:04d}"


def document_name(mirror: str, number: int) -> str:
    """The signed document's file. It is written last: a folder without it holds an unfinished bundle."""
    return f"{bundle_name(mirror, number)}.bundle.json"


def part_name(mirror: str, number: int, part: int) -> str:
    """The file of a part; the first is 1."""
    return f"{bundle_name(mirror, number)}.part{part:04d}"


def read_document_name(name: str) -> tuple[str, int] | None:
    """Mirror and number of a file that is named as a document; None for another."""
    match = _DOCUMENT_FILE.match(name)
    return (match["mirror"], int(match["number"])) if match else None


def seal(bundle: Bundle, signer: Signer) -> bytes:
    """The document's file: signed, as JSON. Raises what the signer raises."""
    return write_envelope(sign_envelope(encode_json(bundle), signer, payload_type=BUNDLE_TYPE))


def read_bundle(raw: bytes, *, where: str = "") -> Sealed:
    """Read a document's file; no signature is checked. where: the file.

    Raises SignatureInvalid for what is no envelope, ManifestInvalid for a document that does not hold together,
    StateTooNew for one of a newer build.
    """
    envelope = read_envelope(raw, where=where, max_bytes=MAX_DOCUMENT_BYTES)
    if envelope.payload_type != BUNDLE_TYPE:
        raise ManifestInvalid(
            f"it holds {envelope.payload_type[:100]!r}, and a bundle's document is {BUNDLE_TYPE}", where=where
        )
    if decode_json(envelope.payload, _Versioned, where=where, what="bundle's document").schema > SCHEMA:
        raise StateTooNew("this bundle was made by a newer build", where=where, do="Load it with that one")
    bundle = decode_json(envelope.payload, Bundle, where=where, what="bundle's document")
    if problem := next(_problems(bundle), ""):
        raise ManifestInvalid(
            f"this bundle's document does not hold together: {problem}", where=where, do="Have the bundle made again"
        )
    return Sealed(bundle, envelope, where)


def verify_bundle(sealed: Sealed, verifier: Verifier) -> str:
    """The id of the believed key that signed a bundle as promoter. Raises SignatureInvalid, KeyRefused."""
    signed_by = verify_envelope(sealed.envelope, verifier, where=sealed.where, payload_type=BUNDLE_TYPE)
    return verifier.vouching(signed_by, BUNDLE_TYPE)


class _Versioned(msgspec.Struct):
    schema: int


def _problems(bundle: Bundle) -> Iterator[str]:
    """What is wrong in a document, the first things first: sizes and names are used to find and to cut files."""
    if not re.search(NAME.expression, bundle.mirror) or bundle.mirror.endswith("\n"):
        yield f"the mirror's name {bundle.mirror[:80]!r} is none"
    if bundle.schema < 1:
        yield f"its form is {bundle.schema}"
    if not re.fullmatch(r"[0-9a-f]{32}", bundle.line):
        yield "its line is not 32 hex digits"
    if not 1 <= bundle.number < MAX_NUMBER:
        yield f"its number is {bundle.number}"
    if read_time(bundle.made_at) is None:
        yield f"it was made at {bundle.made_at[:80]!r}, which is no time"
    yield from _part_problems(bundle)
    yield from _blob_problems(bundle)
    yield from _image_problems(bundle)
    for file in bundle.tool:
        if not _TOOL_FILE.match(file.name) or not _SHA256.match(file.sha256) or file.size < 0:
            yield f"the tool's file {file.name[:80]!r} is not named as one"


def _part_problems(bundle: Bundle) -> Iterator[str]:
    if bundle.part_size < 1 or bundle.stream_size < 1:
        yield "it has no parts"
        return
    wanted = -(-bundle.stream_size // bundle.part_size)
    if len(bundle.parts) != wanted:
        parts = count_text(wanted, "part")
        yield f"{bundle.stream_size} bytes are {parts} of {bundle.part_size}, and {len(bundle.parts)} listed"
    left = bundle.stream_size
    for place, part in enumerate(bundle.parts, 1):
        if part.name != part_name(bundle.mirror, bundle.number, place):
            yield f"part {place} is named {part.name[:120]!r}"
        if not _SHA256.match(part.sha256):
            yield f"part {place} has no SHA-256"
        if part.size != min(bundle.part_size, left):
            yield f"part {place} has {part.size} bytes"
        left -= part.size


def _blob_problems(bundle: Bundle) -> Iterator[str]:
    end, seen = 0, set[Digest]()
    for blob in bundle.blobs:
        if blob.digest in seen:
            yield f"{blob.digest} is listed twice"
        if blob.size < 0 or blob.offset < end:
            yield f"{blob.digest} lies over what is before it"
        end = max(end, blob.offset + blob.size)
        seen.add(blob.digest)
    if end > bundle.stream_size:
        yield "blobs lie behind the end of the stream"
    for need in bundle.needs:
        if need.digest in seen:
            yield f"{need.digest} is in the bundle, and left out of it"
        yield from _name_problems(need.repository)
    if bundle.needs and bundle.receipt is None:
        yield "content is left out, and no receipt says that it is at the far side"


def _image_problems(bundle: Bundle) -> Iterator[str]:
    here = {blob.digest for blob in bundle.manifests}
    for image in bundle.images:
        yield from _name_problems(image.repository, (*image.tags, *image.digest_tags), image.platforms)
        if missing := {image.digest, *image.manifests, *image.digest_tags.values()} - here:
            yield f"manifest {min(missing)} of {image.repository[:120]} is not in it"
        if image.digest not in image.manifests:
            yield f"the closure of {image.repository[:120]} is without its top"


def _name_problems(repository: str, tags: Iterable[str] = (), platforms: Iterable[str] = ()) -> Iterator[str]:
    """Names that a registry would refuse in the middle of a load, or take for a path to somewhere else."""
    try:
        check_repository(repository)
        for tag in tags:
            check_tag(tag)
        for platform in platforms:
            Platform.parse(platform)
    except (ReferenceInvalid, PlatformInvalid) as error:
        yield error.what


__all__ = [
    "MAX_DOCUMENT_BYTES",
    "SCHEMA",
    "TOOL_FOLDER",
    "Base",
    "Bundle",
    "BundleBlob",
    "BundleImage",
    "LeftOut",
    "Need",
    "Part",
    "Sealed",
    "ToolFile",
    "bundle_name",
    "document_name",
    "part_name",
    "read_bundle",
    "read_document_name",
    "seal",
    "verify_bundle",
]
