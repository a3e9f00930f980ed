"""Messages of Google's topics: ``gcr`` of Artifact Registry, and those of Artifact Analysis.

Sources: Artifact Registry, "Configure Pub/Sub notifications"; Artifact Analysis, "Pub/Sub notifications" (topics
``container-analysis-occurrences-v1`` and ``-v1beta1``). Both carry JSON in the message's data.
"""

from __future__ import annotations

import re

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.events.model import Deleted, Event, OccurrenceTold, Pushed, Unconcerned
from registry_pipelines.oci.manifests import decode_sloppy
from registry_pipelines.oci.times import read_time

MAX_MESSAGE_BYTES = 1024 * 1024
"""These messages have some 300 bytes; Pub/Sub itself takes 10 MB."""

_HOST = r"(?P<host>[a-z0-9][a-z0-9.-]{0,252})"
_PATH = r"(?P<path>[a-z0-9]+(?:(?:[._-]+|/|:)[a-z0-9]+)*)"
"""A project may stand below a domain: ``example.com:team``."""
_BY_DIGEST = re.compile(rf"{_HOST}/{_PATH}@(?P<digest>sha256:[0-9a-f]{{64}})")
_BY_TAG = re.compile(rf"{_HOST}/{_PATH}:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})")
_OCCURRENCE = re.compile(r"projects/[^/\s]{1,100}/(?:locations/[^/\s]{1,60}/)?occurrences/[^/\s]{1,200}")
MAX_NAME = 1024


class _Message(msgspec.Struct, rename="camel"):
    action: str = ""
    digest: str = ""
    tag: str = ""
    name: str = ""
    kind: str = ""
    notification_time: str = ""


def read_gcr(raw: bytes, *, published: str = "", where: str = "") -> Event:
    """One message's data. published: when Pub/Sub took it, which is all that is known of when it happened.

    Raises ManifestInvalid for what is neither; an action that is not known is :class:`Unconcerned`.
    """
    if len(raw) > MAX_MESSAGE_BYTES:
        raise ManifestInvalid(f"the message has more than {MAX_MESSAGE_BYTES} bytes", where=where)
    told = decode_sloppy(raw, _Message, where=where, what="message of Artifact Registry")
    if max(map(len, (told.digest, told.tag, told.name))) > MAX_NAME:
        raise ManifestInvalid(f"the message has a name of more than {MAX_NAME} characters", where=where)
    if not told.action and told.name:
        return _occurrence(told, published, where)
    by_digest, by_tag = _BY_DIGEST.fullmatch(told.digest), _BY_TAG.fullmatch(told.tag)
    if (told.digest and not by_digest) or (told.tag and not by_tag) or not (by_digest or by_tag):
        named = (told.digest or told.tag or "nothing")[:120]
        raise ManifestInvalid(f"the message names no image, but {named!r}", where=where)
    named_by = by_digest or by_tag
    assert named_by is not None  # noqa: S101  for mypy; see above
    if by_digest and by_tag and by_digest["host"] + by_digest["path"] != by_tag["host"] + by_tag["path"]:
        raise ManifestInvalid("the message's digest and tag are of two images", where=where)
    at, host = _utc(published), named_by["host"]
    if told.action not in ("INSERT", "DELETE"):
        return Unconcerned(at=at, registry=host, kind=f"action {told.action[:40]}")
    kind = Pushed if told.action == "INSERT" else Deleted
    return kind(
        at=at,
        registry=host,
        repository=named_by["path"],
        digest=by_digest["digest"] if by_digest else "",
        tag=by_tag["tag"] if by_tag else "",
    )


def _occurrence(told: _Message, published: str, where: str) -> Event:
    if not _OCCURRENCE.fullmatch(told.name):
        raise ManifestInvalid(f"the message names no occurrence, but {told.name[:120]!r}", where=where)
    at = _utc(told.notification_time) or _utc(published)
    return OccurrenceTold(at=at, registry="", name=told.name, kind=told.kind[:60])


def _utc(text: str) -> str:
    moment = read_time(text)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""
