"""Lists of referrers: what the API answers, and what clients keep under a tag (distribution-spec 1.1, "Listing
Referrers", "Referrers Tag Schema").

A list is a claim of whoever wrote it. A tag ``sha256-<hex>`` may as well be an ordinary one: GitLab's registry reads
it as the digest (oras-go#1396, 2026-09), ``cosign copy`` puts the image itself there (cosign 3.1.1), and oc-mirror v2
names so whatever was mirrored by digest (oc-mirror#981).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, decode_json, decode_sloppy


class ReferrerList(msgspec.Struct, frozen=True):
    """What a list names, each digest once, and what is wrong with it.

    refused: why the whole of it is no list, empty when it is one. ordinary: the tag names something else that can be
    copied; itself: namely what it is named after. unreadable: entries that are no descriptors, which nobody could fetch
    either.
    """

    entries: tuple[Descriptor, ...] = ()
    annotations: Mapping[str, str] | None = None
    refused: str = ""
    ordinary: bool = False
    itself: bool = False
    unreadable: int = 0

    def without(self, others: Collection[Digest]) -> tuple[Descriptor, ...]:
        """The entries but for these."""
        return tuple(entry for entry in self.entries if entry.digest not in others)


NO_LIST = ReferrerList()
"""Of a manifest that nothing was ever attached to."""


class _Raw(msgspec.Struct):
    manifests: tuple[msgspec.Raw, ...] | None = None


class _Shape(msgspec.Struct, rename="camel"):
    manifests: msgspec.Raw = msgspec.Raw()
    media_type: str | None = None


def read_answer(raw: bytes, *, where: str = "") -> ReferrerList:
    """What the API answered. ``{}`` and a null list are empty (Harbor 2.15 and dhi.io write them). Raises
    ManifestInvalid for what is no JSON object with descriptors: such an answer says nothing."""
    document = decode_json(raw, _Raw, where=where, what="list of referrers")
    entries = [
        decode_sloppy(bytes(item), Descriptor, where=where, what="referrer") for item in document.manifests or ()
    ]
    return ReferrerList(_each_once(entries))


def looks_like_list(raw: bytes) -> bool:
    """Whether an answer of no certain type is a list: an object with a list of manifests, or that calls itself an
    index."""
    try:
        document = msgspec.json.decode(raw, type=ready(_Shape))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return bytes(document.manifests)[:1] == b"[" or document.media_type in media_types.INDEXES


def read_fallback(manifest: ManifestBytes, tag: str) -> ReferrerList:
    """What is under the tag where a list would be, as :attr:`Digest.fallback_tag` names it. Anybody who may push writes
    there, so one bad entry must not hide the others: it is counted and left out."""
    if manifest.digest.fallback_tag == tag:
        return ReferrerList(refused="it names the manifest itself", ordinary=True, itself=True)
    entries: tuple[Descriptor, ...]
    try:
        content = manifest.content()
    except ManifestInvalid as error:
        readable = _read_each(manifest.raw)
        if readable is None:
            return ReferrerList(refused=f"it cannot be read: {error.what}")
        entries = tuple(each for each in readable if each is not None)
        unreadable, annotations = len(readable) - len(entries), None
    else:
        if not isinstance(content, Index):
            return ReferrerList(refused="it names an image or artifact, no list of referrers", ordinary=True)
        entries, unreadable, annotations = content.manifests, 0, content.annotations
    if entries and all(entry.platform is not None and not entry.artifact_type for entry in entries):
        return ReferrerList(refused="it names an index of platforms, no list of referrers", ordinary=True)
    others = tuple(entry for entry in _each_once(entries) if entry.digest.fallback_tag != tag)
    return ReferrerList(others, annotations, unreadable=unreadable)


def _read_each(raw: bytes) -> list[Descriptor | None] | None:
    """The entries one by one; None when there is no list of any."""
    try:
        entries = decode_json(raw, _Raw).manifests
    except ManifestInvalid:
        return None
    return None if entries is None else [_descriptor(bytes(entry)) for entry in entries]


def _descriptor(raw: bytes) -> Descriptor | None:
    try:
        return decode_sloppy(raw, Descriptor)
    except ManifestInvalid:
        return None


def _each_once(entries: Collection[Descriptor]) -> tuple[Descriptor, ...]:
    return tuple({entry.digest: entry for entry in reversed(tuple(entries))}.values())[::-1]


def describe(manifest: ManifestBytes, content: Manifest | Index) -> Descriptor:
    """The entry of a referrer in its subject's list: with artifact type and annotations, as the specification asks."""
    kind = content.kind if isinstance(content, Manifest) else content.artifact_type
    return msgspec.structs.replace(manifest.descriptor, artifact_type=kind, annotations=content.annotations)


__all__ = ["NO_LIST", "ReferrerList", "describe", "looks_like_list", "read_answer", "read_fallback"]
