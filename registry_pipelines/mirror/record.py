"""When all of an upstream was last brought: a signed record beside the images, in the registry that was filled.

There it outlives the machine and the orchestrator's database that knew of the run. It is an artifact by itself in the
repository :func:`record_place`: one tag for each upstream, which moves where tags may. A DSSE envelope
(secure-systems-lab/dsse, protocol.md) is its one layer. The document in it is this project's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import re

import msgspec

from registry_pipelines.errors import ManifestInvalid, NotFound, RegistryPipelinesError, TagImmutable
from registry_pipelines.evidence.dsse import read_envelope, sign_envelope, verify_envelope, write_envelope
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import MIRRORED_TYPE
from registry_pipelines.oci import media_types
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.manifests import Manifest, artifact_manifest, encode_json
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.set_aside import MIRRORED
from registry_pipelines.registry.tags import digest_at, put_tag

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Of one upstream: 100,000 tags."""

_ENVELOPE = "application/vnd.dsse.envelope.v1+json"


class Mirrored(msgspec.Struct, frozen=True, kw_only=True):
    """A run that brought everything of an upstream, with nothing held and nothing failed."""

    schema: int = 1
    mirror: str
    upstream: str
    """As the configuration writes its image."""
    at: str
    """RFC 3339, UTC, by the clock of who mirrored."""
    tags: dict[str, str] = {}
    """``repository:tag`` as it was filled, to the digest."""


def record_place(registry: Registry, prefix: str, mirror: str) -> Place:
    """Where the records of a mirror are, below its prefix; retention leaves such repositories out by their name."""
    return Place(registry, "/".join(part for part in (prefix, MIRRORED, mirror) if part))


def write_record(place: Place, record: Mirrored, signer: Signer) -> None:
    """Sign a record and store it, in place of the upstream's last one; where tags never move, beside it. Raises
    RegistryError."""
    envelope = write_envelope(sign_envelope(encode_json(record), signer, payload_type=MIRRORED_TYPE))
    push_blob(place, b"{}", media_type=media_types.OCI_EMPTY)
    layer = push_blob(place, envelope, media_type=_ENVELOPE)
    manifest = artifact_manifest(artifact_type=MIRRORED_TYPE, layers=[layer], subject=None)
    tag = _tag(record.upstream)
    before = digest_at(place, tag)
    try:
        put_tag(place, manifest, tag)
    except TagImmutable:
        put_tag(place, manifest, f"{tag}-{re.sub('[^0-9]', '', record.at)}")
        return
    if before is not None and before != manifest.digest:
        with contextlib.suppress(RegistryPipelinesError):  # many registries delete nothing
            place.registry.delete_manifest(place.repository, before)


def read_record(place: Place, mirror: str, upstream: str, verifier: Verifier) -> Mirrored | None:
    """The record of an upstream's last good run; None where there is none. Raises SignatureInvalid where nobody who is
    believed as promoter signed it, ManifestInvalid (no record, or another upstream's), RegistryError."""
    tag = _tag(upstream)
    try:
        tags = [
            each for each in place.registry.tags(place.repository) if re.fullmatch(rf"{re.escape(tag)}(-\d+)?", each)
        ]
    except NotFound:
        return None
    # The one that moves, and the newest of those that could not: a registry may have changed its mind about tags.
    newest = dict.fromkeys([*(each for each in tags if each == tag), *sorted(tags)[-1:]])
    records = [_read(place, each, mirror, upstream, verifier) for each in newest]
    return max(records, key=lambda record: record.at, default=None)


def _read(place: Place, tag: str, mirror: str, upstream: str, verifier: Verifier) -> Mirrored:
    where = f"{place}:{tag}"
    content = place.registry.get_manifest(place.repository, tag).content()
    if not isinstance(content, Manifest) or len(content.layers) != 1:
        raise ManifestInvalid("this is no record of a mirror", where=where)
    raw = read_blob(place, content.layers[0], limit=MAX_RECORD_BYTES)
    envelope = read_envelope(raw, where=where, max_bytes=MAX_RECORD_BYTES)
    key_ids = verify_envelope(envelope, verifier, where=where, payload_type=MIRRORED_TYPE)
    verifier.vouching(key_ids, MIRRORED_TYPE)
    try:
        record = msgspec.json.decode(envelope.payload, type=ready(Mirrored))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalid(f"this record is not valid: {error}", where=where) from error
    if (record.mirror, record.upstream) != (mirror, upstream):
        raise ManifestInvalid(f"this record is of {record.upstream[:200]} in {record.mirror[:100]}", where=where)
    return record


def _tag(upstream: str) -> str:
    """A tag for people, and for no two upstreams the same."""
    told = re.sub(r"[^A-Za-z0-9_.-]", "-", upstream).strip("-.")[:100]
    return f"{told}-{hashlib.sha256(upstream.encode()).hexdigest()[:12]}"
