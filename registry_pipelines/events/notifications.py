"""What docker-registry tells of itself: notifications, as events of an audit. They come by HTTP, or lie in files.

Source: the CNCF Distribution's documentation, "Work with notifications": envelopes of events as JSON, sent again until
they are taken; Harbor's and others' registries that are built on it send the same. Blobs that are pushed are no images
yet; a pull by HEAD gives nothing out.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterator
from datetime import datetime

import msgspec

from registry_pipelines.errors import LocalError
from registry_pipelines.events.kept_lines import Lines, lines_of
from registry_pipelines.events.line_files import new_lines
from registry_pipelines.oci.decoding import ready
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.responses import Response, error_response
from registry_pipelines.report.audit.model import Action, Event, Reading, plain, utc
from registry_pipelines.shared.documents import Documents

MOST_ENVELOPE_BYTES = 8 << 20
MOST_FILE_BYTES = 64 << 20
"""Of a file of what was received; then a new one is begun."""
_ACTIONS: dict[str, Action] = {"push": "push", "pull": "pull", "delete": "delete", "mount": "layer"}


class _Target(msgspec.Struct, rename="camel"):
    media_type: str = ""
    digest: str = ""
    repository: str = ""
    tag: str = ""
    size: int | None = None
    length: int | None = None


class _Request(msgspec.Struct):
    addr: str = ""
    method: str = ""
    useragent: str = ""


class _Actor(msgspec.Struct):
    name: str = ""


class _Notification(msgspec.Struct):
    id: str
    timestamp: datetime
    action: str
    target: _Target = msgspec.field(default_factory=_Target)
    request: _Request = msgspec.field(default_factory=_Request)
    actor: _Actor = msgspec.field(default_factory=_Actor)


class _Envelope(msgspec.Struct):
    events: list[msgspec.Raw]


def envelope_events(raw: bytes) -> list[bytes]:
    """The events of an envelope, each as JSON; a line that is one event alone is that. Raises msgspec.MsgspecError."""
    if b'"events"' not in raw:
        return [raw]
    return [bytes(each) for each in msgspec.json.decode(raw, type=ready(_Envelope)).events]


def event_of_notification(raw: bytes, reading: Reading, *, source: str, registry: str) -> Event | None:
    """What one event tells; None for what is of no concern, or cannot be read, which is said in ``reading``."""
    try:
        told: _Notification = msgspec.json.decode(raw, type=ready(_Notification))
        time = utc(told.timestamp)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reading.cannot(f"a notification cannot be read: {plain(str(error))[:200]}")
        return None
    action = _ACTIONS.get(told.action)
    is_image = _is_manifest(told.target.media_type) or told.action == "delete"
    if action == "pull" and not is_image:
        action = "layer"
    if action is None or not told.target.repository or (action == "push" and not is_image):
        reading.other += 1
        return None
    if told.request.method == "HEAD":
        reading.other += 1
        return None
    size = told.target.size if told.target.size is not None else told.target.length
    return Event(
        time=time,
        who=plain(told.actor.name) or "anonymous",
        action=action,
        registry=registry,
        repository=plain(told.target.repository),
        digest=plain(told.target.digest),
        tag=plain(told.target.tag),
        source=source,
        id=plain(told.id),
        operation=plain(f"{told.request.method} {told.action}".strip()),
        address=plain(told.request.addr),
        agent=plain(told.request.useragent)[:200],
        size=-1 if size is None else min(size, 2**62),
    )


def _is_manifest(media_type: str) -> bool:
    return "manifest" in media_type or "image.index" in media_type


class Notifications:
    """Envelopes, or events, one a line. lines: those that a receiver kept, or the pattern of files that another program
    keeps."""

    def __init__(self, name: str, registry: str, lines: str | Lines) -> None:
        self.where = lines if isinstance(lines, str) else lines.where
        self._name, self._registry, self._lines = name, registry, lines

    def read(self, reading: Reading, *, since: datetime, until: datetime) -> Iterator[Event]:
        """See LogSource."""
        lines = self._lines
        for line in new_lines(lines, reading) if isinstance(lines, str) else lines.new(reading):
            try:
                told = envelope_events(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                reading.cannot(f"a notification cannot be read: {plain(str(error))[:200]}")
                continue
            for each in told:
                event = event_of_notification(each, reading, source=self._name, registry=self._registry)
                if event is not None and event.time >= since:
                    yield event


class Receiver:
    """Takes envelopes by POST and keeps them, one event a line, before it says so: a handler of
    ``registry.embedded.http_server``. token: that the sender must have in ``Authorization: Bearer``; none unless
    told. folder: of the state."""

    def __init__(self, folder: Documents, *, token: str = "") -> None:
        self._lines, self._token = received_lines(folder), token
        self._lock = threading.Lock()
        self.taken = 0

    def __call__(self, request: Request) -> Response:
        """Answer one request: 200 once all is kept; 401, 405, 413, 400 and 507 for what is not."""
        if request.method != "POST":
            return error_response(405, "UNSUPPORTED", "send envelopes by POST")
        told = request.headers.get("authorization", "")
        if self._token and not hmac.compare_digest(told.encode(), f"Bearer {self._token}".encode()):
            return error_response(401, "UNAUTHORIZED", "the token is not that of the configuration")
        raw = request.body.read(MOST_ENVELOPE_BYTES)
        if raw is None:
            return error_response(413, "SIZE_INVALID", f"an envelope has at most {MOST_ENVELOPE_BYTES} bytes")
        try:
            events = [msgspec.json.decode(each) for each in envelope_events(raw)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return error_response(400, "MANIFEST_INVALID", "this is no envelope of notifications")
        try:
            self._keep(b"".join(msgspec.json.encode(each) + b"\n" for each in events))
        except LocalError:
            return error_response(507, "INSUFFICIENT_STORAGE", "the notification cannot be kept here")
        self.taken += len(events)
        return Response(200)

    def _keep(self, lines: bytes) -> None:
        with self._lock:
            self._lines.add(lines)


def received_lines(folder: Documents) -> Lines:
    """What a :class:`Receiver` keeps in a folder of the state."""
    return lines_of(folder, "notifications")


__all__ = ["Notifications", "Receiver", "envelope_events", "event_of_notification", "received_lines"]
